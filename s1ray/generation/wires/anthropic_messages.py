"""Anthropic's Messages API, and servers that speak it.

What it says of parameters, limits and blocks: https://platform.claude.com/docs/en/api/messages and
https://platform.claude.com/docs/en/build-with-claude/extended-thinking.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from s1ray.errors import InputError
from s1ray.generation.answers import UnusableError, refuse_error, text_of, whole
from s1ray.generation.base import GenerationRequest, Usage
from s1ray.generation.wires.base import (
    answer_limit,
    completion_of,
    counted,
    details_of,
    effort_of,
    joined,
    listed,
    merged,
    optional,
    refuse_unsaid,
    word,
)
from s1ray.schemas import Completion
from s1ray.thinking.format import ThinkingFormat

VERSION = "2023-06-01"
"""Of the API, sent with every call."""
API = "Anthropic's Messages API"
MIN_BUDGET = 1024
"""Thinking tokens that a budget must allow."""
MIN_TOP_P = 0.95
"""While thinking."""
SYSTEM = ("system", "developer")
"""Roles of messages that go into `system`."""

FINISH_REASONS = {
    **dict.fromkeys(("end_turn", "stop_sequence"), "stop"),
    **dict.fromkeys(("max_tokens", "model_context_window_exceeded"), "length"),
    "tool_use": "tool_calls",
}
"""`stop_reason` -> ours. "refusal" and "pause_turn" are called the same here."""


class AnthropicMessages:
    """`/messages`.

    A budget's `max_tokens` is the API's `budget_tokens`, and 0 turns thinking off. "auto" and an `effort` ask for its
    adaptive thinking.
    """

    limits: ClassVar[tuple[str, ...]] = ("max_tokens",)

    def path(self, request: GenerationRequest) -> str:
        """The same for all."""
        return "/messages"

    def headers(self, api_key: str | None) -> dict[str, str]:
        """The API's version, and the key in a header of its own."""
        return {"anthropic-version": VERSION} | ({} if api_key is None else {"x-api-key": api_key})

    def body(self, request: GenerationRequest, model: str, extra: Mapping[str, object]) -> dict[str, Any]:
        """A temperature or top_p of 1 is the API's default and left out: newer models take neither."""
        refuse_unsaid(request, API, top_k=True, budget=("max_tokens", "effort"))
        thinking, effort = _thinking(request), effort_of(request)
        messages = [dict(message) for message in request.messages or ()]
        system = joined([message["content"] for message in messages if message["role"] in SYSTEM])
        asked: dict[str, Any] = {
            "model": model,
            "max_tokens": request.max_tokens,
            "system": system or None,
            "messages": [message for message in messages if message["role"] not in SYSTEM],
            "thinking": thinking,
            "output_config": None if effort is None else {"effort": effort},
        }
        asked |= _sampling(request, is_thinking=thinking is not None and thinking["type"] != "disabled")
        body = merged({name: value for name, value in asked.items() if value is not None}, extra)
        limit = answer_limit(self, body)
        if limit is None:
            raise InputError(f"max_tokens: {API} needs a number")
        _check_budget(body.get("thinking"), limit)
        return body

    def json_answers(self, schema: Mapping[str, object]) -> dict[str, Any]:
        """A format of the output."""
        return {"output_config": {"format": {"type": "json_schema", "schema": dict(schema)}}}

    def completion(
        self, request: GenerationRequest, answer: Mapping[str, Any], thinking_format: ThinkingFormat | None
    ) -> Completion:
        """All blocks of thinking, and all of text.

        Where a part of the thinking was redacted, the finish reason is "redacted": what can be read is not whole.
        """
        refuse_error(answer)
        if not isinstance(answer.get("content"), list):
            raise UnusableError("its form is not Anthropic's: content is missing or no list")
        blocks = listed(answer["content"], "content")
        raw = word(answer.get("stop_reason"), "stop_reason")
        finish_reason = FINISH_REASONS.get(raw or "", raw or "unknown")
        if finish_reason == "stop" and any(block.get("type") == "redacted_thinking" for block in blocks):
            finish_reason = "redacted"
        return completion_of(
            request,
            _texts(blocks),
            self.usage(answer),
            finish_reason=finish_reason,
            raw_finish_reason=raw,
            model_version=word(answer.get("model"), "model"),
            thinking_format=thinking_format,
        )

    def usage(self, answer: Mapping[str, Any]) -> Usage | None:
        """`input_tokens` leaves out what was read from a cache or written to it; the prompt's tokens are all three."""
        return counted(answer, _usage)


def _usage(usage: Mapping[str, Any]) -> Usage:
    details = details_of(usage, "output_tokens_details")
    read = whole(usage.get("cache_read_input_tokens"), "cache_read_input_tokens")
    written = whole(usage.get("cache_creation_input_tokens"), "cache_creation_input_tokens")
    return Usage(
        prompt_tokens=whole(usage.get("input_tokens"), "input_tokens") + read + written,
        cached_tokens=read,
        completion_tokens=whole(usage.get("output_tokens"), "output_tokens"),
        reasoning_tokens=optional(details.get("thinking_tokens"), "thinking_tokens"),
        cache_write_tokens=written,
    )


def _thinking(request: GenerationRequest) -> dict[str, Any] | None:
    """The API's `thinking`; None: not said."""
    if request.budget is None:
        return None
    budget = request.budget.max_tokens
    if budget is None and request.budget.effort is None:
        return None
    if budget is None or budget == "auto":
        # Models from Opus 4.7 on give no text unless they are asked to.
        return {"type": "adaptive", "display": "summarized"}
    if budget == 0:
        return {"type": "disabled"}
    return {"type": "enabled", "budget_tokens": budget}


def _check_budget(thinking: object, max_tokens: int) -> None:
    """Look whether the API takes a request's `thinking` together with its `max_tokens`.

    Raises:
        InputError: it does not.
    """
    if not isinstance(thinking, Mapping) or thinking.get("type") != "enabled":
        return
    budget = thinking.get("budget_tokens")
    if type(budget) is not int or budget < MIN_BUDGET:
        got = f"{budget:,}" if isinstance(budget, int) else f"{budget!r:.40}"
        raise InputError(
            f"thinking.max_tokens: {API} takes at least {MIN_BUDGET:,}, or 0 for no thinking, or auto; got {got}"
        )
    if budget >= max_tokens:
        raise InputError(
            f"thinking.max_tokens: {API} counts thinking within max_tokens, and {budget:,} is not less than "
            f"{max_tokens:,}; raise max_tokens"
        )


def _sampling(request: GenerationRequest, *, is_thinking: bool) -> dict[str, Any]:
    """Sampling parameters that differ from the API's defaults.

    Raises:
        InputError: it does not take them.
    """
    temperature = None if request.temperature == 1 else request.temperature
    top_p = None if request.top_p == 1 else request.top_p
    if temperature is not None and not 0 <= temperature <= 1:
        raise InputError(f"temperature: {API} takes 0 to 1, got {temperature:g}")
    if is_thinking and temperature is not None:
        raise InputError(f"temperature: must be 1 or null while a model of {API} thinks, got {temperature:g}")
    if is_thinking and top_p is not None and top_p < MIN_TOP_P:
        raise InputError(f"top_p: must be at least {MIN_TOP_P:g} while a model of {API} thinks, got {top_p:g}")
    if is_thinking and request.top_k is not None:
        raise InputError(f"top_k: must be left out while a model of {API} thinks")
    if temperature is not None and top_p is not None:
        raise InputError(f"temperature, top_p: {API} takes one of them; set the other to null")
    return {"temperature": temperature, "top_p": top_p, "top_k": request.top_k}


def _texts(blocks: list[Mapping[str, Any]]) -> tuple[str, str]:
    """Thinking and answer. A text that citations cut into several blocks is one; others are paragraphs.

    Raises:
        UnusableError: a block holds something else than text.
    """
    thinking, texts, former = list[str](), list[str](), None
    for place, block in enumerate(blocks):
        kind = block.get("type")
        if kind == "thinking":
            thinking.append(text_of(block.get("thinking"), f"content[{place}].thinking"))
        elif kind == "text":
            text = text_of(block.get("text"), f"content[{place}].text")
            if former == "text":
                texts[-1] += text
            else:
                texts.append(text)
        former = kind
    return joined(thinking), joined(texts)
