"""What holds of every wire format: any answer is a completion that can be stored, or one request's error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1ray.generation import GenerationRequest
from s1ray.generation.answers import UnusableError, decode
from s1ray.generation.base import Usage
from s1ray.generation.wires import AnthropicMessages, ChatCompletions, OpenAIResponses, Wire
from s1ray.thinking import ThinkingFormat
from tests.support.provider import CHAT, MESSAGE, RESPONSE

REQUEST = GenerationRequest(id="q-0", messages=[{"role": "user", "content": "2 + 2?"}], max_tokens=2048)
TYPES = ["thinking", "redacted_thinking", "text", "reasoning", "message", "output_text", "refusal", "summary_text"]
NAMES = [
    *("type", "text", "thinking", "content", "summary", "refusal", "message", "reasoning", "reasoning_content"),
    *("finish_reason", "token_ids", "thinking_tokens", "end_forced", "waits", "signature"),
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=4)
    | st.sampled_from(TYPES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
USAGE = st.dictionaries(
    st.sampled_from(
        ["prompt_tokens", "input_tokens", "output_tokens", "cache_read_input_tokens", "input_tokens_details"]
    ),
    JSON,
)


@pytest.mark.parametrize("wire", [ChatCompletions(), AnthropicMessages(), OpenAIResponses()])
@settings(deadline=None)
@given(items=JSON, usage=JSON | USAGE, reason=JSON, status=JSON, error=st.none() | JSON)
def test_any_answer_is_a_completion_or_one_requests_error(
    wire: Wire, items: Any, usage: Any, reason: Any, status: Any, error: Any
) -> None:
    answer = {
        **{"choices": items, "content": items, "output": items, "usage": usage, "error": error},
        **{"stop_reason": reason, "status": status, "incomplete_details": {"reason": reason}, "model": status},
    }
    for whole in (answer, answer | {"choices": [{"message": items, "finish_reason": reason, "thinking": status}]}):
        for fmt in (None, ThinkingFormat.preset("deepseek_r1")):
            try:
                row = wire.completion(REQUEST, whole, fmt)
            except UnusableError:
                continue
            told = [row.thinking, row.answer, row.finish_reason, row.raw_finish_reason, row.model_version]
            json.dumps(told, ensure_ascii=False).encode()
            assert row.finish_reason
            assert min(row.prompt_tokens, row.thinking_tokens, row.answer_tokens, row.cached_tokens) >= 0


ANSWERS = [
    (ChatCompletions(), CHAT, "completion_tokens", "prompt_tokens_details"),
    (AnthropicMessages(), MESSAGE, "output_tokens", "output_tokens_details"),
    (OpenAIResponses(), RESPONSE, "output_tokens", "output_tokens_details"),
]
"""A wire, an answer in its format, and names in its usage: of a count, and of an object with further ones."""


@pytest.mark.parametrize(("wire", "answer", "count", "details"), ANSWERS)
def test_an_answer_whose_count_cannot_be_read_is_an_answer_without_a_count(
    wire: Wire, answer: dict[str, Any], count: str, details: str
) -> None:
    odd: list[Any] = ["20", -5, 20.5, True, 10**30, float("inf"), [], {}]
    odd = [[1], "none", 5, *(answer["usage"] | {count: value} for value in odd)]
    odd += [answer["usage"] | {details: value} for value in ["none", [1], 7]]
    odd.append(answer["usage"] | {details: dict.fromkeys(("cached_tokens", "reasoning_tokens", "thinking_tokens"), -1)})
    for usage in odd:
        spoilt = answer | {"usage": usage}
        assert wire.usage(spoilt) is None, usage
        row = wire.completion(REQUEST, spoilt, None)
        assert (row.thinking, row.answer, row.completion_tokens) == ("two and two", "4", None), usage
    readable: list[Any] = [{count: 30.0}, {details: []}, {details: None}]
    for usage in readable:
        assert wire.usage(answer | {"usage": answer["usage"] | usage}) == Usage(prompt_tokens=9, completion_tokens=30)


def test_a_body_with_a_byte_order_mark_or_a_number_of_any_length_is_read() -> None:
    body = json.dumps(CHAT).replace(": 30,", ": " + "9" * 5000 + ",").encode()
    answer = decode(b"\xef\xbb\xbf" + body)
    assert answer["choices"] == CHAT["choices"]
    assert ChatCompletions().usage(answer) is None


@pytest.mark.parametrize("wire", [ChatCompletions(), AnthropicMessages(), OpenAIResponses()])
def test_a_request_can_be_written_as_json_and_is_not_changed(wire: Wire) -> None:
    body = wire.body(REQUEST, "m", {"metadata": {"user": "u"}})
    assert json.loads(json.dumps(body)) == body
    assert body["metadata"] == {"user": "u"}
    for message in body.get("messages") or body["input"]:
        message["role"] = "assistant"
    assert REQUEST.messages == [{"role": "user", "content": "2 + 2?"}]
