import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from s1ray.curation.deduplication import cross_source, equal_rows, gram_hashes
from s1ray.curation.text import answer_keys, text_keys, word_ngrams


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 999))
def test_the_first_row_of_a_key_stays_whatever_the_order(keys: list[int], seed: int) -> None:
    orders = list(range(len(keys)))
    shuffled = orders.copy()
    random.Random(seed).shuffle(shuffled)
    expected = {i: keys.index(key) for i, key in enumerate(keys) if keys.index(key) != i}
    equal = equal_rows(np.array(shuffled), np.array([keys[i] for i in shuffled], dtype=np.int64))
    assert equal.kept == expected
    assert equal.conflicts == []


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=14), st.integers(0, 999))
def test_rows_with_other_answers_stay_and_are_listed(rows: list[tuple[int, int]], seed: int) -> None:
    kept, conflicts = {}, []
    for key in {key for key, _ in rows}:
        group = [(order, answer) for order, (each, answer) in enumerate(rows) if each == key]
        known = next((answer for _, answer in group if answer), 0)
        first: dict[int, int] = {}
        for order, answer in group:
            kept_row = first.setdefault(answer or known, order)
            if kept_row != order:
                kept[order] = kept_row
        conflicts += [(group[0][0], order) for order in first.values() if order != group[0][0]]
    shuffled = list(range(len(rows)))
    random.Random(seed).shuffle(shuffled)
    keys = np.array([rows[i][0] for i in shuffled], dtype=np.int64)
    equal = equal_rows(np.array(shuffled), keys, np.array([rows[i][1] for i in shuffled], dtype=np.uint64))
    assert equal.kept == kept
    assert equal.conflicts == sorted(conflicts)


def test_no_rows_have_no_duplicates() -> None:
    equal = equal_rows(np.array([], dtype=np.int64), np.array([], dtype=np.int64))
    assert (equal.kept, equal.conflicts) == ({}, [])


def test_keys_of_texts_and_answers() -> None:
    exact, normal = text_keys(["What is $3+4$?", "what is 3 + 4", "What is 3-4?", ""])
    assert len(set(exact.tolist())) == 4
    assert normal[0] == normal[1] != normal[2]
    answers = answer_keys(["$\\frac{1}{2}$", "1/2", "1/3", None, ""])
    assert answers[0] == answers[1] != answers[2]
    assert answers[3:].tolist() == [0, 0]


def test_later_sources_lose_what_earlier_ones_have() -> None:
    # Within a source nothing is dropped; a dropped row's own n-grams do not count against the sources after it.
    shared = "one two three four five six seven eight"
    texts = [shared, f"{shared} nine", f"ten {shared} b c d e f g h", "b c d e f g h i j", "a b"]
    grams = [gram_hashes(word_ngrams(text, 8)) for text in texts]
    assert cross_source(np.arange(5), [0, 0, 1, 2, 2], grams) == {2}
