"""Chat completions: what differs between the many servers that speak them."""

from __future__ import annotations

from typing import Any

import pytest

from s1ray.generation import GenerationRequest
from s1ray.generation.answers import UnusableError
from s1ray.generation.base import Usage
from s1ray.generation.wires import ChatCompletions
from s1ray.thinking import ThinkingBudget

WIRE = ChatCompletions()


def request(**changes: Any) -> GenerationRequest:
    return GenerationRequest(**{"id": "q-0", "messages": [{"role": "user", "content": "2 + 2?"}]} | changes)


def answer(usage: Any = None, **choice: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "4", "reasoning_content": "two and two"}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"} | choice], "usage": usage}


def test_what_is_not_said_is_not_written() -> None:
    written = WIRE.body(request(temperature=None, top_p=None), "m", {"a": 1})
    assert written == {"model": "m", "messages": [{"role": "user", "content": "2 + 2?"}], "a": 1}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 12, "total_tokens": 19}, Usage(7, 0, 12)),
        (
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "prompt_tokens_details": {"cached_tokens": 6},
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            Usage(32, 6, 103, 94),
        ),
        ({"prompt_tokens": 7, "prompt_cache_hit_tokens": 5, "completion_tokens": 1}, Usage(7, 5, 1)),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 7}},
            Usage(9, 5, 0, None, 4),
        ),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 50}}, Usage(9, 9, 0)),
        ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 3}, Usage(9, 0, 4)),
        ({"prompt_tokens": None, "completion_tokens": None, "prompt_tokens_details": None}, Usage()),
    ],
    ids=["plain", "reasoning in the total only", "DeepSeek", "cache writes", "more cached than sent", "wrong", "nulls"],
)
def test_every_providers_count_means_the_same(usage: dict[str, Any], expected: Usage) -> None:
    assert WIRE.usage(answer(usage)) == expected
    assert WIRE.usage(answer()) is None
    assert WIRE.usage(answer({})) is None


def test_a_server_that_does_not_control_thinking_is_told_apart_from_one_that_obeys_a_budget() -> None:
    asked = request(budget=ThinkingBudget(max_tokens=9))
    assert WIRE.completion(asked, answer(thinking={"thinking_tokens": 9}), None).thinking_tokens == 9
    with pytest.raises(UnusableError, match="says nothing about the budget") as raised:
        WIRE.completion(asked, answer(), None)
    assert not raised.value.transient
    assert WIRE.completion(request(budget=ThinkingBudget()), answer(), None).answer == "4"
