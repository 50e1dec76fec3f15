"""The rules for the end and for the answer on the device: scripts with one outcome each, which the host shares."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.model_runner_v2 import feed, one
from tests.support.toy import ANSWER, COLON, COMMA, EOS, FINAL, NEWLINE, TURN, X, Y, toy_plan
from tests.support.toy_engine import WIDTH

TOOLS: dict[str, Any] = {"end_triggers": (EOS, TURN, COMMA), "tool_calls": (COMMA,)}
NONE = [TURN, ANSWER]
"""No thinking, and a bare end."""


@pytest.mark.parametrize(
    ("changes", "wanted", "written"),
    [
        # White space before the first word: four tokens of it at most; behind a word it is free.
        ({}, [TURN, 0, *[NEWLINE] * 5, X, *[NEWLINE] * 5], [*NONE, *[NEWLINE] * 4, Y, X, *[NEWLINE] * 5]),
        # No EOS before the first word, a tool call may be it.
        ({}, [TURN, 0, EOS, EOS], [*NONE, Y, EOS]),
        (TOOLS, [TURN, 0, COMMA, EOS], [*NONE, COMMA, EOS]),
        (TOOLS, [TURN, 0, EOS, COMMA], [*NONE, Y, COMMA]),
        # A banned text is no longer than the answer: neither delimiters nor thinking begin it.
        ({"answer_ban": ((ANSWER, X), (X, X))}, [TURN, 0, X, X, 13, X, X], [*NONE, X, Y, 13, X, Y]),
        ({"answer_ban": ((12, X, TURN), (14,))}, [TURN, 0, 12, X, TURN, 14], [*NONE, 12, X, Y, Y]),
        # The end's spelling stays out of the thinking, and of the answer where that is banned, too.
        ({"end_spellings": ((X, FINAL), (13,))}, [X, FINAL, 13, TURN, 0, X, FINAL], [X, Y, Y, *NONE, X, FINAL]),
        # The answer's maximum, the model's own EOS and what comes after it.
        ({"answer_max_tokens": 3}, [TURN, 0, X, X, X, X, X], [*NONE, X, X, X, EOS, EOS]),
        ({"answer_max_tokens": 3}, [TURN, 0, X, X, EOS, X], [*NONE, X, X, EOS, X]),
        ({"answer_max_tokens": 2}, [TURN, 0, NEWLINE, NEWLINE, X], [*NONE, NEWLINE, Y, EOS]),
        # The forced beginning counts, and does not begin a banned text.
        (
            {"answer_max_tokens": 5, "max_tokens": 1, "answer_ban": ((COLON, X), (X, 13))},
            [X, 0, 0, 0, 0, 0, 0, X, 13, X],
            [X, NEWLINE, *NONE, NEWLINE, FINAL, COLON, X, Y, EOS],
        ),
        ({"answer_max_tokens": 3, "max_tokens": 1}, [X, 0, 0, 0, X], [X, NEWLINE, *NONE, X]),
    ],
)
def test_what_is_written_is_what_the_rules_allow(
    changes: dict[str, Any], wanted: list[int], written: list[int]
) -> None:
    runner, made = one(toy_plan(**changes), max_tokens=40)
    for token in wanted:
        logits = torch.zeros(1, WIDTH)
        logits[0, [Y, token]] += torch.tensor([5.0, 9.0])
        edited = feed(runner, made, logits.clone())
        runner.check(made, logits[0], edited[0])
        chosen = int(edited[0].argmax())
        feed(runner, made, logits.clone(), chosen)
    assert made.output == written


@pytest.mark.parametrize(
    ("room", "written"),
    [
        (9, [X, X, NEWLINE, TURN, ANSWER, NEWLINE, FINAL, COLON, X]),
        (7, [NEWLINE, TURN, ANSWER, NEWLINE, FINAL, COLON, X]),
        (6, [X, X, NEWLINE, TURN, ANSWER, X]),
        (4, [NEWLINE, TURN, ANSWER, X]),
        (3, [TURN, ANSWER, X]),
    ],
)
def test_a_small_room_drops_the_answers_beginning_and_then_the_line_break(room: int, written: list[int]) -> None:
    runner, made = one(toy_plan(), max_tokens=room)
    for _ in range(room):
        logits = torch.zeros(1, WIDTH)
        logits[0, [Y, X]] += torch.tensor([5.0, 9.0])
        edited = feed(runner, made, logits.clone())
        runner.check(made, logits[0], edited[0])
        feed(runner, made, logits.clone(), int(edited[0].argmax()))
    assert made.output == written
