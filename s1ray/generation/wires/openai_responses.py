"""OpenAI's Responses API, and servers that speak it. Nothing is stored there (`store: false`).

Its requests and answers: https://developers.openai.com/api/reference/resources/responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from s1ray.errors import InputError
from s1ray.generation.answers import UnusableError, mapping, refuse_error, text_of, whole
from s1ray.generation.base import GenerationRequest, Usage
from s1ray.generation.wires.base import (
    bearer,
    completion_of,
    counted,
    details_of,
    effort_of,
    joined,
    listed,
    merged,
    named_schema,
    optional,
    refuse_unsaid,
    usage_of,
    word,
)
from s1ray.schemas import Completion
from s1ray.thinking.format import ThinkingFormat

API = "the Responses API"
MIN_TOKENS = 16
"""Of `max_output_tokens`."""

REASONS = {"max_output_tokens": "length", "max_tokens": "length"}
"""Why an answer is incomplete -> ours. "content_filter" is called the same here."""

Summary = Literal["auto", "concise", "detailed"]


@dataclass(frozen=True)
class OpenAIResponses:
    """`/responses`."""

    limits: ClassVar[tuple[str, ...]] = ("max_output_tokens",)

    summary: Summary | None = None
    """How detailed a summary of the reasoning is asked for; OpenAI's models do not give the reasoning itself. None:
    none is."""

    def path(self, request: GenerationRequest) -> str:
        """The same for all."""
        return "/responses"

    def headers(self, api_key: str | None) -> dict[str, str]:
        """The key as a bearer token."""
        return bearer(api_key)

    def body(self, request: GenerationRequest, model: str, extra: Mapping[str, object]) -> dict[str, Any]:
        """A temperature or top_p of 1 is the API's default and left out: reasoning models take neither."""
        refuse_unsaid(request, API, top_k=False, budget=("effort",))
        if request.max_tokens is not None and request.max_tokens < MIN_TOKENS:
            raise InputError(f"max_tokens: {API} takes at least {MIN_TOKENS}, got {request.max_tokens}")
        reasoning = {"effort": effort_of(request), "summary": self.summary}
        asked: dict[str, Any] = {
            "model": model,
            "input": [dict(message) for message in request.messages or ()],
            "max_output_tokens": request.max_tokens,
            "reasoning": {name: value for name, value in reasoning.items() if value is not None} or None,
            "temperature": None if request.temperature == 1 else request.temperature,
            "top_p": None if request.top_p == 1 else request.top_p,
            "store": False,
        }
        return merged({name: value for name, value in asked.items() if value is not None}, extra)

    def json_answers(self, schema: Mapping[str, object]) -> dict[str, Any]:
        """A format of the text."""
        return {"text": {"format": {"type": "json_schema", **named_schema(schema)}}}

    def completion(
        self, request: GenerationRequest, answer: Mapping[str, Any], thinking_format: ThinkingFormat | None
    ) -> Completion:
        """All items of reasoning, and all messages."""
        refuse_error(answer)
        if not isinstance(answer.get("output"), list):
            raise UnusableError("its form is not that of the Responses API: output is missing or no list")
        thinking, text, refused = _texts(listed(answer["output"], "output"))
        raw = _raw_reason(answer)
        reasons = {None: "unknown", "completed": "stop"} | REASONS
        return completion_of(
            request,
            (thinking, text),
            self.usage(answer),
            finish_reason="refusal" if refused else reasons.get(raw) or str(raw),
            raw_finish_reason=raw,
            model_version=word(answer.get("model"), "model"),
            thinking_format=thinking_format,
        )

    def usage(self, answer: Mapping[str, Any]) -> Usage | None:
        """Reasoning is counted within the output's tokens, and cached tokens within the input's."""
        return counted(answer, _usage)


def _usage(usage: Mapping[str, Any]) -> Usage:
    prompt = details_of(usage, "input_tokens_details")
    details = details_of(usage, "output_tokens_details")
    return usage_of(
        prompt=whole(usage.get("input_tokens"), "input_tokens"),
        cached=whole(prompt.get("cached_tokens"), "cached_tokens"),
        cache_write=whole(prompt.get("cache_write_tokens"), "cache_write_tokens"),
        completion=whole(usage.get("output_tokens"), "output_tokens"),
        reasoning=optional(details.get("reasoning_tokens"), "reasoning_tokens"),
        total=whole(usage.get("total_tokens"), "total_tokens"),
    )


def _raw_reason(answer: Mapping[str, Any]) -> str | None:
    """Why the response ended: its status, or of an incomplete one the reason. None: not said.

    Raises:
        UnusableError: it did not end, or failed.
    """
    status = word(answer.get("status"), "status")
    if status == "incomplete":
        details = mapping(answer.get("incomplete_details"), "incomplete_details")
        return word(details.get("reason"), "incomplete_details.reason") or status
    if status in ("failed", "cancelled", "queued", "in_progress"):
        raise UnusableError(f"the response's status is {status!r}", told=status == "failed")
    return status


def _texts(output: list[Mapping[str, Any]]) -> tuple[str, str, bool]:
    """Reasoning (its summary where there is no text of it) and answer; and whether a part of it is a refusal.

    Raises:
        UnusableError: an item holds something else than text.
    """
    thinking, texts, refused = list[str](), list[str](), False
    for place, item in enumerate(output):
        field = f"output[{place}]"
        if item.get("type") == "reasoning":
            for name in ("content", "summary"):
                parts = listed(item.get(name), f"{field}.{name}")
                if text := joined([text_of(part.get("text"), f"{field}.{name}.text") for part in parts]):
                    thinking.append(text)
                    break
        elif item.get("type") == "message":
            parts = listed(item.get("content"), f"{field}.content")
            refused = refused or any(part.get("refusal") for part in parts)
            said = (part.get("refusal") or part.get("text") for part in parts)
            texts.append("".join(text_of(text, f"{field}.content.text") for text in said))
    return joined(thinking), joined(texts), refused
