"""LangChain's ChatAnthropic."""

from __future__ import annotations

from typing import Any

from langchain_anthropic import ChatAnthropic

from tests.clients.check import BUDGET, QUESTION, URL, Shown, check

FIELDS: dict[str, Any] = {"model": "claude-s1", "base_url": URL, "api_key": "unused", "max_tokens": 400}
MODEL = ChatAnthropic(**FIELDS, thinking={"type": "enabled", "budget_tokens": BUDGET})


def whole() -> Shown:
    return _shown(MODEL.invoke(QUESTION))


def streamed() -> Shown:
    joined: Any = None
    for chunk in MODEL.stream(QUESTION):
        joined = chunk if joined is None else joined + chunk
    return _shown(joined)


def _shown(message: Any) -> Shown:
    thinking = "".join(block["reasoning"] for block in message.content_blocks if block["type"] == "reasoning")
    usage = message.usage_metadata
    thought = usage.get("output_token_details", {}).get("reasoning")
    note = "" if thought is not None else "has no count of thinking tokens for Anthropic's API"
    return Shown(message.text, thinking, usage["output_tokens"], thought, note)


check("langchain-anthropic", "ChatAnthropic", whole)
check("langchain-anthropic", "ChatAnthropic, stream", streamed)
