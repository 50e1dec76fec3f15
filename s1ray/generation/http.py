"""Completions over HTTP: our own server (with budgets), or any OpenAI-compatible one (without).

Requests with messages go to `/chat/completions`, requests with token ids to `/completions`. A budget travels as the
request's `thinking` object, and our server's accounting comes back in the choice's; a server that does not know
`thinking` gets none, and its own count of reasoning tokens is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from s1ray.generation.answers import UnusableError, mapping, storable, text_of, whole
from s1ray.generation.base import GenerationError, GenerationRequest, OnCall, Usage
from s1ray.generation.transport import AtEndpoint
from s1ray.schemas import Completion
from s1ray.thinking.format import ThinkingFormat

FINISH_REASONS = {
    "": "unknown",
    **dict.fromkeys(("eos", "eos_token", "end_turn", "stop_sequence", "completed"), "stop"),
    **dict.fromkeys(("max_tokens", "max_output_tokens", "max_length", "model_length"), "length"),
    **dict.fromkeys(("safety", "recitation", "SAFETY", "RECITATION"), "content_filter"),
}
"""Other servers' words for the same."""

RETRIED_REASONS = frozenset({"insufficient_system_resource", "abort", "error"})
"""Finish reasons that are the server's fault: asked again, as far as attempts go; the last answer stays as it is."""


class HTTPGenerator(AtEndpoint):
    """Completes requests at an endpoint; use as `async with`, or call `close`.

    Args:
        base_url: the address with its `/v1`.
        model: the model's name there.
        api_key: sent as a bearer token.
        concurrency: requests in flight at most, further ones wait.
        timeout: seconds that one attempt may take, from sending to the last byte.
        attempts: tries of one request.
        thinking_format: splits thinking from answer where the server does not (the model's tokens must then be in the
            text). None: such a text is all answer.
        extra_body: further fields for every request.
        on_call: is told of every call that is sent, and of its end.
        transport: replaces the network, for tests.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        concurrency: int = 64,
        timeout: float = 3600.0,
        attempts: int = 4,
        thinking_format: ThinkingFormat | None = None,
        extra_body: Mapping[str, object] | None = None,
        on_call: OnCall | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(
            base_url,
            model,
            api_key=api_key,
            concurrency=concurrency,
            timeout=timeout,
            attempts=attempts,
            extra_body=extra_body,
            transport=transport,
        )
        self._format = thinking_format
        self._on_call = on_call

    async def complete(self, request: GenerationRequest) -> Completion:
        """Generate one response."""
        path = "/chat/completions" if request.messages is not None else "/completions"
        body = self._body(request)
        last: list[Completion] = []

        def read(answer: Mapping[str, Any]) -> Completion:
            completion = self._completion(request, answer)
            if completion.finish_reason in RETRIED_REASONS:
                last[:] = [completion]
                raise UnusableError(f"it ended with {completion.raw_finish_reason!r}", usage=_usage(answer))
            return completion

        async with self._free:
            try:
                return await self._transport.ask(request.id, path, body, read, _usage, self._on_call)
            except GenerationError:
                # An incomplete answer says more than none.
                if last:
                    return last[0]
                raise

    def _body(self, request: GenerationRequest) -> dict[str, object]:
        body: dict[str, object] = {"model": self._model, "temperature": request.temperature, "top_p": request.top_p}
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
        return body | self._extra

    def _completion(self, request: GenerationRequest, answer: Mapping[str, Any]) -> Completion:
        """Raises UnusableError."""
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices:
            raise UnusableError("its form is not OpenAI's: choices is missing or empty")
        choice = mapping(choices[0], "choices[0]")
        usage = _usage(answer)
        ours = mapping(choice.get("thinking"), "thinking")
        refused = False
        if request.messages is not None:
            if "message" not in choice:
                raise UnusableError("its form is not OpenAI's: choices[0].message is missing")
            message = mapping(choice["message"], "message")
            thinking, text, refused = _texts(message)
        else:
            thinking = text_of(ours.get("text"), "thinking.text")
            text = text_of(ours.get("answer", choice.get("text")), "text")
        if not thinking and "thinking_tokens" not in ours and self._format is not None:
            thinking, text = self._format.split(text)
        thinking_tokens = whole(ours.get("thinking_tokens"), "thinking_tokens")
        if "thinking_tokens" not in ours:
            thinking_tokens = usage.reasoning_tokens or 0
        raw = choice.get("finish_reason")
        finish_reason = "refusal" if refused else FINISH_REASONS.get(raw, raw) if isinstance(raw, str) else "unknown"
        rest = max(0, usage.completion_tokens - thinking_tokens)
        answer_tokens = whole(ours["answer_tokens"], "answer_tokens") if "answer_tokens" in ours else rest
        ids, version = choice.get("token_ids"), answer.get("model")
        return Completion(
            id=request.id,
            thinking=thinking,
            answer=text,
            prompt_tokens=usage.prompt_tokens,
            thinking_tokens=thinking_tokens,
            answer_tokens=answer_tokens,
            waits=whole(ours.get("waits"), "waits"),
            end_forced=None if ours.get("end_forced") is None else text_of(ours["end_forced"], "end_forced"),
            answer_cut=bool(ours.get("answer_cut", finish_reason == "length")),
            finish_reason=finish_reason,
            output_ids=[whole(token, "token_ids") for token in ids] if isinstance(ids, list) else None,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens if answer.get("usage") else None,
            model_version=storable(version, "model") if isinstance(version, str) else None,
            raw_finish_reason=storable(raw, "finish_reason") if isinstance(raw, str) else None,
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


def _usage(answer: Mapping[str, Any]) -> Usage:
    """The provider's count.

    Raises:
        UnusableError: a count is no number.
    """
    usage = mapping(answer.get("usage"), "usage")
    details = mapping(usage.get("completion_tokens_details"), "completion_tokens_details")
    cached = mapping(usage.get("prompt_tokens_details"), "prompt_tokens_details")
    reasoning = details.get("reasoning_tokens")
    return Usage(
        prompt_tokens=whole(usage.get("prompt_tokens"), "prompt_tokens"),
        cached_tokens=whole(cached.get("cached_tokens", usage.get("prompt_cache_hit_tokens")), "cached_tokens"),
        completion_tokens=whole(usage.get("completion_tokens"), "completion_tokens"),
        reasoning_tokens=None if reasoning is None else whole(reasoning, "reasoning_tokens"),
    )
