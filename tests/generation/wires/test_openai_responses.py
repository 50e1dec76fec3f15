"""OpenAI's Responses API: what is written, what is refused before it is sent, and what comes back."""

from __future__ import annotations

from typing import Any

import pytest

from s1ray.errors import InputError
from s1ray.generation import GenerationRequest
from s1ray.generation.answers import UnusableError
from s1ray.generation.wires import OpenAIResponses
from s1ray.schemas import Completion
from s1ray.thinking import ThinkingBudget, ThinkingFormat

WIRE = OpenAIResponses()
MESSAGES = [{"role": "user", "content": "2 + 2?"}]


def request(**changes: Any) -> GenerationRequest:
    asked = {"id": "q-0", "messages": MESSAGES, "temperature": None, "top_p": None, "max_tokens": 32_000}
    return GenerationRequest(**asked | changes)


def summary(*texts: str) -> dict[str, Any]:
    parts = [{"type": "summary_text", "text": text} for text in texts]
    return {"id": "rs_6876cf02e0bc8192b74af0fb64b715ff", "type": "reasoning", "summary": parts, "status": None}


def reasoning(text: str) -> dict[str, Any]:
    return summary("in short") | {"content": [{"type": "reasoning_text", "text": text}]}


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": list(parts)}


def text(value: str) -> dict[str, Any]:
    return {"type": "output_text", "text": value, "annotations": [], "logprobs": []}


def answer(*output: Any, **fields: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1752576753,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "gpt-5-2025-08-07",
        "output": list(output) or [summary("two"), message(text("4"))],
        "store": False,
        "usage": {
            "input_tokens": 81,
            "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 8},
            "output_tokens": 1035,
            "output_tokens_details": {"reasoning_tokens": 832},
            "total_tokens": 1116,
        },
    } | fields


def read(*output: Any, **fields: Any) -> Completion:
    return WIRE.completion(request(), answer(*output, **fields), None)


def test_only_what_is_said_is_written_and_nothing_is_stored() -> None:
    plain = {"model": "gpt", "input": MESSAGES, "max_output_tokens": 32_000, "store": False}
    assert WIRE.body(request(), "gpt", {}) == WIRE.body(request(temperature=1.0, top_p=1.0), "gpt", {}) == plain
    asked = OpenAIResponses(summary="detailed").body(
        request(max_tokens=None, temperature=0.6, top_p=0.9, reasoning_effort="low"), "gpt", {"store": True}
    )
    assert asked == {
        "model": "gpt",
        "input": MESSAGES,
        "reasoning": {"effort": "low", "summary": "detailed"},
        "temperature": 0.6,
        "top_p": 0.9,
        "store": True,
    }
    assert (WIRE.path(request()), WIRE.headers("k"), WIRE.headers(None)) == (
        "/responses",
        {"Authorization": "Bearer k"},
        {},
    )


def test_an_effort_may_stand_in_the_budget_and_further_fields_are_merged() -> None:
    asked = request(budget=ThinkingBudget(effort="high"))
    assert WIRE.body(asked, "gpt", {"reasoning": {"mode": "pro"}})["reasoning"] == {"effort": "high", "mode": "pro"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"messages": None, "prompt_ids": [1]}, "prompt_ids: the Responses API takes messages only"),
        ({"seed": 3}, "seed: the Responses API has no such parameter"),
        ({"top_k": 3}, "top_k: the Responses API has no such parameter"),
        ({"max_tokens": 15}, "max_tokens: .* at least 16, got 15"),
        ({"budget": ThinkingBudget(max_tokens=2048)}, "thinking.max_tokens: the Responses API has no such parameter"),
        ({"budget": ThinkingBudget(ban="Wait")}, "thinking.ban: "),
        ({"budget": ThinkingBudget(effort="low"), "reasoning_effort": "high"}, "reasoning_effort: "),
    ],
)
def test_what_the_api_has_no_words_for_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        WIRE.body(request(**changes), "gpt", {})


def test_an_answer_is_read_with_everything_that_was_counted() -> None:
    assert read(summary("two and", "two"), message(text("4"))) == Completion(
        id="q-0",
        thinking="two and\n\ntwo",
        answer="4",
        prompt_tokens=81,
        thinking_tokens=832,
        answer_tokens=203,
        cached_tokens=64,
        completion_tokens=1035,
        model_version="gpt-5-2025-08-07",
        raw_finish_reason="completed",
    )
    usage = WIRE.usage(answer())
    assert usage is not None
    assert (usage.reasoning_tokens, usage.cache_write_tokens) == (832, 8)


@pytest.mark.parametrize(
    ("output", "thinking", "answered"),
    [
        ([reasoning("all of it"), message(text("4"))], "all of it", "4"),
        ([summary(), message(text("4"))], "", "4"),
        ([summary("a"), message(text("b")), summary("c"), message(text("d"), text("e"))], "a\n\nc", "b\n\nde"),
        ([{"type": "web_search_call", "id": "ws"}, {"type": "to_come", "text": 5}, message(text("4"))], "", "4"),
        ([{"type": "reasoning"}, {"type": "message"}, {}], "", ""),
        ([{"type": "reasoning", "summary": None, "encrypted_content": "gAAA"}, message(text("4"))], "", "4"),
    ],
    ids=["the reasoning itself", "no summary", "several", "unknown items", "empty items", "encrypted"],
)
def test_items_of_any_order_are_read(output: list[Any], thinking: str, answered: str) -> None:
    row = read(*output)
    assert (row.thinking, row.answer, row.finish_reason) == (thinking, answered, "stop")


@pytest.mark.parametrize(
    ("fields", "expected", "raw"),
    [
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            "length",
            "max_output_tokens",
        ),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            "content_filter",
            "content_filter",
        ),
        ({"status": "incomplete", "incomplete_details": None}, "incomplete", "incomplete"),
        ({"status": None}, "unknown", None),
        ({"status": ""}, "unknown", None),
        ({"status": 5}, "unknown", None),
    ],
)
def test_every_ending_has_a_word_of_ours(fields: dict[str, Any], expected: str, raw: str | None) -> None:
    row = read(**fields)
    assert (row.finish_reason, row.raw_finish_reason, row.answer_cut) == (expected, raw, expected == "length")


def test_a_response_cut_before_its_first_item_is_cut() -> None:
    cut = answer(status="incomplete", incomplete_details={"reason": "max_output_tokens"}) | {"output": []}
    assert WIRE.completion(request(), cut, None).finish_reason == "length"


def test_a_refusal_is_told_as_such() -> None:
    row = read(message({"type": "refusal", "refusal": "I cannot"}))
    assert (row.answer, row.finish_reason, row.raw_finish_reason) == ("I cannot", "refusal", "completed")


def test_a_text_is_split_by_a_format_where_no_reasoning_stands_apart() -> None:
    fmt = ThinkingFormat.preset("deepseek_r1")
    row = WIRE.completion(request(), answer(message(text("<think>\ndeep\n</think>\n\n4"))), fmt)
    assert (row.thinking, row.answer) == ("deep", "4")


def failed(code: str) -> dict[str, Any]:
    return answer(status="failed", error={"code": code, "message": "told"})


@pytest.mark.parametrize(
    ("spoilt", "why", "transient"),
    [
        (failed("server_error"), "an error in the answer: told", True),
        (failed("rate_limit_exceeded"), "told", True),
        (failed("invalid_prompt"), "told", False),
        (failed("bio_policy"), "told", False),
        (answer(status="failed"), "status is 'failed'", True),
        (answer(status="cancelled"), "status is 'cancelled'", True),
        (answer(status="in_progress"), "status is 'in_progress'", True),
        ({"choices": []}, "output is missing or no list", True),
        (answer() | {"output": [4]}, r"output\[0\] is a number, not an object", True),
        (answer(message(text("half \ud83d"))), "half of a surrogate pair", True),
        (answer({"type": "message", "content": "4"}), r"output\[0\].content is no list", True),
        (answer({"type": "reasoning", "summary": [{"text": 4}]}), "summary.text is a number", True),
    ],
)
def test_a_spoilt_answer_says_where(spoilt: dict[str, Any], why: str, transient: bool) -> None:
    with pytest.raises(UnusableError, match=why) as raised:
        WIRE.completion(request(), spoilt, None)
    assert raised.value.transient == transient
