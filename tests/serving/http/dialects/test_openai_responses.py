from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import JsonValue, ValidationError

from s1ray.serving.http.dialects import openai_responses, openai_responses_output
from s1ray.serving.http.dialects.openai_chat import ChatRequest
from s1ray.serving.http.dialects.openai_responses import OpenAIResponses, ResponsesRequest
from s1ray.serving.http.dialects.openai_responses_output import ResponseStream
from s1ray.serving.http.errors import RefusedError
from s1ray.serving.protocol.aliases import read_request
from s1ray.serving.protocol.engine_json import Choice, EngineJson, Message, ToolCall, Usage

ACCOUNTING: dict[str, JsonValue] = {"thinking_tokens": 3, "answer_tokens": 2, "waits": 0, "end_forced": None}
USAGE: Usage = {
    "prompt_tokens": 7,
    "completion_tokens": 9,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
BASE: EngineJson = {"id": "chatcmpl-1", "model": "m", "created": 5}
ADD: dict[str, Any] = {
    "type": "function",
    "name": "add",
    "description": "Adds.",
    "parameters": {"type": "object"},
    "strict": True,
}
EVENTS: dict[str, Any] = {
    get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(get_args(ResponseStreamEvent)[0])
}
"""OpenAI's types of events, by their names."""


def request(**fields: Any) -> ResponsesRequest:
    return ResponsesRequest.model_validate({"model": "m", "input": "hi"} | fields)


def to_engine(**fields: Any) -> Any:
    (route, _) = OpenAIResponses.routes
    chat = route.to_engine(request(**fields))
    assert isinstance(chat, ChatRequest)
    return chat


def whole(said: Message, finish: str = "stop", **fields: Any) -> Any:
    """The response to a request with these fields, which OpenAI's client accepts as it is."""
    choice: Choice = {"index": 0, "message": said, "finish_reason": finish, "thinking": ACCOUNTING}
    body = request(**fields)
    result: Any = openai_responses_output.response(
        BASE | {"choices": [choice], "usage": USAGE},
        openai_responses._shown(body),
        summarized=openai_responses._summary(body) is not None,
    )
    Response.model_validate(result, strict=True)
    return result


def stream(deltas: Sequence[Message], finish: str | None = "stop", **fields: Any) -> list[dict[str, Any]]:
    """The events that come of a chat stream's deltas, which OpenAI's client accepts as they are."""
    body = request(**fields)
    converter = ResponseStream(openai_responses._shown(body), summarized=openai_responses._summary(body) is not None)
    chunks: list[EngineJson] = [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}]
    chunks += [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    if finish is not None:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish, "thinking": ACCOUNTING}]})
    chunks.append({"choices": [], "usage": USAGE})
    text = "".join(converter.rewrite(f"data: {json.dumps(BASE | chunk)}\n\n") for chunk in chunks)
    return events(text + converter.rewrite("data: [DONE]\n\n"))


def events(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for block in text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
        EVENTS[found[-1]["type"]].model_validate(found[-1], strict=True)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def assembled(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The output that a client puts together from the deltas, checking that each item is begun, filled and done."""
    items: list[dict[str, Any]] = []
    is_open = False
    for event in found[2:-1]:
        kind = event["type"]
        if kind == "response.output_item.added":
            assert not is_open
            assert event["output_index"] == len(items)
            items.append(event["item"])
            is_open = True
            continue
        assert is_open
        item = items[-1]
        assert event["output_index"] == len(items) - 1
        assert event.get("item_id", item["id"]) == item["id"]
        if kind == "response.output_item.done":
            assert {**item, "status": ""} == {**event["item"], "status": ""}
            item["status"] = event["item"]["status"]
            is_open = False
        elif kind == "response.content_part.added":
            item["content"].append(event["part"])
        elif kind == "response.reasoning_summary_part.added":
            item["summary"].append(event["part"])
        elif kind.endswith("_part.done"):
            assert event["part"] in (*item.get("summary", ()), *item["content"])
        elif kind.endswith(".delta"):
            holder, name = _holder(item, event)
            holder[name] += event["delta"]
        else:
            holder, name = _holder(item, event)
            assert event[name] == holder[name]
    assert not is_open
    return items


def _holder(item: dict[str, Any], event: dict[str, Any]) -> tuple[dict[str, Any], str]:
    if "summary_index" in event:
        return item["summary"][event["summary_index"]], "text"
    if "content_index" in event:
        return item["content"][event["content_index"]], "text"
    return item, "arguments"


def call(arguments: str, name: str | None = None, call_id: str | None = None, index: int = 0) -> ToolCall:
    return {"index": index, "id": call_id, "function": {"arguments": arguments, "name": name}}


def test_a_response_has_reasoning_message_and_calls_in_this_order() -> None:
    result = whole({"reasoning": "hm", "content": "so", "tool_calls": [call("{}", "add", "c")]}, "tool_calls")
    reasoning, message, function = result["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert reasoning["summary"] == []
    assert message["content"][0]["text"] == "so"
    assert (function["call_id"], function["name"], function["arguments"]) == ("c", "add", "{}")
    assert {item["status"] for item in result["output"]} == {result["status"]} == {"completed"}
    assert (result["id"], result["created_at"], result["thinking"]) == ("resp_1", 5, ACCOUNTING)
    assert result["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 16,
    }


def test_a_summary_is_the_thinking_itself_where_one_is_asked_for() -> None:
    (reasoning, _) = whole({"reasoning": "hm", "content": "so"}, reasoning={"summary": "auto"})["output"]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert reasoning["content"][0]["text"] == "hm"
    result = whole({"reasoning": "hm"}, reasoning={"summary": "none"})
    assert (result["output"][0]["summary"], result["reasoning"]["summary"]) == ([], None)


def test_a_response_that_was_cut_says_where() -> None:
    result = whole({"reasoning": "hm", "content": "so"}, "length")
    assert (result["status"], result["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert [item["status"] for item in result["output"]] == ["completed", "incomplete"]
    result = whole({"reasoning": "hm"}, "length")
    assert [(item["type"], item["status"]) for item in result["output"]] == [("reasoning", "incomplete")]
    assert whole({"content": None}, "length")["output"] == []
    assert whole({"content": None})["output"][0]["content"][0]["text"] == ""


def test_a_response_repeats_what_was_asked() -> None:
    fields: dict[str, Any] = {
        "instructions": "Be brief.",
        "max_output_tokens": 50,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "temperature": 0.5,
        "tools": [ADD],
        "tool_choice": {"type": "function", "name": "add"},
        "user": "u",
    }
    result = whole({"content": "so"}, **fields, text={"format": {"type": "json_schema", "name": "x", "schema": {}}})
    assert {name: result[name] for name in fields} == fields
    assert result["text"] == {"format": {"type": "json_schema", "name": "x", "schema": {}}}
    result = whole({"content": "so"}, reasoning={"effort": "low"}, store=True, truncation="auto")
    assert (result["reasoning"]["effort"], result["store"], result["truncation"]) == ("low", False, "disabled")
    assert whole({"content": "so"}, reasoning_effort="low")["reasoning"]["effort"] == "low"


pieces = st.text(st.characters(codec="utf-8"), min_size=1, max_size=4) | st.sampled_from([" ", "\n"])


def cut(draw: st.DrawFn, text: str) -> list[str]:
    """The text in parts of any length."""
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    parts = [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]
    return [part for part in parts if part]


@st.composite
def cut_messages(draw: st.DrawFn) -> tuple[Message, list[Message]]:
    """A message, and the same in a stream's parts."""
    said: Message = {"role": "assistant", "content": draw(st.none() | st.text(max_size=8) | pieces)}
    said["reasoning"] = draw(st.none() | st.text(max_size=8))
    deltas: list[Message] = [{"reasoning": part} for part in cut(draw, said["reasoning"] or "")]
    deltas += [{"content": part} for part in cut(draw, said["content"] or "")]
    calls: list[ToolCall] = []
    for index in range(draw(st.integers(0, 2))):
        arguments = draw(st.text(max_size=8))
        calls.append(call(arguments, f"f{index}", f"c{index}"))
        first, *rest = cut(draw, arguments) or [""]
        deltas.append({"tool_calls": [call(first, f"f{index}", f"c{index}", index)]})
        deltas += [{"tool_calls": [call(part, index=index)]} for part in rest]
        if draw(st.booleans()):
            deltas.append({"content": "\n"})
    if calls:
        said["tool_calls"] = [{"id": one["id"], "function": one["function"]} for one in calls]
    return said, joined(draw, deltas)


def joined(draw: st.DrawFn, deltas: list[Message]) -> list[Message]:
    """The same parts, of which some that follow one another come together."""
    together: list[Message] = []
    for delta in deltas:
        last = together[-1] if together else {}
        in_order = set(last) | set(delta) == {"reasoning", "content"} and set(last) == {"reasoning"}
        if in_order and draw(st.booleans()):
            together[-1] = {**last, **delta}
        else:
            together.append(delta)
    return together


@settings(max_examples=60)
@given(cut_messages(), st.sampled_from(["stop", "length", "tool_calls"]), st.sampled_from([None, "auto"]))
def test_a_stream_ends_in_the_whole_response_however_it_is_cut(
    cut: tuple[Message, list[Message]], finish: str, summary: str | None
) -> None:
    said, deltas = cut
    expected = whole(said, finish, reasoning={"summary": summary})
    found = stream(deltas, finish, reasoning={"summary": summary})
    kinds = [event["type"] for event in found]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == f"response.{expected['status']}"
    assert found[-1]["response"] == expected
    assert assembled(found) == expected["output"]
    begun = found[0]["response"]
    assert (begun["status"], begun["output"], begun["usage"]) == ("in_progress", [], None)


def test_text_after_a_call_is_a_message_of_its_own() -> None:
    found = stream([{"tool_calls": [call("{}", "add", "c")]}, {"content": "\n"}, {"content": "so"}])
    assert [item["type"] for item in assembled(found)] == ["function_call", "message"]
    assert found[-1]["response"]["output"][1]["content"][0]["text"] == "\nso"


@pytest.mark.parametrize(
    ("code", "named"), [(500, "server_error"), (503, "server_error"), (429, "rate_limit_exceeded")]
)
def test_a_failure_ends_a_stream_and_keeps_what_there_was(code: int, named: str) -> None:
    converter = ResponseStream({"parallel_tool_calls": True, "tool_choice": "auto", "tools": []})
    begun = BASE | {"choices": [{"index": 0, "delta": {"content": "so"}}]}
    failed = {"error": {"message": "the engine is gone", "code": code}}
    text = "".join(converter.rewrite(f"data: {json.dumps(part)}\n\n") for part in (begun, failed, begun))
    *_, error, last = events(text + converter.rewrite("data: [DONE]\n\n"))
    assert (error["type"], error["message"], error["code"]) == ("error", "the engine is gone", named)
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"]["error"] == {"code": named, "message": "the engine is gone"}
    assert last["response"]["output"][0]["status"] == "incomplete"


def test_a_stream_that_breaks_off_is_no_complete_response() -> None:
    *_, last = stream([{"content": "so"}], finish=None)
    assert last["type"] == "response.failed"


def test_items_become_a_chats_messages() -> None:
    chat = to_engine(
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": "1 + 1?"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [
                    {"type": "output_text", "text": "Let me ", "annotations": []},
                    {"type": "output_text", "text": "add.", "annotations": []},
                ],
            },
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "add", "arguments": "{}"},
            {"type": "function_call", "id": "fc_2", "call_id": "c2", "name": "add", "arguments": '{"a": 1}'},
            {"type": "function_call_output", "call_id": "c1", "output": "2"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "3"}]},
            {"type": "reasoning", "id": "rs_2", "summary": [{"type": "summary_text", "text": "so"}]},
            {"type": "message", "role": "assistant", "content": "It is 2."},
            {"type": "reasoning", "id": "rs_3", "summary": [], "encrypted_content": "x"},
            {"role": "user", "content": [{"type": "input_text", "text": "Sure?"}, {"type": "input_text", "text": "?"}]},
        ],
    )
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}},
        {"id": "c2", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
    ]
    assert chat.messages == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "reasoning": "hm", "content": "Let me add.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "tool", "tool_call_id": "c2", "content": "3"},
        {"role": "assistant", "reasoning": "so", "content": "It is 2."},
        {"role": "user", "content": "Sure?\n?"},
    ]


def test_a_responses_output_may_be_sent_back() -> None:
    said: Message = {"reasoning": "hm", "content": "so", "tool_calls": [call("{}", "add", "c")]}
    items = whole(said, "tool_calls", reasoning={"summary": "auto"})["output"]
    (message,) = to_engine(input=items).messages
    assert (message["reasoning"], message["content"]) == ("hm", "so")
    assert message["tool_calls"][0]["id"] == "c"


def test_parameters_have_their_places_in_a_chat() -> None:
    chat = to_engine(
        max_output_tokens=50,
        temperature=0.5,
        top_p=0.9,
        stream=True,
        stream_options={"include_obfuscation": False},
        tools=[ADD],
        tool_choice={"type": "function", "name": "add"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}},
        seed=3,
        top_k=20,
        store=True,
        include=["reasoning.encrypted_content"],
        truncation="auto",
        prompt_cache_key="x",
        background=False,
        previous_response_id=None,
        n=1,
    )
    assert (chat.max_completion_tokens, chat.temperature, chat.top_p, chat.seed, chat.top_k) == (50, 0.5, 0.9, 3, 20)
    assert chat.stream_options.include_usage
    assert not chat.parallel_tool_calls
    assert chat.tools[0].function.model_dump(exclude_none=True) == {k: v for k, v in ADD.items() if k != "type"}
    assert chat.tool_choice.function.name == "add"
    assert chat.response_format.json_schema.json_schema == {"type": "object"}
    assert to_engine(text={"format": {"type": "json_object"}}).response_format.type == "json_object"
    assert to_engine(text={"format": {"type": "text"}, "verbosity": "low"}).response_format is None
    assert to_engine(tools=[], tool_choice="auto").tools is None


@pytest.mark.parametrize(
    ("fields", "tokens", "effort"),
    [
        ({"thinking": {"max_tokens": 8}}, 8, None),
        ({"reasoning": {"effort": "low", "summary": "auto", "context": "auto"}}, None, "low"),
        ({"reasoning": {"max_tokens": 8, "generate_summary": "concise"}}, 8, None),
        ({"reasoning_effort": "low"}, None, "low"),
        ({"thinking_token_budget": 8}, 8, None),
        ({"think": False}, 0, None),
    ],
)
def test_thinking_is_said_as_on_other_routes(fields: dict[str, Any], tokens: int | None, effort: str | None) -> None:
    chat = to_engine(**fields)
    requested = read_request({**chat.__dict__, **(chat.model_extra or {})})
    assert (requested.budget.max_tokens, requested.effort) == (tokens, effort)


@pytest.mark.parametrize(
    "fields",
    [{"max_thinking": 5}, {"reasoning": {"budget": 5}}, {"thinking": {"max_token": 5}}],
)
def test_unknown_fields_about_thinking_reach_the_reader_that_refuses_them(fields: dict[str, Any]) -> None:
    chat = to_engine(**fields)
    with pytest.raises(ValueError, match="unknown field"):
        read_request({**chat.__dict__, **(chat.model_extra or {})})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "messages"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [ADD, {"type": "mcp", "server_label": "x"}]}, "tools.1.type"),
        ({"tools": [{"type": "function"}]}, "tools.0.name"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"input": []}, "input"),
        ({"input": [{"role": "robot", "content": "hi"}]}, "input.0.role"),
        ({"input": [{"role": "user"}]}, "input.0.content"),
        ({"input": [{"role": "user", "content": ["hi"]}]}, "input.0.content.0"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0.type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": 5}]}]}, "input.0.content.0.text"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type"),
        ({"input": [{"type": "function_call", "name": "a", "arguments": "{}"}]}, "input.0.call_id"),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "a", "arguments": '{"a'}]},
            "input.0.arguments",
        ),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "a", "arguments": "[" * 100_000}]},
            "input.0.arguments",
        ),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": 5}]}, "input.0.output"),
    ],
)
def test_what_is_wrong_or_not_supported_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RefusedError, match=param) as caught:
        to_engine(**fields)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_a_request_without_input_is_no_request() -> None:
    with pytest.raises(ValidationError, match="input"):
        ResponsesRequest.model_validate({"model": "m"})


def test_errors_name_this_apis_fields() -> None:
    def param(name: str) -> Any:
        body: Any = OpenAIResponses().error(RefusedError(400, "no", param=name))
        return body["error"]["param"]

    assert [param(name) for name in ("max_completion_tokens", "thinking.waits")] == [
        "max_output_tokens",
        "thinking.waits",
    ]
