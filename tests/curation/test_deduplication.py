import random
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from s1ray.curation.deduplication import (
    bands,
    cross_source,
    gram_hashes,
    near_duplicates,
    near_equal,
    same_key,
    text_key,
)
from s1ray.curation.text import normal_form, word_ngrams

SENTENCE = "A train leaves the old station at noon and travels 40 miles in 2 hours before it stops to take on water"


def near(questions: Sequence[str], orders: Sequence[int] | None = None, jaccard: float = 0.8) -> dict[int, int]:
    positions = np.array(range(len(questions)) if orders is None else orders)
    return near_duplicates(positions, questions, np.stack([bands(question) for question in questions]), jaccard)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 999))
def test_the_first_row_of_a_key_stays_whatever_the_order(keys: list[int], seed: int) -> None:
    orders = list(range(len(keys)))
    shuffled = orders.copy()
    random.Random(seed).shuffle(shuffled)
    expected = {i: keys.index(key) for i, key in enumerate(keys) if keys.index(key) != i}
    assert same_key(np.array(shuffled), np.array([keys[i] for i in shuffled], dtype=np.int64)) == expected


def test_no_rows_have_no_duplicates() -> None:
    assert same_key(np.array([], dtype=np.int64), np.array([], dtype=np.int64)) == {}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.integers(0, 999))
def test_near_duplicates_are_found_whatever_the_order(variants: list[int], seed: int) -> None:
    texts = [SENTENCE, f"Please: {SENTENCE}", SENTENCE.replace("40", "50"), SENTENCE.replace("train", "ship")]
    questions = [texts[variant] for variant in variants]
    expected = near(questions)
    shuffled = list(range(len(questions)))
    random.Random(seed).shuffle(shuffled)
    assert near([questions[i] for i in shuffled], shuffled) == expected


def test_another_number_or_word_makes_another_question() -> None:
    for changed in (
        SENTENCE.replace("40", "50"),
        SENTENCE.replace("train", "ship"),
        SENTENCE + " or 3",
        f"{SENTENCE} + x",
    ):
        assert near([SENTENCE, changed]) == {}
        assert not near_equal(SENTENCE, changed, 0.1)


def test_a_few_words_more_make_no_other_question() -> None:
    assert near([SENTENCE, f"Please: {SENTENCE}", "Something else altogether with 40 and 2"]) == {1: 0}


def test_groups_keep_their_first_row() -> None:
    chain = [SENTENCE, f"Now {SENTENCE}", f"Right Now {SENTENCE}"]
    assert near(chain, jaccard=0.85) == {1: 0, 2: 0}


def test_normal_forms() -> None:
    same = ["What is  3+4 ?", "what is 3 + 4", "WHAT IS $3 + 4$.", "What is \\[3+4\\]"]
    assert len({text_key(text, normalised=True) for text in same}) == 1
    assert len({text_key(text, normalised=False) for text in same}) == 4
    for one, other in (("5,3", "53"), ("1 23", "12 3"), ("x - 1", "x + 1"), ("x_1", "x1y"), ("2.5", "25")):
        assert normal_form(one) != normal_form(other)


def test_later_sources_lose_what_earlier_ones_have() -> None:
    # Within a source nothing is dropped; a dropped row's own n-grams do not count against the sources after it.
    shared = "one two three four five six seven eight"
    texts = [shared, f"{shared} nine", f"ten {shared} b c d e f g h", "b c d e f g h i j", "a b"]
    grams = [gram_hashes(word_ngrams(text, 8)) for text in texts]
    assert cross_source(np.arange(5), [0, 0, 1, 2, 2], grams) == {2}
