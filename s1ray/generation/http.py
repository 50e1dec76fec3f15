"""Completions over HTTP: our own server (with budgets), an OpenAI-compatible one, or another provider's API.

What is sent and what comes back is the wire's matter (`s1ray.generation.wires`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import httpx

from s1ray.errors import InputError
from s1ray.generation.answers import UnusableError
from s1ray.generation.base import GenerationError, GenerationRequest, OnCall, RefusedError
from s1ray.generation.endpoint import AtEndpoint
from s1ray.generation.pace import Pace
from s1ray.generation.transport import Calls
from s1ray.generation.wires import ChatCompletions, Wire
from s1ray.generation.wires.base import answer_limit, refusal
from s1ray.schemas import Completion
from s1ray.thinking.format import ThinkingFormat

RETRIED_REASONS = frozenset({"insufficient_system_resource", "abort", "error"})
"""Finish reasons that are the server's fault: asked again, as far as attempts go; the last answer stays as it is."""


class HTTPGenerator(AtEndpoint):
    """Completes requests at an endpoint; use as `async with`, or call `close`.

    Args:
        base_url: the address with its `/v1`, or several that serve the same.
        model: the model's name there.
        wire: the API's format. None: chat completions.
        api_key: None: none is sent.
        concurrency: requests in flight at most, further ones wait.
        timeout: seconds that one attempt may take, from sending to the last byte.
        attempts: tries of one request, times the number of addresses.
        retried_reasons: finish reasons, ours or in the provider's words, that are asked again as far as attempts go;
            the last answer stays as it is.
        requests_per_minute: started at most. None: not limited.
        tokens_per_minute: of prompts and answers together. None: not limited.
        thinking_format: splits thinking from answer where the server does not (the model's tokens must then be in the
            text). None: such a text is all answer.
        extra_body: further fields for every request.
        on_call: is told of every call that is sent, and of its end.
        transport: replaces the network, for tests.
    """

    def __init__(
        self,
        base_url: str | Sequence[str],
        model: str,
        *,
        wire: Wire | None = None,
        api_key: str | None = None,
        concurrency: int = 64,
        timeout: float = 3600.0,
        attempts: int = 4,
        retried_reasons: Collection[str] = RETRIED_REASONS,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        thinking_format: ThinkingFormat | None = None,
        extra_body: Mapping[str, object] | None = None,
        on_call: OnCall | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(
            base_url,
            model,
            wire=wire or ChatCompletions(),
            api_key=api_key,
            concurrency=concurrency,
            timeout=timeout,
            attempts=attempts,
            pace=lambda: Pace(requests_per_minute, tokens_per_minute),
            extra_body=extra_body,
            on_call=on_call,
            transport=transport,
        )
        self._format = thinking_format
        self._retried = frozenset(retried_reasons)

    async def complete(self, request: GenerationRequest) -> Completion:
        """Generate one response. One that a filter of the provider's does not allow is a refusal without text."""
        try:
            body = self._wire.body(request, self._model, self._extra)
            limit = answer_limit(self._wire, body)
        except InputError as error:
            raise GenerationError(f"request {request.id!r}: {error}") from error
        last: list[Completion] = []
        calls = Calls(request.id, self._on_call)

        def read(answer: Mapping[str, Any]) -> Completion:
            completion = self._wire.completion(request, answer, self._format)
            if not self._retried.isdisjoint((completion.finish_reason, completion.raw_finish_reason)):
                last[:] = [completion]
                raise UnusableError(f"it ended with {completion.raw_finish_reason!r}")
            return completion

        async with self._free:
            try:
                return await self._transport.ask(calls, self._wire.path(request), body, read, limit)
            except RefusedError as error:
                return refusal(request, error.reason)
            except GenerationError:
                # An incomplete answer says more than none.
                if last:
                    return last[0]
                raise
