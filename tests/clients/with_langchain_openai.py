"""LangChain's ChatOpenAI, by chat completions and by responses."""

from __future__ import annotations

import json
from typing import Any

from langchain_openai import ChatOpenAI

from tests.clients.check import QUESTION, SCHEMA, URL, Shown, check

FIELDS: dict[str, Any] = {"model": "gpt-5", "base_url": f"{URL}/v1", "api_key": "unused", "max_tokens": 400}
RESPONSES = FIELDS | {"reasoning": {"effort": "low", "summary": "auto"}, "use_responses_api": True}
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": SCHEMA}}


def chat() -> Shown:
    message: Any = ChatOpenAI(**FIELDS, reasoning_effort="low").invoke(QUESTION)
    return Shown(message.content, None, *_usage(message), note="drops `reasoning_content` of chat completions")


def chat_stream() -> Shown:
    message: Any = _joined(ChatOpenAI(**FIELDS, reasoning_effort="low", stream_usage=True))
    return Shown(message.content, None, *_usage(message), note="drops `reasoning_content` of chat completions")


def responses() -> Shown:
    return _shown(ChatOpenAI(**RESPONSES).invoke(QUESTION))


def responses_stream() -> Shown:
    return _shown(_joined(ChatOpenAI(**RESPONSES)))


def tool() -> Shown:
    message: Any = ChatOpenAI(**RESPONSES).bind_tools([TOOL], tool_choice="add").invoke(QUESTION)
    calls: Any = message.tool_calls + message.invalid_tool_calls
    (call,) = calls
    assert call["name"] == "add"
    return Shown(json.dumps(call["args"]), _thinking(message), *_usage(message))


def _joined(model: ChatOpenAI) -> Any:
    whole: Any = None
    for chunk in model.stream(QUESTION):
        whole = chunk if whole is None else whole + chunk
    return whole


def _shown(message: Any) -> Shown:
    return Shown(message.text, _thinking(message), *_usage(message))


def _thinking(message: Any) -> str:
    return "".join(block.get("reasoning", "") for block in message.content_blocks if block["type"] == "reasoning")


def _usage(message: Any) -> tuple[int, int]:
    usage = message.usage_metadata
    return usage["output_tokens"], usage["output_token_details"]["reasoning"]


check("langchain-openai", "ChatOpenAI, chat completions", chat)
check("langchain-openai", "ChatOpenAI, chat completions, stream", chat_stream)
check("langchain-openai", "ChatOpenAI, responses", responses)
check("langchain-openai", "ChatOpenAI, responses, stream", responses_stream)
check("langchain-openai", "ChatOpenAI, responses, tool", tool)
