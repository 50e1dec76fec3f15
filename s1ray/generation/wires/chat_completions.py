"""OpenAI's chat completions, which most servers speak (our own, too, with budgets); token ids go to `/completions`.

A budget travels as the request's `thinking` object, and our server's accounting comes back in the choice's. Of a server
that does not know `thinking`, its own count of reasoning tokens is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s1ray.generation.answers import UnusableError, mapping, refuse_error, storable, text_of, whole
from s1ray.generation.base import GenerationRequest, Usage
from s1ray.generation.wires.base import bearer, counts
from s1ray.schemas import Completion
from s1ray.thinking.format import ThinkingFormat

FINISH_REASONS = {
    "": "unknown",
    **dict.fromkeys(("eos", "eos_token", "end_turn", "stop_sequence", "completed"), "stop"),
    **dict.fromkeys(("max_tokens", "max_output_tokens", "max_length", "model_length"), "length"),
    **dict.fromkeys(("safety", "recitation", "SAFETY", "RECITATION"), "content_filter"),
}
"""Other servers' words for the same."""


class ChatCompletions:
    """`/chat/completions` for messages, `/completions` for token ids."""

    def path(self, request: GenerationRequest) -> str:
        """By what the prompt is."""
        return "/chat/completions" if request.messages is not None else "/completions"

    def headers(self, api_key: str | None) -> dict[str, str]:
        """The key as a bearer token."""
        return bearer(api_key)

    def body(self, request: GenerationRequest, model: str, extra: Mapping[str, object]) -> dict[str, Any]:
        """What is not set is left out, so that the server's defaults hold."""
        body: dict[str, Any] = {"model": model, "temperature": request.temperature, "top_p": request.top_p}
        if request.messages is not None:
            body["messages"] = [dict(message) for message in request.messages]
        else:
            body["prompt"] = list(request.prompt_ids or ())
        if request.max_tokens is not None:
            body["max_tokens"] = request.max_tokens
        if request.top_k is not None:
            body["top_k"] = request.top_k
        if request.reasoning_effort is not None:
            body["reasoning_effort"] = request.reasoning_effort
        if request.seed is not None:
            body["seed"] = request.seed
        if request.budget is not None:
            body["thinking"] = request.budget.model_dump(mode="json", exclude_unset=True)
        return body | dict(extra)

    def completion(
        self, request: GenerationRequest, answer: Mapping[str, Any], thinking_format: ThinkingFormat | None
    ) -> Completion:
        """The first choice."""
        refuse_error(answer)
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices:
            raise UnusableError("its form is not OpenAI's: choices is missing or empty")
        choice = mapping(choices[0], "choices[0]")
        usage = self.usage(answer)
        ours = mapping(choice.get("thinking"), "thinking")
        refused = False
        if request.messages is not None:
            if "message" not in choice:
                raise UnusableError("its form is not OpenAI's: choices[0].message is missing")
            thinking, text, refused = _texts(mapping(choice["message"], "message"))
        else:
            thinking = text_of(ours.get("text"), "thinking.text")
            text = text_of(ours.get("answer", choice.get("text")), "text")
        if not thinking and "thinking_tokens" not in ours and thinking_format is not None:
            thinking, text = thinking_format.split(text)
        counted = usage or Usage()
        thinking_tokens = whole(ours.get("thinking_tokens"), "thinking_tokens")
        if "thinking_tokens" not in ours:
            thinking_tokens = counted.reasoning_tokens or 0
        raw = choice.get("finish_reason")
        finish_reason = "refusal" if refused else FINISH_REASONS.get(raw, raw) if isinstance(raw, str) else "unknown"
        rest = max(0, counted.completion_tokens - thinking_tokens)
        answer_tokens = whole(ours["answer_tokens"], "answer_tokens") if "answer_tokens" in ours else rest
        ids, version = choice.get("token_ids"), answer.get("model")
        return Completion(
            id=request.id,
            thinking=thinking,
            answer=text,
            prompt_tokens=counted.prompt_tokens,
            thinking_tokens=thinking_tokens,
            answer_tokens=answer_tokens,
            waits=whole(ours.get("waits"), "waits"),
            end_forced=None if ours.get("end_forced") is None else text_of(ours["end_forced"], "end_forced"),
            answer_cut=bool(ours.get("answer_cut", finish_reason == "length")),
            finish_reason=finish_reason,
            output_ids=[whole(token, "token_ids") for token in ids] if isinstance(ids, list) else None,
            cached_tokens=counted.cached_tokens,
            completion_tokens=None if usage is None else usage.completion_tokens,
            model_version=storable(version, "model") if isinstance(version, str) else None,
            raw_finish_reason=storable(raw, "finish_reason") if isinstance(raw, str) else None,
        )

    def usage(self, answer: Mapping[str, Any]) -> Usage | None:
        """Reasoning is counted within the completion's tokens."""
        usage = counts(answer)
        if usage is None:
            return None
        details = mapping(usage.get("completion_tokens_details"), "completion_tokens_details")
        cached = mapping(usage.get("prompt_tokens_details"), "prompt_tokens_details")
        reasoning = details.get("reasoning_tokens")
        return Usage(
            prompt_tokens=whole(usage.get("prompt_tokens"), "prompt_tokens"),
            cached_tokens=whole(cached.get("cached_tokens", usage.get("prompt_cache_hit_tokens")), "cached_tokens"),
            completion_tokens=whole(usage.get("completion_tokens"), "completion_tokens"),
            reasoning_tokens=None if reasoning is None else whole(reasoning, "reasoning_tokens"),
        )


def _texts(message: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Thinking and answer of a message, in whatever form servers give them; and whether the answer is a refusal.

    Raises:
        UnusableError: a field holds something else than text.
    """
    content = message.get("content")
    thinking, parts = "", list[str]()
    for name in ("reasoning", "reasoning_content", "reasoning_details"):
        value = message.get(name)
        if isinstance(value, dict):
            value = [value]
        thinking = thinking or text_of(value, f"message.{name}")
    if isinstance(content, list):
        # Typed parts: thinking beside text, as some servers give them.
        for place, part in enumerate(content):
            is_thinking = isinstance(part, dict) and part.get("type") in ("thinking", "reasoning")
            said = text_of([part], f"message.content[{place}]")
            thinking, parts = (thinking + said, parts) if is_thinking else (thinking, [*parts, said])
        text = "".join(parts)
    else:
        text = text_of(content, "message.content")
    refusal = text_of(message.get("refusal"), "message.refusal")
    return thinking, text or refusal, bool(refusal)
