"""Request bodies that no client writes: random ones on every route, odd values, and bytes that are no JSON object."""

from __future__ import annotations

import json
import random
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s1ray.serving.local import ServedApp
from tests.support.served import QUESTION

pytestmark = pytest.mark.end_to_end

BRIEF: dict[str, Any] = {"model": "s1", "max_tokens": 3, "thinking": {"max_tokens": 1}}
ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/chat/completions": ("ChatRequest", BRIEF | {"messages": QUESTION}),
    "/v1/completions": ("CompletionRequest", BRIEF | {"prompt": "1 + 1 ="}),
    "/v1/responses": (
        "ResponsesRequest",
        {"model": "s1", "max_output_tokens": 3, "thinking": {"max_tokens": 1}, "input": QUESTION},
    ),
    "/v1/messages": ("MessagesRequest", BRIEF | {"messages": QUESTION}),
    "/v1/messages/count_tokens": ("CountTokensRequest", {"model": "s1", "messages": QUESTION}),
    "/tokenize": ("TokenizeCompletionRequest", {"model": "s1", "prompt": "1 + 1 ="}),
    "/detokenize": ("DetokenizeRequest", {"model": "s1", "tokens": [5, 6]}),
}
# fmt: off
WORDS = st.sampled_from([
    "type", "text", "role", "user", "assistant", "content", "function", "name", "tool", "tools", "schema",
    "json_schema", "json_object", "effort", "enabled", "max_tokens", "budget_tokens", "auto", "none", "low",
    "regex", "grammar", "choice", "image_url", "url", "input_schema", "tool_use", "id", "input",
])
# fmt: on
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([-(2**70), -(2**31), 2**31, 2**63 - 1, 2**64, 10**300]),
    st.floats(),
    st.text(max_size=6),
    WORDS,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("route", ROUTES)
def test_no_request_makes_the_server_fail(served: ServedApp, route: str) -> None:
    schema, valid = ROUTES[route]
    description = httpx.get(f"{served.url}/openapi.json", timeout=60).json()
    names = st.sampled_from(sorted(description["components"]["schemas"][schema]["properties"]))

    @settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(names, VALUES, min_size=1, max_size=2) | VALUES)
    def check(changes: Any) -> None:
        check_answer(post(served, route, json.dumps(valid | changes if isinstance(changes, dict) else changes)))

    check()
    assert post(served, route, json.dumps(valid)).status_code == 200


def check_answer(response: httpx.Response) -> None:
    """It is an answer, or an error that is the client's fault, from the beginning or within a stream."""
    assert response.status_code < 500, response.text
    if response.status_code != 200:
        assert response.json()["error"]["message"]
    elif "text/event-stream" in response.headers["content-type"]:
        assert '"code":500' not in response.text
        assert "api_error" not in response.text
        assert '"server_error"' not in response.text


ODD: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        {"messages": [{"author": {"role": "user"}, "content": [{"type": "text", "text": "hi"}]}]},
        {"stop": "\ud800"},
        {"bad_words": ["\ud800"]},
        {"logit_bias": {"\ud800": 1}},
        {"logit_bias": {"99999999": 1}},
        {"allowed_token_ids": [10**9]},
        {"temperature": float("nan")},
        {"stream_interval": 2**70},
        {"vllm_xargs": {"a": 2**70}},
        {"kv_transfer_params": {"a": {"b": 2**70}}},
        {"chat_template": "{{ raise_exception('no') }}"},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#/no"}}}},
        {"structured_outputs": {"regex": "("}},
        {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "no"}}}]},
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"a": 1}]}]},
        {"messages": [{"role": "user", "content": "a" * 100_000}]},
        {"thinking": {"loops": 10**30}},
        {"thinking": {"waits": 3, "wait_text": "a" * 100_000}},
        {"thinking": {"waits": 3, "wait_text": ["Wait"] * 1000}},
    ],
    "/v1/completions": [{"prompt": []}, {"prompt": [[]]}, {"prompt": [10**6]}, {"prompt": [-1]}, {"tools": [{}]}],
    "/v1/responses": [
        {"input": [{"role": "assistant", "content": ""}]},
        {"input": [{"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}]},
        {"input": [{"type": "function_call", "call_id": "a", "name": "a", "arguments": "5"}]},
        {"input": [{"type": "function_call", "call_id": "a", "name": "a", "arguments": ""}]},
        {"input": [{"type": "function_call_output", "call_id": "a", "output": []}]},
        {"input": [{"role": "system", "content": "hi"}]},
        {"input": "a" * 100_000, "truncation": "auto"},
        {"tools": [{"type": "function", "name": "a", "parameters": {"type": "no"}}], "tool_choice": "required"},
        {"tools": [{"type": "function", "name": "a", "parameters": 5}]},
        {"tool_choice": "required"},
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"$ref": "#/no"}}}},
        {"metadata": {"a": 5}},
        {"user": "\ud800"},
        {"seed": 2**70},
        {"stop": 5},
    ],
    "/v1/messages": [
        {"top_k": 2**70},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": 5}}]}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": 5}]}]}
            ]
        },
        {"tool_choice": {"type": "tool", "name": "no"}},
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "no"}}}},
    ],
}


@pytest.mark.parametrize("route", ODD)
def test_odd_values_in_the_right_places_are_the_clients_fault(served: ServedApp, route: str) -> None:
    for changes in ODD[route]:
        for stream in (False, True):
            check_answer(post(served, route, json.dumps(ROUTES[route][1] | changes | {"stream": stream})))


def post(served: ServedApp, route: str, content: str | bytes) -> httpx.Response:
    return httpx.post(f"{served.url}{route}", content=content, headers={"Content-Type": "application/json"}, timeout=60)


@pytest.mark.parametrize("route", ROUTES)
def test_a_body_that_is_no_json_object_is_refused(served: ServedApp, route: str) -> None:
    noise = random.Random(0).randbytes(50)
    for content in (b"", b"{", b"[]", b"null", b"\xff\xfe", noise, b"[" * 100_000, b'{"model": ' + b"9" * 5000 + b"}"):
        response = post(served, route, content)
        assert response.status_code == 400
        assert response.json()["error"]["message"]
