"""LiteLLM: completions and responses by its `openai/` route, messages by its `anthropic/` route."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from typing import Any

import litellm

from tests.clients.check import BUDGET, QUESTION, URL, Shown, check

OPENAI: dict[str, Any] = {"model": "openai/gpt-5", "api_base": f"{URL}/v1", "api_key": "unused"}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 400}
THINKING: dict[str, Any] = {"extra_body": {"thinking": {"max_tokens": BUDGET}}}


def completion() -> Shown:
    return _chat(litellm.completion(**OPENAI, **CHAT, **THINKING))


def effort() -> Shown:
    return _chat(litellm.completion(**OPENAI, **CHAT, reasoning_effort="low"))


def completion_stream() -> Shown:
    fields = OPENAI | CHAT | THINKING | {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(litellm.completion(**fields))
    return _chat(litellm.stream_chunk_builder(chunks))


def responses() -> Shown:
    reply: Any = litellm.responses(**OPENAI, input=QUESTION, max_output_tokens=400, **THINKING)
    return _response(reply)


def responses_stream() -> Shown:
    fields: dict[str, Any] = OPENAI | THINKING | {"input": QUESTION, "max_output_tokens": 400, "stream": True}
    last: Any = None
    for event in litellm.responses(**fields):
        last = event
    return _response(last.response)


def messages() -> Shown:
    fields: dict[str, Any] = {"model": "anthropic/claude-sonnet-4-5", "api_base": URL, "api_key": "unused"}
    thinking = {"type": "enabled", "budget_tokens": BUDGET}
    return _chat(litellm.completion(**fields, **CHAT, thinking=thinking), counts_thinking=False)


def _chat(reply: Any, *, counts_thinking: bool = True) -> Shown:
    said, usage = reply.choices[0].message, reply.usage
    details = usage.completion_tokens_details
    thought = details.reasoning_tokens if details and counts_thinking else None
    note = "" if counts_thinking else "estimates the thinking tokens from the text"
    return Shown(said.content, said.reasoning_content, usage.completion_tokens, thought, note)


def _response(reply: Any) -> Shown:
    thinking = "".join(part.text for item in reply.output if item.type == "reasoning" for part in item.content)
    text = "".join(part.text for item in reply.output if item.type == "message" for part in item.content)
    usage: Any = reply.usage
    if isinstance(usage, dict) or not hasattr(usage, "output_tokens"):
        usage = usage if isinstance(usage, dict) else usage.model_dump()
        details = usage["completion_tokens_details"]
        return Shown(text, thinking, usage["completion_tokens"], details["reasoning_tokens"])
    return Shown(text, thinking, usage.output_tokens, usage.output_tokens_details.reasoning_tokens)


check("litellm", "completion", completion)
check("litellm", "completion, reasoning_effort", effort)
check("litellm", "completion, stream", completion_stream)
check("litellm", "responses", responses)
check("litellm", "responses, stream", responses_stream)
check("litellm", "completion, anthropic/", messages)
