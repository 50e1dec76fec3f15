"""Near duplicates: found whatever the order, exactly as the rule says, and in linear time."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1ray.curation.near_duplicates import minhash_bands, near_duplicates, near_equal, shared_bands, shingles
from s1ray.curation.text import answer_keys, tokens

SENTENCE = "A train leaves the old station at noon and travels 40 miles in 2 hours before it stops to take on water"


def near(questions: Sequence[str], orders: Sequence[int] | None = None, jaccard: float = 0.8) -> dict[int, int]:
    positions = np.array(range(len(questions)) if orders is None else orders)
    return near_duplicates(positions, questions, minhash_bands(questions), jaccard).kept


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.integers(0, 999))
def test_near_duplicates_are_found_whatever_the_order(variants: list[int], seed: int) -> None:
    texts = [SENTENCE, f"Please: {SENTENCE}", SENTENCE.replace("40", "50"), SENTENCE.replace("train", "ship")]
    questions = [texts[variant] for variant in variants]
    expected = near(questions)
    shuffled = list(range(len(questions)))
    random.Random(seed).shuffle(shuffled)
    assert near([questions[i] for i in shuffled], shuffled) == expected


@pytest.mark.parametrize(
    "changed",
    [
        SENTENCE.replace("40", "50"),
        SENTENCE.replace("train", "ship"),
        SENTENCE + " or 3",
        f"{SENTENCE} + x",
        SENTENCE.replace("40 miles in 2 hours", "2 miles in 40 hours"),
        SENTENCE.replace("old station at noon", "noon station at old"),
    ],
)
def test_another_number_word_or_order_makes_another_question(changed: str) -> None:
    assert near([SENTENCE, changed]) == {}
    assert not near_equal(SENTENCE, changed, 0.1)


def test_a_few_words_more_make_no_other_question() -> None:
    more = [f"Please: {SENTENCE}", f"Here is a question. {SENTENCE}"]
    assert near([SENTENCE, *more, "Something else altogether with 40 and 2"]) == {1: 0, 2: 0}


def test_a_text_in_capitals_is_no_other_question() -> None:
    text = "Order the letters K L P U R C Q S of the word. Give number 7."
    assert near([text, text.upper()]) == {1: 0}


def test_near_equal_rows_with_different_answers_are_listed() -> None:
    questions = [SENTENCE, f"Please: {SENTENCE}", f"Now: {SENTENCE}"]
    answers = answer_keys(["20", "30", None])
    found = near_duplicates(np.arange(3), questions, minhash_bands(questions), 0.8, answers)
    assert found.conflicts == [(0, 1)]
    assert found.kept == {2: 0}
    # Nor do they come together through a row without an answer.
    chain = [SENTENCE, f"Now: {SENTENCE}", f"Right now: {SENTENCE}"]
    found = near_duplicates(np.arange(3), chain, minhash_bands(chain), 0.8, answer_keys(["20", None, "30"]))
    assert found.kept == {1: 0}
    assert (0, 2) in found.conflicts


def test_groups_keep_their_first_row() -> None:
    chain = [SENTENCE, f"Now: {SENTENCE}", f"Right now: {SENTENCE}"]
    assert near(chain, jaccard=0.85) == {1: 0, 2: 0}


WORDS = ["a", "boat", "car", "dog", "and", "the", "x", "3", "+", "tree", "house"]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_rule_is_exact(data: st.DataObject) -> None:
    base = data.draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12))
    other = list(base)
    for _ in range(data.draw(st.integers(0, 3))):
        other.insert(data.draw(st.integers(0, len(other))), data.draw(st.sampled_from(WORDS)))
    data.draw(st.randoms()).shuffle(other) if data.draw(st.booleans()) else None
    one, two = " ".join(base), " ".join(other)
    shorter, longer = sorted((tokens(one), tokens(two)), key=len)
    a, b = shingles(shorter), shingles(longer)
    places = [place for place in range(len(longer)) if is_word(longer, place)]
    expected = len(a & b) >= 0.3 * len(a | b) and _left_out(longer, places, len(longer) - len(shorter), shorter)
    assert near_equal(one, two, 0.3) == near_equal(two, one, 0.3) == expected


def test_the_words_put_in_may_repeat_the_first_ones() -> None:
    assert near_equal("car a a", "car a car a a", 0.3)
    assert not near_equal("car a a", "car a car car", 0.3)


def test_long_texts_of_one_word_are_compared_in_no_time() -> None:
    began = time.process_time()
    assert near_equal("car " * 20_000, "car " * 30_000, 0.3)
    assert time.process_time() - began < 5


def is_word(found: list[str], place: int) -> bool:
    def long(at: int) -> bool:
        return at < len(found) and len(found[at]) > 1 and found[at].isalpha()

    return long(place) or (found[place] == "a" and long(place + 1) and (place == 0 or long(place - 1)))


def _left_out(longer: list[str], places: list[int], count: int, shorter: list[str]) -> bool:
    from itertools import combinations

    return any(
        [token for place, token in enumerate(longer) if place not in left] == shorter
        for left in map(set, combinations(places, count))
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=14), min_size=1, max_size=20))
def test_near_equal_rows_are_found_among_all_pairs(rows: list[list[str]]) -> None:
    # Similar rows share a band for certain only where nothing but a prefix differs; here every pair is compared.
    questions = [" ".join(row) for row in rows] + [" ".join(["please", *row, "thank", "you"]) for row in rows]
    bands = np.zeros((len(questions), 1), dtype=np.int64)
    found = near_duplicates(np.arange(len(questions)), questions, bands, 0.6).kept
    groups = {row: found.get(row, row) for row in range(len(questions))}
    for i, one in enumerate(questions):
        for j in range(i):
            if len(tokens(one)) != len(tokens(questions[j])) and near_equal(one, questions[j], 0.6):
                assert groups[i] == groups[j]


def test_bands_are_those_of_each_row_alone_and_blind_to_case() -> None:
    questions = [SENTENCE, "", "x", "2 + 2", SENTENCE.upper()]
    together = minhash_bands(questions)
    alone = np.concatenate([minhash_bands([question]) for question in questions])
    assert (together == alone).all()
    assert (together[0] == together[4]).all()
    assert minhash_bands([]).shape == (0, 4)


def test_rows_are_in_one_group_through_others() -> None:
    bands = np.array([[1, 9], [2, 8], [1, 8], [5, 5], [7, 6]])
    assert shared_bands(bands).tolist() == [0, 0, 0, 3, 4]


def test_large_groups_are_compared_band_by_band(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [SENTENCE, f"Please: {SENTENCE}", SENTENCE.replace("train", "ship"), f"Look here. {SENTENCE}"]
    whole = near(questions)
    monkeypatch.setattr("s1ray.curation.near_duplicates.MAX_GROUP", 1)
    assert near(questions) == whole == {1: 0, 3: 0}


def test_ten_thousand_rows_of_one_template_take_seconds() -> None:
    nouns = [f"{a}{b}" for a in ("apple", "berry", "cherry", "lemon", "melon") for b in "abcdefghijklmnopqrst"]
    template = "Some {} and some {} are on the old table in the kitchen. Which of the two does the cook like best?"
    questions = [template.format(one, other) for one in nouns for other in nouns]
    questions[5000] = f"Please think. {questions[20]}"
    start = time.process_time()
    found = near_duplicates(np.arange(len(questions)), questions, minhash_bands(questions), 0.8)
    assert found.kept == {5000: 20}
    assert found.bounded == 0
    assert time.process_time() - start < 20
