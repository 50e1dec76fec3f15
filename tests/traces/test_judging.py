"""What the judge is asked, and how its words are read."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.grading import Grade, grade
from s1ray.teachers.ledger import Answer, Ledger, Writer
from s1ray.traces.judging import (
    COMPARED,
    STATED,
    Judgements,
    compared_prompt,
    judge_asks,
    said_same,
    settle,
    stated_answer,
    stated_prompt,
)


def said(text: str, finish_reason: str = "stop") -> Answer:
    return Answer("thoughts: Final Answer: 1, Yes", text, finish_reason, None, None, None)


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("Final Answer: 42", "42"),
        ("The attempt says so.\n\n**Final Answer:** 42", "42"),
        ("**Final answer: 42**", "42"),
        ('Final Answer: "42"', "42"),
        ("Final Answer: 1\nNo, rather\nFinal Answer: 2", "2"),
        (r"Final Answer: \boxed{3}", r"\boxed{3}"),
        ("Final Answer: none", "none"),
        ("Final Answer: 42\n\nThat is all.", "42"),
        ("**Final Answer:**\n\n42", "42"),
        ("Final Answer: NOT STATED", None),
        ("final answer: **not stated.**", None),
        ("Final Answer: NOT STATED\n(it breaks off)", None),
        ("Final Answer:", None),
        ("It is 42", None),
        ("The final answer is unclear", None),
        ("", None),
    ],
)
def test_the_stated_answer_stands_after_its_label(text: str, stated: str | None) -> None:
    assert stated_answer(said(text)) == stated
    assert stated_answer(said(text, "length")) is None


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Yes", True),
        ("They differ in sign.\n\n**No.**\n", False),
        ("No\nyes", True),
        ("Yes and no", None),
        ("Yes, they are the same", None),
        ("I cannot say", None),
        ("", None),
    ],
)
def test_only_a_clear_yes_or_no_counts(text: str, same: bool | None) -> None:
    assert said_same(said(text)) is same
    assert said_same(said(text, "length")) is None


@given(st.text(st.sampled_from('final answer:*\n"YESno. NT4'), max_size=60) | st.text())
def test_any_words_of_a_judge_can_be_read(text: str) -> None:
    stated = stated_answer(said(text))
    assert stated is None or (stated.strip() and "\n" not in stated and stated in text)
    assert said_same(said(text)) in (True, False, None)


def test_long_words_of_a_judge_are_read_in_no_time() -> None:
    began = time.process_time()
    for tail in ("\n" * 200_000, "*" * 200_000, " :" * 100_000):
        assert stated_answer(said("The final answer" + tail)) is None
        stated_answer(said(tail + "Final Answer:" + tail))
    assert time.process_time() - began < 2


RULES = Grade("unparsable", None, "no answer")


def settled(gold: str, judgements: Judgements, rules: Grade = RULES) -> tuple[Grade, int | None]:
    return settle(rules, judgements, lambda text: grade(gold, text), "m")


def test_the_rules_decide_on_the_answer_that_the_judge_reads() -> None:
    assert settled("0.5", Judgements()) == (RULES, STATED)
    right, step = settled("0.5", Judgements(said("Final Answer: 1/2")))
    assert (right.verdict, right.extracted, right.graded_by, step) == ("correct", "1/2", "judge:m, numeric", None)
    wrong, step = settled("0.5", Judgements(said("Final Answer: 2")))
    assert (wrong.verdict, step) == ("incorrect", None)


@pytest.mark.parametrize("text", ["Final Answer: NOT STATED", "The attempt is right: Yes", ""])
def test_a_judge_that_finds_no_answer_changes_nothing(text: str) -> None:
    assert settled("0.5", Judgements(said(text))) == (RULES, None)


def test_the_judge_compares_only_what_the_rules_cannot() -> None:
    rules = Grade("undecided", "x", "symbolic")

    def undecided(text: str) -> Grade:
        return rules

    stated = said("Final Answer: f(x)")
    assert settle(rules, Judgements(stated), undecided, "m") == (rules, COMPARED)
    for text, verdict in (("Yes", "correct"), ("No", "incorrect"), ("Perhaps", "undecided")):
        found, step = settle(rules, Judgements(stated, said(text)), undecided, "m")
        assert (found.verdict, step) == (verdict, None)
        assert found.graded_by == ("symbolic" if verdict == "undecided" else "judge:m, compared")


def test_the_first_question_has_no_reference_and_the_second_does_not_tell_it(tmp_path: Path) -> None:
    fields: dict[str, object] = {"call": None, "thinking": "", "finish_reason": "stop", "raw_finish_reason": None}
    fields |= {"usage": None, "model_version": None}
    with contextlib.closing(Writer(tmp_path / "r")) as writer:
        writer.add("answered", "q-0", attempt="{question} It is the {answer}.", **fields)
    with contextlib.closing(Writer(tmp_path / "j")) as writer:
        writer.add("answered", "q-0-1", attempt="Final Answer: STATED", **fields)
    responses, judgements = Ledger(tmp_path / "r"), Ledger(tmp_path / "j")
    for ledger in (responses, judgements):
        ledger.read()
    row: dict[str, object] = {
        "id": "q-0",
        "question": "Which {attempt}?",
        "answer": "REFERENCE",
        "samples": [STATED, COMPARED],
    }
    row |= {"attempt": responses.answers["q-0"]._asdict(), "stated": judgements.answers["q-0-1"]._asdict()}
    first, second = judge_asks(pa.Table.from_pylist([row]), tmp_path / "r", tmp_path / "j")
    assert (first.id, second.id) == ("q-0-1", "q-0-2")
    assert first.question.question == stated_prompt("Which {attempt}?", "{question} It is the {answer}.")
    assert "REFERENCE" not in first.question.question
    assert second.question.question == compared_prompt("q-0", "Which {attempt}?", "REFERENCE", "STATED")
    assert "It is the" not in second.question.question


def test_the_reference_comes_first_for_half_of_the_traces() -> None:
    prompts = [compared_prompt(f"{n}-0", "q?", "REFERENCE", "STATED") for n in range(200)]
    first = sum(prompt.index("REFERENCE") < prompt.index("STATED") for prompt in prompts)
    assert 70 < first < 130
