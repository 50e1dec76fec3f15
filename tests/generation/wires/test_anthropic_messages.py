"""Anthropic's Messages API: what is written, what is refused before it is sent, and what comes back."""

from __future__ import annotations

from typing import Any

import pytest

from s1ray.errors import InputError
from s1ray.generation import GenerationRequest
from s1ray.generation.answers import UnusableError
from s1ray.generation.wires import AnthropicMessages
from s1ray.schemas import Completion
from s1ray.thinking import ThinkingBudget, ThinkingFormat

WIRE = AnthropicMessages()
MESSAGES = [{"role": "user", "content": "2 + 2?"}]


def request(**changes: Any) -> GenerationRequest:
    asked = {"id": "q-0", "messages": MESSAGES, "temperature": None, "top_p": None, "max_tokens": 32_000}
    return GenerationRequest(**asked | changes)


def body(**changes: Any) -> dict[str, Any]:
    return WIRE.body(request(**changes), "claude", {})


def answer(*content: Any, **fields: Any) -> dict[str, Any]:
    return {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": list(content) or [{"type": "text", "text": "4"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 300,
            "cache_read_input_tokens": 2000,
            "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 503,
            "service_tier": "standard",
        },
    } | fields


def thought(text: str) -> dict[str, str]:
    return {"type": "thinking", "thinking": text, "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value, "citations": None}


def read(*content: Any, **fields: Any) -> Completion:
    return WIRE.completion(request(), answer(*content, **fields), None)


def test_the_key_goes_into_a_header_of_its_own_beside_the_version() -> None:
    assert WIRE.path(request()) == "/messages"
    assert WIRE.headers("sk-1") == {"anthropic-version": "2023-06-01", "x-api-key": "sk-1"}
    assert WIRE.headers(None) == {"anthropic-version": "2023-06-01"}


def test_only_what_is_said_is_written_and_defaults_of_the_api_are_left_out() -> None:
    plain = {"model": "claude", "max_tokens": 32_000, "messages": MESSAGES}
    assert body() == body(temperature=1.0, top_p=1.0) == plain
    assert body(temperature=0.0) == plain | {"temperature": 0.0}
    assert body(top_p=0.9, top_k=5) == plain | {"top_p": 0.9, "top_k": 5}
    assert body(reasoning_effort="high") == plain | {"output_config": {"effort": "high"}}


def test_system_messages_stand_apart() -> None:
    system = [{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "In English."}]
    written = body(messages=[*system, *MESSAGES])
    assert (written["system"], written["messages"]) == ("Be brief.\n\nIn English.", MESSAGES)


@pytest.mark.parametrize(
    ("budget", "thinking"),
    [
        (ThinkingBudget(max_tokens=1024), {"type": "enabled", "budget_tokens": 1024}),
        (ThinkingBudget(max_tokens=31_999), {"type": "enabled", "budget_tokens": 31_999}),
        (ThinkingBudget(max_tokens=0), {"type": "disabled"}),
        (ThinkingBudget(max_tokens="auto"), {"type": "adaptive", "display": "summarized"}),
        (ThinkingBudget(effort="high"), {"type": "adaptive", "display": "summarized"}),
        (ThinkingBudget(), None),
    ],
)
def test_a_budget_is_said_in_the_apis_words(budget: ThinkingBudget, thinking: dict[str, Any] | None) -> None:
    assert body(budget=budget).get("thinking") == thinking


def test_further_fields_win_and_are_merged_into_objects() -> None:
    extra = {"thinking": {"display": "omitted"}, "service_tier": "auto"}
    written = WIRE.body(request(budget=ThinkingBudget(max_tokens=2048)), "claude", extra)
    assert written["thinking"] == {"type": "enabled", "budget_tokens": 2048, "display": "omitted"}
    assert written["service_tier"] == "auto"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"max_tokens": None}, "max_tokens: Anthropic's Messages API needs a number"),
        ({"messages": None, "prompt_ids": [1]}, "prompt_ids: "),
        ({"seed": 3}, "seed: .* has no such parameter"),
        ({"temperature": 1.2}, "temperature: .* takes 0 to 1, got 1.2"),
        ({"temperature": 0.6, "top_p": 0.95}, "temperature, top_p: .* takes one of them"),
        ({"budget": ThinkingBudget(max_tokens=1023)}, r"thinking.max_tokens: .* at least 1,024.* got 1,023"),
        ({"budget": ThinkingBudget(max_tokens=2000), "max_tokens": 2000}, "2,000 is not less than 2,000"),
        ({"budget": ThinkingBudget(max_tokens=2000), "temperature": 0.6}, "temperature: must be 1"),
        ({"budget": ThinkingBudget(max_tokens="auto"), "temperature": 0.0}, "temperature: must be 1"),
        ({"budget": ThinkingBudget(max_tokens=2000), "top_p": 0.9}, "top_p: must be at least 0.95"),
        ({"budget": ThinkingBudget(max_tokens=2000), "top_k": 5}, "top_k: must be left out"),
        ({"budget": ThinkingBudget(waits=2)}, "thinking.waits: .* has no such parameter"),
        ({"budget": ThinkingBudget(max_tokens=2000, min_tokens=9)}, "thinking.min_tokens: "),
        ({"budget": ThinkingBudget(effort="low"), "reasoning_effort": "high"}, "thinking.effort says the same"),
    ],
)
def test_what_the_api_would_refuse_is_refused_in_words(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        body(**changes)


def test_sampling_is_free_where_nothing_is_thought() -> None:
    assert body(budget=ThinkingBudget(max_tokens=0), temperature=0.6)["temperature"] == 0.6
    assert body(budget=ThinkingBudget(max_tokens=2000), top_p=0.95)["top_p"] == 0.95


def test_an_answer_is_read_with_everything_that_was_counted() -> None:
    usage = answer()["usage"] | {"output_tokens_details": {"thinking_tokens": 480}}
    row = WIRE.completion(request(), answer(thought("two and two"), text("4"), usage=usage), None)
    assert row == Completion(
        id="q-0",
        thinking="two and two",
        answer="4",
        prompt_tokens=2310,
        thinking_tokens=480,
        answer_tokens=23,
        cached_tokens=2000,
        completion_tokens=503,
        model_version="claude-sonnet-4-5-20250929",
        raw_finish_reason="end_turn",
    )
    counted = WIRE.usage(answer())
    assert counted is not None
    assert (counted.prompt_tokens, counted.cached_tokens, counted.cache_write_tokens) == (2310, 2000, 300)
    assert (counted.completion_tokens, counted.reasoning_tokens) == (503, None)


@pytest.mark.parametrize(
    ("content", "thinking", "answered"),
    [
        ([thought("a"), thought("b"), text("c")], "a\n\nb", "c"),
        ([thought("a"), text("b"), thought("c"), text("d")], "a\n\nc", "b\n\nd"),
        ([text("a "), text("b")], "", "a b"),
        ([thought(""), text("4")], "", "4"),
        ([{"type": "server_tool_use", "id": "x", "input": {}}, {"type": "to_come"}, text("4")], "", "4"),
        ([{"type": "text", "text": None}, {}], "", ""),
    ],
    ids=["several", "interleaved", "cut by citations", "omitted", "unknown blocks", "empty"],
)
def test_blocks_of_any_order_are_read(content: list[Any], thinking: str, answered: str) -> None:
    row = read(*content)
    assert (row.thinking, row.answer, row.finish_reason) == (thinking, answered, "stop")


def test_thinking_with_a_redacted_part_is_no_whole_response() -> None:
    row = read(thought("a"), {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"}, text("4"))
    assert (row.thinking, row.answer, row.finish_reason, row.raw_finish_reason) == ("a", "4", "redacted", "end_turn")


@pytest.mark.parametrize(
    ("stop_reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "refusal"),
        ("pause_turn", "pause_turn"),
        ("tool_use", "tool_calls"),
        ("a_new_one", "a_new_one"),
        (None, "unknown"),
        (["end_turn"], "unknown"),
    ],
)
def test_every_stop_reason_has_a_word_of_ours(stop_reason: Any, expected: str) -> None:
    row = read(stop_reason=stop_reason)
    assert row.finish_reason == expected
    assert row.answer_cut == (expected == "length")


def test_a_refusal_before_any_output_is_a_refusal() -> None:
    row = WIRE.completion(request(), answer(stop_reason="refusal") | {"content": []}, None)
    assert (row.finish_reason, row.answer) == ("refusal", "")


def test_a_text_is_split_by_a_format_where_no_thinking_stands_apart() -> None:
    fmt = ThinkingFormat.preset("deepseek_r1")
    row = WIRE.completion(request(), answer(text("<think>\ndeep\n</think>\n\n4")), fmt)
    assert (row.thinking, row.answer) == ("deep", "4")


def test_an_answer_without_a_count_is_taken() -> None:
    row = read(usage=None)
    assert (row.completion_tokens, row.prompt_tokens, WIRE.usage({})) == (None, 0, None)


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "an error.*Overloaded"),
        ({}, "not Anthropic's: content is missing"),
        (answer() | {"content": "4"}, "not Anthropic's"),
        (answer() | {"content": ["4"]}, r"content\[0\] is a text, not an object"),
        (answer(thought("half \ud83d")), r"content\[0\].thinking holds half of a surrogate pair"),
        (answer({"type": "text", "text": 4}), r"content\[0\].text is a number"),
        (answer(model="\udc00"), "model holds half"),
    ],
)
def test_a_spoilt_answer_says_where(spoilt: dict[str, Any], why: str) -> None:
    with pytest.raises(UnusableError, match=why):
        WIRE.completion(request(), spoilt, None)


def test_overload_passes_and_a_wrong_request_does_not() -> None:
    for kind, transient in (("overloaded_error", True), ("api_error", True), ("invalid_request_error", False)):
        with pytest.raises(UnusableError) as raised:
            WIRE.completion(request(), {"type": "error", "error": {"type": kind, "message": "m"}}, None)
        assert raised.value.transient == transient
