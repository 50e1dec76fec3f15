import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from s1ray.curation.deduplication import EqualRows, equal_rows
from s1ray.curation.text import TokenBlock, answer_keys, text_keys


def kept_rows(equal: EqualRows) -> dict[int, int]:
    return dict(zip(equal.copies.tolist(), equal.kept.tolist(), strict=True))


@given(st.lists(st.integers(0, 6), max_size=40), st.integers(1, 9))
def test_the_first_row_of_a_key_stays(keys: list[int], step: int) -> None:
    expected = {i * step: keys.index(key) * step for i, key in enumerate(keys) if keys.index(key) != i}
    found = np.array(keys, dtype=np.int64)
    equal = equal_rows(np.arange(len(keys)) * step, found)
    assert kept_rows(equal) == expected
    assert equal.copies.tolist() == sorted(equal.copies.tolist())
    assert equal.conflicts.tolist() == []


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=14))
def test_rows_with_other_answers_stay_and_are_listed(rows: list[tuple[int, int]]) -> None:
    kept: dict[int, int] = {}
    conflicts: list[tuple[int, int]] = []
    for key in {key for key, _ in rows}:
        group = [(order, answer) for order, (each, answer) in enumerate(rows) if each == key]
        known = next((answer for _, answer in group if answer), 0)
        same: dict[int, list[tuple[bool, int]]] = {answer or known: [] for _, answer in group}
        for order, answer in group:
            same[answer or known].append((answer == 0, order))
        heads = sorted(min(each)[1] for each in same.values())
        for each in same.values():
            kept |= {order: min(each)[1] for _, order in each if order != min(each)[1]}
        conflicts += [(heads[0], head) for head in heads[1:]]
    keys, answers = np.array([key for key, _ in rows], np.int64), np.array([answer for _, answer in rows], np.uint64)
    equal = equal_rows(np.arange(len(rows)), keys, answers)
    assert kept_rows(equal) == kept
    assert [tuple(pair) for pair in equal.conflicts.tolist()] == sorted(conflicts)


def test_a_copy_without_an_answer_costs_no_answer() -> None:
    equal = equal_rows(np.arange(4), np.zeros(4, np.int64), np.array([0, 7, 7, 8], np.uint64))
    assert kept_rows(equal) == {0: 1, 2: 1}
    assert equal.conflicts.tolist() == [[1, 3]]


def test_keys_of_texts_and_answers() -> None:
    texts = ["What is $3+4$?", "what is 3 + 4", "What is 3-4?", ""]
    exact, normal = text_keys(texts), text_keys(TokenBlock.of(texts).forms)
    assert len(set(exact.tolist())) == 4
    assert normal[0] == normal[1] != normal[2]
    answers = answer_keys(["$\\frac{1}{2}$", "1/2", "1/3", None, ""])
    assert answers[0] == answers[1] != answers[2]
    assert answers[3:].tolist() == [0, 0]
