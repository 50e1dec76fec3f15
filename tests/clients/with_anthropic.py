"""The `anthropic` client: messages, streams, and a tool whose result goes back with the blocks of thinking."""

from __future__ import annotations

import json
from typing import Any

import anthropic

from tests.clients.check import BUDGET, QUESTION, SCHEMA, URL, Shown, check

CLIENT: Any = anthropic.Anthropic(base_url=URL, api_key="unused", max_retries=0)
FIELDS: dict[str, Any] = {
    "model": "s1",
    "messages": [{"role": "user", "content": QUESTION}],
    "max_tokens": 400,
    "thinking": {"type": "enabled", "budget_tokens": BUDGET},
}


def whole() -> Shown:
    return _shown(CLIENT.messages.create(**FIELDS))


def streamed() -> Shown:
    with CLIENT.messages.stream(**FIELDS) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    shown = _shown(message)
    assert shown.answer == text
    return shown


def tool() -> Shown:
    """A tool that has to be used; its result goes back with everything that came before."""
    fields = FIELDS | {"tools": [{"name": "add", "input_schema": SCHEMA}]}
    first = CLIENT.messages.create(**fields, tool_choice={"type": "tool", "name": "add"})
    use = first.content[-1]
    assert (use.type, use.name) == ("tool_use", "add")
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "42"}
    turns = [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = CLIENT.messages.create(**fields | {"messages": FIELDS["messages"] + turns}, tool_choice={"type": "none"})
    shown, before = _shown(second), _shown(first)
    output = (shown.output_tokens or 0) + (before.output_tokens or 0)
    thought = (shown.thinking_tokens or 0) + (before.thinking_tokens or 0)
    return Shown(json.dumps([use.input, shown.answer]), shown.thinking, output, thought)


def _shown(message: Any) -> Shown:
    text = "".join(block.text for block in message.content if block.type == "text")
    thinking = "".join(block.thinking for block in message.content if block.type == "thinking")
    details = message.usage.output_tokens_details
    return Shown(text, thinking, message.usage.output_tokens, details.thinking_tokens)


check("anthropic", "messages", whole)
check("anthropic", "messages, stream", streamed)
check("anthropic", "messages, tool and its result", tool)
