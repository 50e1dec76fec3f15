from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from s1ray.serving.http.equal_answers import equal_answers, repeat, repeated


@pytest.mark.parametrize(
    ("fields", "copies"),
    [
        ({"n": 3, "temperature": 0}, 3),
        ({"n": 3, "temperature": 1e-6}, 3),
        ({"n": 3, "temperature": 0.01}, 1),
        ({"n": 3, "temperature": None}, 1),
        ({"n": 3}, 1),
        ({"temperature": 0}, 1),
        ({"n": None, "temperature": 0}, 1),
        ({"n": 0, "temperature": 0}, 1),
        ({"n": 3, "temperature": 0, "use_beam_search": True}, 1),
    ],
)
def test_only_greedy_answers_are_equal(fields: dict[str, Any], copies: int) -> None:
    assert equal_answers(fields) == copies


class Choice(BaseModel):
    index: int
    text: str


def test_answers_to_several_prompts_are_repeated_in_the_order_of_the_prompts() -> None:
    whole = SimpleNamespace(choices=[Choice(index=0, text="a"), Choice(index=1, text="b")])
    repeat(whole, 2)
    assert [(choice.index, choice.text) for choice in whole.choices] == [(0, "a"), (1, "a"), (2, "b"), (3, "b")]
    events = [f"data: {json.dumps({'choices': [{'index': i, 'text': t}]})}\n\n" for i, t in ((1, "b"), (0, "ä"))]
    text = repeated("".join, 2)([*events, ": comment\n\n", "data: [DONE]\n\n"])
    *chunks, comment, done = text.split("\n\n")[:-1]
    found = [json.loads(chunk.removeprefix("data: "))["choices"][0] for chunk in chunks]
    assert [(choice["index"], choice["text"]) for choice in found] == [(2, "b"), (3, "b"), (0, "ä"), (1, "ä")]
    assert (comment, done) == (": comment", "data: [DONE]")


def test_errors_are_told_once() -> None:
    error = f"data: {json.dumps({'error': {'message': 'no'}})}\n\n"
    assert repeated("".join, 3)([error]) == error
