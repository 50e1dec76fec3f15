"""The `openai` client: chat completions, completions and responses."""

from __future__ import annotations

import json
from typing import Any

import openai

from tests.clients.check import BUDGET, QUESTION, SCHEMA, URL, WHOLE, Shown, check

CLIENT: Any = openai.OpenAI(base_url=f"{URL}/v1", api_key="unused", max_retries=0)
THINKING = {"thinking": {"max_tokens": BUDGET}}
CHAT: dict[str, Any] = {"model": "s1", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 400}
ASKED: dict[str, Any] = {"model": "s1", "input": QUESTION, "max_output_tokens": 400}


def chat() -> Shown:
    reply = CLIENT.chat.completions.create(**CHAT, extra_body=THINKING)
    said, usage = reply.choices[0].message, reply.usage
    return Shown(said.content, said.reasoning_content, usage.completion_tokens, _reasoning(usage))


def chat_stream() -> Shown:
    answer = thinking = ""
    usage = None
    fields = CHAT | {"stream": True, "stream_options": {"include_usage": True}, "extra_body": THINKING}
    for chunk in CLIENT.chat.completions.create(**fields):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            answer += choice.delta.content or ""
            thinking += getattr(choice.delta, "reasoning_content", None) or ""
    return Shown(answer, thinking, usage and usage.completion_tokens, _reasoning(usage))


def chat_tool() -> Shown:
    tool = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}
    choose = {"type": "function", "function": {"name": "add"}}
    reply = CLIENT.chat.completions.create(**CHAT, tools=[tool], tool_choice=choose, extra_body=THINKING)
    said, usage = reply.choices[0].message, reply.usage
    (call,) = said.tool_calls
    assert call.function.name == "add"
    return Shown(call.function.arguments, said.reasoning_content, usage.completion_tokens, _reasoning(usage))


def completion() -> Shown:
    reply = CLIENT.completions.create(model="s1", prompt=f"{QUESTION}\n", max_tokens=400, extra_body=THINKING)
    (choice,), usage = reply.choices, reply.usage
    # The text is what the model wrote, delimiters included; `thinking` has its two parts.
    thinking, answer = choice.thinking["text"], choice.thinking["answer"]
    assert thinking in choice.text
    assert answer in choice.text
    return Shown(answer, thinking, usage.completion_tokens, _reasoning(usage), note=WHOLE)


def response() -> Shown:
    return _response(CLIENT.responses.create(**ASKED, extra_body=THINKING))


def response_stream() -> Shown:
    with CLIENT.responses.stream(**ASKED, reasoning={"effort": "low"}) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        last = stream.get_final_response()
    assert last.output_text == text
    return _response(last)


def response_tool() -> Shown:
    """A function that has to be called; its output goes back with everything that came before."""
    tool = {"type": "function", "name": "add", "parameters": SCHEMA, "strict": True}
    choose = {"type": "function", "name": "add"}
    first = CLIENT.responses.create(**ASKED, tools=[tool], tool_choice=choose, extra_body=THINKING)
    call = first.output[-1]
    assert (call.type, call.name) == ("function_call", "add")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "42"}
    conversation = [{"role": "user", "content": QUESTION}, *first.output, result]
    second = CLIENT.responses.create(**ASKED | {"input": conversation}, tools=[tool], tool_choice="none")
    thinking = _response(second).thinking
    output = sum(reply.usage.output_tokens for reply in (first, second))
    thought = sum(reply.usage.output_tokens_details.reasoning_tokens for reply in (first, second))
    return Shown(json.dumps([call.arguments, second.output_text]), thinking, output, thought)


def _response(reply: Any) -> Shown:
    thinking = "".join(part.text for item in reply.output if item.type == "reasoning" for part in item.content)
    usage = reply.usage
    return Shown(reply.output_text, thinking, usage.output_tokens, usage.output_tokens_details.reasoning_tokens)


def _reasoning(usage: Any) -> int | None:
    details = usage and usage.completion_tokens_details
    return details.reasoning_tokens if details else None


check("openai", "chat.completions", chat)
check("openai", "chat.completions, stream", chat_stream)
check("openai", "chat.completions, tool", chat_tool)
check("openai", "completions", completion)
check("openai", "responses", response)
check("openai", "responses, stream", response_stream)
check("openai", "responses, tool and its output", response_tool)
