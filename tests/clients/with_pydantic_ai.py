"""Pydantic AI: agents over chat completions, responses and messages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ThinkingPart
from pydantic_ai.models.anthropic import AnthropicModel, AnthropicModelSettings
from pydantic_ai.models.openai import (
    OpenAIChatModel,
    OpenAIChatModelSettings,
    OpenAIResponsesModel,
    OpenAIResponsesModelSettings,
)
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.check import BUDGET, QUESTION, URL, Shown, check

OPENAI = OpenAIProvider(base_url=f"{URL}/v1", api_key="unused")


def chat() -> Agent[Any, Any]:
    settings = OpenAIChatModelSettings(max_tokens=400, extra_body={"thinking": {"max_tokens": BUDGET}})
    return Agent(OpenAIChatModel("s1", provider=OPENAI), model_settings=settings)


def responses() -> Agent[Any, Any]:
    settings = OpenAIResponsesModelSettings(
        max_tokens=400, openai_reasoning_effort="low", openai_reasoning_summary="auto"
    )
    return Agent(OpenAIResponsesModel("gpt-5", provider=OPENAI), model_settings=settings)


def messages() -> Agent[Any, Any]:
    thinking: Any = {"type": "enabled", "budget_tokens": BUDGET}
    settings = AnthropicModelSettings(max_tokens=400, anthropic_thinking=thinking)
    provider = AnthropicProvider(base_url=URL, api_key="unused")
    return Agent(AnthropicModel("claude-s1", provider=provider), model_settings=settings)


def whole(make: Callable[[], Agent[Any, Any]]) -> Shown:
    return _shown(make().run_sync(QUESTION))


def streamed(make: Callable[[], Agent[Any, Any]]) -> Shown:
    result: Any = make().run_stream_sync(QUESTION)
    answer = result.get_output()
    shown = _shown(result)
    assert shown.answer == answer
    return shown


def _shown(result: Any) -> Shown:
    parts = [part for message in result.all_messages() if message.kind == "response" for part in message.parts]
    thinking = "".join(part.content for part in parts if isinstance(part, ThinkingPart))
    answer = "".join(part.content for part in parts if part.part_kind == "text")
    usage = result.usage() if callable(result.usage) else result.usage
    thought = usage.details.get("reasoning_tokens", usage.details.get("thinking_tokens"))
    note = "" if thought is not None else "has no count of thinking tokens for Anthropic's API"
    return Shown(answer, thinking, usage.output_tokens, thought, note)


for name, make in (("OpenAIChatModel", chat), ("OpenAIResponsesModel", responses), ("AnthropicModel", messages)):
    check("pydantic-ai-slim", name, partial(whole, make))
    check("pydantic-ai-slim", f"{name}, stream", partial(streamed, make))
