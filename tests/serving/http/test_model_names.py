from __future__ import annotations

import json

import pytest

from s1ray.serving.http.model_names import ModelNames, renamed

NAMES = ModelNames(
    {
        "s1": ["gpt-5", "claude-*", "claude-*-haiku"],
        "ponder": ["gpt-5-mini", "gpt-*", "claude-4-*", "a.b"],
        "gpt-4": [],
    }
)


@pytest.mark.parametrize(
    ("asked", "own"),
    [
        ("s1", "s1"),
        ("gpt-5", "s1"),
        ("gpt-5-mini", "ponder"),
        ("gpt-4", "gpt-4"),
        ("gpt-4o", "ponder"),
        ("claude-3-opus", "s1"),
        ("claude-4-opus", "ponder"),
        ("claude-4-haiku", "s1"),
        ("claude-", "s1"),
        ("my-claude-4", "my-claude-4"),
        ("axb", "axb"),
        ("gpt-5:mine", "s1:mine"),
        ("s1:gpt-5", "s1:gpt-5"),
        ("gpt-9:a:b", "ponder:a:b"),
        ("", ""),
    ],
)
def test_the_name_that_says_most_wins(asked: str, own: str) -> None:
    assert NAMES.own(asked) == own


def test_only_the_models_name_is_replaced_in_events() -> None:
    text = 'the "model":"s1" and "model": "s1"'
    events = [
        json.dumps({"id": "1", "model": 'a"s1', "choices": [{"delta": {"content": text}}]}, separators=separators)
        for separators in ((",", ":"), (", ", ": "))
    ]
    shown = renamed(lambda texts: "\n".join(texts), "gpt-5\\1")
    for line in shown(events).split("\n"):
        data = json.loads(line)
        assert data["model"] == "gpt-5\\1"
        assert data["choices"][0]["delta"]["content"] == text
    failed = 'data: {"error":{"message":"no \\"model\\":\\"s1\\""}}\n\n'
    assert shown([failed, "data: [DONE]\n\n"]) == f"{failed}\ndata: [DONE]\n\n"
