from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from s1ray.serving.http.dialects.anthropic import Anthropic, CountTokensRequest, MessagesRequest
from s1ray.serving.http.dialects.anthropic_unsupported import unsupported
from s1ray.serving.http.errors import RefusedError

MESSAGES: Any = [{"role": "user", "content": "hi"}]
BODY: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": MESSAGES}
OWN_TOOL = {"name": "add", "input_schema": {"type": "object"}}
KEEP = {"type": "clear_thinking_20251015", "keep": "all"}


def blocks(*content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(content)}]}


def to_chat(**fields: Any) -> Any:
    (route, _) = Anthropic.routes
    return route.to_engine(MessagesRequest.model_validate(BODY | fields))


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"tools": [OWN_TOOL, {"type": "web_search_20250305", "name": "web_search"}]}, "tools.1.type"),
        ({"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]}, "tools.0.type"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools.0.type"),
        ({"tools": [{"type": "text_editor_20250728", "name": "edit"}]}, "tools.0.type"),
        ({"tools": [{"type": "computer_20250124", "name": "computer", "input_schema": {}}]}, "tools.0.type"),
        ({"tools": [OWN_TOOL | {"input_examples": [{"a": 1}]}]}, "tools.0.input_examples"),
        ({"tools": [OWN_TOOL | {"allowed_callers": ["code_execution_20250825"]}]}, "tools.0.allowed_callers"),
        ({"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]}, "mcp_servers"),
        ({"container": "c1"}, "container"),
        ({"thread": {"id": "t"}}, "thread"),
        ({"fallbacks": [{"model": "n"}]}, "fallbacks"),
        ({"output_format": {"type": "json_schema"}}, "output_format"),
        ({"output_config": {"task_budget": {"type": "tokens", "total": 9}}}, "output_config.task_budget"),
        (
            {"context_management": {"edits": [KEEP, {"type": "clear_tool_uses_20250919"}]}},
            "context_management.edits.1.type",
        ),
        (
            {"context_management": {"edits": [KEEP | {"keep": {"type": "thinking_turns", "value": 1}}]}},
            "context_management.edits.0.keep",
        ),
        (blocks({"type": "text", "text": "see"}, {"type": "document", "source": {}}), "messages.0.content.1.type"),
        (blocks({"type": "image", "source": {"type": "url", "url": "https://x"}}), "messages.0.content.0.type"),
        (blocks({"type": "search_result", "source": "x", "title": "t", "content": []}), "messages.0.content.0.type"),
        (blocks({"type": "container_upload", "file_id": "f"}), "messages.0.content.0.type"),
        (
            blocks({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {}}]}),
            "messages.0.content.0.content.0.type",
        ),
        ({"system": [{"type": "document", "source": {}}]}, "system.0.type"),
    ],
)
@pytest.mark.parametrize("request_type", [MessagesRequest, CountTokensRequest])
def test_what_would_change_the_answer_is_refused_by_name(request_type: Any, fields: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError) as caught:
        request_type.model_validate(BODY | fields)
    (error,) = caught.value.errors()
    assert ".".join(map(str, error["loc"])) == where
    assert "support" in error["msg"]


def test_what_changes_no_answer_is_accepted() -> None:
    cached = {"cache_control": {"type": "ephemeral"}}
    harmless: dict[str, Any] = {
        "metadata": {"user_id": "u"},
        "service_tier": "auto",
        "betas": ["interleaved-thinking-2025-05-14"],
        "speed": "fast",
        "inference_geo": "us",
        "mcp_servers": [],
        "container": None,
        "context_management": {"edits": []},
        "stream_options": {"include_usage": True},
        "n": 1,
        "system": [{"type": "text", "text": "Be brief."} | cached],
        "tools": [OWN_TOOL | cached | {"type": "custom", "allowed_callers": ["direct"], "strict": True}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hi"} | cached]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "x"},
                    {"type": "text", "text": "so", "citations": None},
                    {"type": "tool_use", "id": "t", "name": "add", "input": {}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "3"} | cached]},
        ],
    }
    chat = to_chat(**harmless)
    assert [message["role"] for message in chat.messages] == ["system", "user", "assistant", "tool"]
    assert chat.messages[2]["reasoning"] == "hm"
    assert chat.tools[0].function.name == "add"


def test_keeping_all_thinking_is_the_templates_to_do() -> None:
    assert to_chat(context_management={"edits": [KEEP]}).thinking == {"keep": "all"}
    thinking = {"type": "enabled", "budget_tokens": 5}
    assert to_chat(context_management={"edits": [KEEP]}, thinking=thinking).thinking == {"keep": "all"} | thinking
    assert to_chat(thinking=thinking).thinking == thinking


@pytest.mark.parametrize(("name", "value"), [("n", 2), ("seed", 3), ("logit_bias", {"3": 1}), ("stop", ["x"])])
def test_a_chats_fields_are_not_dropped(name: str, value: Any) -> None:
    with pytest.raises(RefusedError, match=f"{name}: is a field of /v1/chat/completions"):
        to_chat(**{name: value})


def test_thinking_may_be_left_out_in_vllms_words() -> None:
    assert to_chat(include_reasoning=False).include_reasoning is False


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["text", "image", "custom", "all"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "content", "edits", "keep", "name"]), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = ["tools", "messages", "system", "context_management", "output_config", "mcp_servers"]


@given(st.dictionaries(st.sampled_from(NAMES), json_values))
def test_any_json_is_looked_through(data: dict[str, Any]) -> None:
    for where, problem in unsupported(data):
        assert where[0] in data
        assert problem
