from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from s1ray.serving.http.dialects import anthropic
from s1ray.serving.http.dialects.anthropic import MessageStream, error_body
from s1ray.serving.protocol.engine_json import Choice, EngineJson, Message, ToolCall, Usage

ACCOUNTING: dict[str, JsonValue] = {
    "thinking_tokens": 3,
    "answer_tokens": 2,
    "waits": 0,
    "end_forced": None,
    "limit": 8,
    "budget": {},
}
USAGE: Usage = {"prompt_tokens": 7, "completion_tokens": 9, "prompt_tokens_details": None}


def chat(said: Message, finish: str = "stop", stop: int | str | None = None) -> EngineJson:
    choice: Choice = {"index": 0, "message": said, "finish_reason": finish, "stop_reason": stop, "thinking": ACCOUNTING}
    return {"id": "chatcmpl-1", "model": "m", "choices": [choice], "usage": USAGE}


def message(chat: EngineJson, *, omitted: bool = False) -> Any:
    """The message, as JSON that a test may look into."""
    return anthropic.message(chat, omitted=omitted)


def call(arguments: str, name: str | None = None, tool_id: str | None = None, index: int = 0) -> ToolCall:
    return {"index": index, "id": tool_id, "function": {"arguments": arguments, "name": name}}


def events(text: str) -> list[dict[str, Any]]:
    found = []
    for block in text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def stream(deltas: Sequence[Message], finish: str = "stop", *, omitted: bool = False) -> list[dict[str, Any]]:
    """The events that come of a chat stream's deltas."""
    converter = MessageStream(omitted=omitted)
    base = {"id": "chatcmpl-1", "model": "m"}
    chunks: list[EngineJson] = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], "usage": {"prompt_tokens": 7}}
    ]
    chunks += [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish, "thinking": ACCOUNTING}]})
    chunks.append({"choices": [], "usage": USAGE})
    text = "".join(converter.rewrite(f"data: {json.dumps(base | chunk)}\n\n") for chunk in chunks)
    return events(text + converter.rewrite("data: [DONE]\n\n"))


def assembled(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content that a client puts together, checking the order of events."""
    assert [found[0]["type"], found[-2]["type"], found[-1]["type"]] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    blocks: list[dict[str, Any]] = []
    is_open = False
    for event in found[1:-2]:
        if event["type"] == "content_block_start":
            assert not is_open
            assert event["index"] == len(blocks)
            blocks.append(dict(event["content_block"]))
            is_open = True
            continue
        assert is_open
        assert event["index"] == len(blocks) - 1
        if event["type"] == "content_block_stop":
            is_open = False
            continue
        delta, block = event["delta"], blocks[-1]
        kind = delta["type"]
        if kind == "input_json_delta":
            block["input"] = (block["input"] or "") + delta["partial_json"]
        else:
            name = kind.removesuffix("_delta")
            assert name in ("signature", block["type"])
            block[name] += delta[name]
    assert not is_open
    return blocks


def test_a_message_has_thinking_text_and_tools_in_this_order() -> None:
    tools = [call('{"a": 1}', "add", "t")]
    result = message(chat({"reasoning": "hm", "content": "so", "tool_calls": tools}, "tool_calls"))
    thinking, text, tool = result["content"]
    assert (thinking["type"], thinking["thinking"]) == ("thinking", "hm")
    assert thinking["signature"]
    assert text == {"type": "text", "text": "so"}
    assert tool == {"type": "tool_use", "id": "t", "name": "add", "input": {"a": 1}}
    assert (result["id"], result["stop_reason"]) == ("msg_1", "tool_use")
    assert result["usage"] == {"input_tokens": 7, "output_tokens": 9, "output_tokens_details": ACCOUNTING}


@pytest.mark.parametrize(
    ("finish", "stop", "reason", "sequence"),
    [
        ("stop", None, "end_turn", None),
        ("stop", 3, "end_turn", None),
        ("stop", "END", "stop_sequence", "END"),
        ("length", None, "max_tokens", None),
    ],
)
def test_why_it_stopped(finish: str, stop: Any, reason: str, sequence: str | None) -> None:
    result = message(chat({"content": "so"}, finish, stop))
    assert (result["stop_reason"], result["stop_sequence"]) == (reason, sequence)


def test_a_tool_that_was_forced_by_name_is_to_be_used() -> None:
    tools = [call('{"a": 1}', "add", "t")]
    assert message(chat({"content": None, "tool_calls": tools}, "stop"))["stop_reason"] == "tool_use"
    assert message(chat({"content": None, "tool_calls": tools}, "length"))["stop_reason"] == "max_tokens"
    for finish, reason in (("stop", "tool_use"), ("length", "max_tokens")):
        found = stream([{"tool_calls": [call('{"a": 1}', "add", "t")]}], finish)
        assert found[-2]["delta"]["stop_reason"] == reason


def test_an_empty_message_has_an_empty_text() -> None:
    assert message(chat({"content": None}))["content"] == [{"type": "text", "text": ""}]
    assert assembled(stream([])) == [{"type": "text", "text": ""}]


@pytest.mark.parametrize(("arguments", "read"), [('{"a": [1, 2', {"a": [1, 2]}), ("", {}), ("nonsense", {}), ("3", {})])
def test_a_tools_input_may_be_cut_off(arguments: str, read: dict[str, Any]) -> None:
    tools = [call(arguments, "add", "t")]
    assert message(chat({"content": None, "tool_calls": tools}, "length"))["content"][0]["input"] == read


def test_cached_tokens_are_no_input_tokens() -> None:
    data = chat({"content": "so"})
    data["usage"] = USAGE | {"prompt_tokens_details": {"cached_tokens": 4}}
    usage = message(data)["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (3, 4)


def test_omitted_thinking_is_an_empty_block() -> None:
    kinds = [block["type"] for block in message(chat({"content": "so"}), omitted=True)["content"]]
    assert kinds == ["thinking", "text"]
    first, second = assembled(stream([{"content": "so"}], omitted=True))
    assert (first["type"], first["thinking"], second["text"]) == ("thinking", "", "so")
    assert first["signature"]


pieces = st.text(st.characters(codec="utf-8"), min_size=1, max_size=4)


@given(st.lists(pieces, max_size=5), st.lists(pieces, max_size=5), st.booleans())
def test_a_stream_is_the_whole_message(thinking: list[str], text: list[str], together: bool) -> None:
    deltas: list[Message] = [{"reasoning": part} for part in thinking]
    deltas += [{"content": part} for part in text]
    if together and thinking and text:
        at = len(thinking)
        deltas[at - 1 : at + 1] = [{"reasoning": thinking[-1], "content": text[0]}]
    found = stream(deltas, "length")
    whole = message(chat({"reasoning": "".join(thinking), "content": "".join(text)}, "length"))
    streamed = assembled(found)
    for block in [*streamed, *whole["content"]]:
        assert bool(block.pop("signature", "-"))
    assert streamed == whole["content"]
    assert found[0]["message"]["usage"]["input_tokens"] == 7
    assert found[-2]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert found[-2]["usage"] == whole["usage"]


def test_streamed_tools_are_blocks_of_their_own() -> None:
    found = stream(
        [
            {"reasoning": "hm"},
            {"tool_calls": [call('{"x"', "add", "a")]},
            {"tool_calls": [call(":1}")], "content": "\n"},
            {"tool_calls": [call("", "sub", "b", 1)]},
            {"tool_calls": [call("{}", index=1)]},
        ],
        "tool_calls",
    )
    thinking, first, text, second = assembled(found)
    assert thinking["thinking"] == "hm"
    assert (first["name"], first["input"]) == ("add", '{"x":1}')
    assert text == {"type": "text", "text": "\n"}
    assert (second["id"], second["input"]) == ("b", "{}")
    assert found[-2]["delta"]["stop_reason"] == "tool_use"


def test_an_error_ends_a_stream() -> None:
    converter = MessageStream()
    failed = json.dumps({"error": {"message": "the engine is gone", "code": 500}})
    found = events(converter.rewrite(f"data: {failed}\n\n") + converter.rewrite("data: [DONE]\n\n"))
    assert found == [{"type": "error", "error": {"type": "api_error", "message": "the engine is gone", "param": None}}]


def test_errors_have_anthropics_types_and_names() -> None:
    def error(status: int, param: str | None = None) -> Any:
        return error_body(status, "no", param)["error"]

    kinds = {status: error(status)["type"] for status in (400, 404, 408, 429, 500, 503)}
    assert kinds == {
        400: "invalid_request_error",
        404: "not_found_error",
        408: "invalid_request_error",
        429: "rate_limit_error",
        500: "api_error",
        503: "overloaded_error",
    }
    assert error(400, "stop")["param"] == "stop_sequences"
    assert error(400, "temperature")["param"] == "temperature"
