"""Completions over HTTP: our own server (with budgets), or any OpenAI-compatible one (without).

Requests with messages go to `/chat/completions`, requests with token ids to `/completions`. A budget travels as the
request's `thinking` object, and our server's accounting comes back in the choice's; a server that does not know
`thinking` gets none, and its own count of reasoning tokens is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from s1ray.generation.base import GenerationError, GenerationRequest
from s1ray.generation.transport import AtEndpoint
from s1ray.schemas import Completion
from s1ray.thinking.format import ThinkingFormat


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

    async def complete(self, request: GenerationRequest) -> Completion:
        """Generate one response."""
        path = "/chat/completions" if request.messages is not None else "/completions"
        body = self._body(request)
        async with self._free:
            answer = await self._transport.ask(request.id, path, body)
        try:
            return self._completion(request, answer)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise GenerationError(
                f"request {request.id!r}: {self._transport.base_url}{path} answered in a form that is not OpenAI's "
                f"({type(error).__name__}: {error}): {str(answer)[:300]}"
            ) from error

    def _body(self, request: GenerationRequest) -> dict[str, object]:
        body: dict[str, object] = {"model": self._model, "temperature": request.temperature, "top_p": request.top_p}
        if request.messages is not None:
            body["messages"] = [dict(message) for message in request.messages]
        else:
            body["prompt"] = list(request.prompt_ids or ())
        if request.max_tokens is not None:
            body["max_tokens"] = request.max_tokens
        if request.seed is not None:
            body["seed"] = request.seed
        if request.budget is not None:
            body["thinking"] = request.budget.model_dump(mode="json", exclude_unset=True)
        return body | self._extra

    def _completion(self, request: GenerationRequest, answer: Mapping[str, Any]) -> Completion:
        choice = answer["choices"][0]
        usage = answer.get("usage") or {}
        ours = choice.get("thinking") or {}
        if request.messages is not None:
            message = choice["message"]
            thinking = message.get("reasoning") or message.get("reasoning_content") or ""
            text = message.get("content") or ""
        else:
            thinking, text = ours.get("text") or "", ours.get("answer", choice.get("text")) or ""
        if not thinking and "thinking_tokens" not in ours and self._format is not None:
            thinking, text = self._format.split(text)
        details = usage.get("completion_tokens_details") or {}
        thinking_tokens = ours.get("thinking_tokens", details.get("reasoning_tokens") or 0)
        rest = max(0, (usage.get("completion_tokens") or 0) - thinking_tokens)
        finish_reason = choice.get("finish_reason") or "stop"
        return Completion(
            id=request.id,
            thinking=thinking,
            answer=text,
            prompt_tokens=usage.get("prompt_tokens") or 0,
            thinking_tokens=thinking_tokens,
            answer_tokens=ours.get("answer_tokens", rest),
            waits=ours.get("waits", 0),
            end_forced=ours.get("end_forced"),
            answer_cut=ours.get("answer_cut", finish_reason == "length"),
            finish_reason=finish_reason,
            output_ids=choice.get("token_ids"),
        )
