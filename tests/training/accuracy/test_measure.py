from __future__ import annotations

import pytest

from s1ray.errors import InputError
from s1ray.grading import Grade, Verdict
from s1ray.schemas import Completion, Question
from s1ray.training.accuracy.measure import graded
from s1ray.training.accuracy.snapshots import Accuracy
from s1ray.training.accuracy.watch import describe
from tests.support.training_runs import training_config


def spoken(gold: str, text: str, *, kind: str | None = None) -> Grade:
    """The answer is its own verdict."""
    if text == "refuse":
        raise InputError("a reference that it cannot use")
    verdicts: dict[str, Verdict] = {"right": "correct", "wrong": "incorrect", "open": "undecided"}
    verdict = verdicts.get(text, "unparsable")
    return Grade(verdict, None if verdict == "unparsable" else text, "spoken")


def accuracy_of(*answers: str) -> Accuracy:
    config = training_config(accuracy={"benchmark": "b", "grader": f"{__name__}:spoken"})
    questions = [Question(id=str(number), question="?", answer="1") for number in range(len(answers))]
    completions = [
        Completion(id=q.id, thinking="", answer=answer, prompt_tokens=1, thinking_tokens=2, answer_tokens=1)
        for q, answer in zip(questions, answers, strict=True)
    ]
    return graded(config, 10, questions, completions, 1.0)


def test_undecided_answers_count_neither_way() -> None:
    found = accuracy_of("right", "wrong", "open", "open", "", "right")
    assert (found["questions"], found["correct"], found["undecided"], found["without_answer"]) == (6, 2, 2, 1)
    assert found["accuracy"] == pytest.approx(0.5)
    assert found["low"] < 0.5 < found["high"]
    assert describe(found).startswith("50.0 % of 4 questions are right")
    assert "1 without an answer" in describe(found)
    assert "2 more undecided" in describe(found)


def test_what_the_grader_refuses_is_undecided() -> None:
    found = accuracy_of("right", "refuse", "wrong")
    assert (found["correct"], found["undecided"], found["accuracy"]) == (1, 1, 0.5)


def test_a_step_of_which_nothing_is_decided_is_not_measured() -> None:
    assert accuracy_of("open", "open")["error"] == "the grader could decide on none of the 2 answers"
