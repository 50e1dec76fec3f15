"""What holds of every wire format: any answer is a completion that can be stored, or one request's error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1ray.generation import GenerationRequest
from s1ray.generation.answers import UnusableError
from s1ray.generation.wires import AnthropicMessages, ChatCompletions, OpenAIResponses, Wire
from s1ray.thinking import ThinkingFormat

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


@pytest.mark.parametrize("wire", [ChatCompletions(), AnthropicMessages(), OpenAIResponses()])
def test_a_request_can_be_written_as_json_and_is_not_changed(wire: Wire) -> None:
    body = wire.body(REQUEST, "m", {"metadata": {"user": "u"}})
    assert json.loads(json.dumps(body)) == body
    assert body["metadata"] == {"user": "u"}
    for message in body.get("messages") or body["input"]:
        message["role"] = "assistant"
    assert REQUEST.messages == [{"role": "user", "content": "2 + 2?"}]
