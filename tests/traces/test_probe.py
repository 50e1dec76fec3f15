"""What a probe says of the answers that it got; how it asks is tested end to end."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from s1ray.config import validate_config
from s1ray.generation.base import Usage
from s1ray.teachers.ledger import Answer
from s1ray.traces.config import TracesConfig
from s1ray.traces.probe import describe

ROW = {"id": "q", "answer": "4", "metadata": "{}"}


def config(**teacher: JsonValue) -> TracesConfig:
    api: dict[str, JsonValue] = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    data: dict[str, JsonValue] = {"output": "unused", "questions": "unused.parquet", "tokenizer": "miniature-base"}
    return validate_config(TracesConfig, data | {"teacher": api | teacher}, "test")


def answer(attempt: str, finish_reason: str, usage: Usage | None, seconds: float | None) -> Answer:
    return Answer("two and two", attempt, finish_reason, None, None, usage, seconds)


@pytest.mark.parametrize("counted", [True, False], ids=["the provider counts", "nobody counts"])
def test_lengths_times_and_shares_are_told(counted: bool) -> None:
    usages = [Usage(10, 0, 100), Usage(30, 0, 300)] if counted else [None, None]
    answers = [answer("Final Answer: 4", "stop", usages[0], 2.0), answer("Final Answer: 5", "length", usages[1], 4.0)]
    lines = describe([ROW, ROW], answers, config())
    if counted:
        assert (
            lines[0] == "tokens a trace, as the provider counts: prompt 20.0 (10.0 to 30.0), generated 200 (100 to 300)"
        )
    else:
        assert lines[0].startswith("tokens a trace, as the student counts: generated ")
    assert lines[1:] == [
        "seconds a request: 3.00 (2.00 to 4.00)",
        "cut by the token limit: 1 of 2 (9% to 91% of all)",
        "correct: 1 of 2 (9% to 91% of all)",
    ]


def test_what_cannot_be_graded_or_timed_is_not_told_as_a_number() -> None:
    lines = describe([{"answer": None, "metadata": "{}"}], [answer("4", "stop", Usage(1, 0, 1), None)], config())
    assert len(lines) == 3
    assert lines[2] == "correct: none can be graded"
