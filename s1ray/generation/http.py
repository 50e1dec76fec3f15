"""Completions over HTTP: our own server (with budgets), or any OpenAI-compatible one (without).

Requests with messages go to `/chat/completions`, requests with token ids to `/completions`. A budget travels as the
request's `thinking` object, and our server's accounting comes back in the choice's; a server that does not know
`thinking` gets none, and is believed about its reasoning tokens.

What fails for the moment (no connection, a time-out, 408, 429, 5xx) is tried again, a bounded number of times, with
exponential back-off or after the server's Retry-After. What is wrong with the request (other 4xx) is not.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from s1ray.generation.base import GenerationError, GenerationRequest
from s1ray.schemas import Completion
from s1ray.thinking.format import ThinkingFormat

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may pass."""

FIRST_PAUSE = 0.5
"""Seconds before the second attempt; doubled for each further one."""

LONGEST_PAUSE = 60.0
"""Seconds between two attempts at most, whatever Retry-After says."""


class HTTPGenerator:
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
        timeout: float = 600.0,
        attempts: int = 4,
        thinking_format: ThinkingFormat | None = None,
        extra_body: Mapping[str, Any] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts}")
        self._base_url = base_url.rstrip("/")
        self._model = model
        self._attempts = attempts
        self._format = thinking_format
        self._extra = dict(extra_body or {})
        self._timeout = timeout
        self._free = asyncio.Semaphore(concurrency)
        self._client = httpx.AsyncClient(
            headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 30.0)),
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def complete(self, request: GenerationRequest) -> Completion:
        """Generate one response."""
        path = "/chat/completions" if request.messages is not None else "/completions"
        body = self._body(request)
        async with self._free:
            answer = await self._post(request.id, path, body)
        try:
            return self._completion(request, answer)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise GenerationError(
                f"request {request.id!r}: {self._base_url}{path} answered in a form that is not OpenAI's "
                f"({type(error).__name__}: {error}): {str(answer)[:300]}"
            ) from error

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._model, "temperature": request.temperature, "top_p": request.top_p}
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

    async def _post(self, request_id: str, path: str, body: dict[str, Any]) -> Any:
        url = f"{self._base_url}{path}"
        problem = ""
        for attempt in range(self._attempts):
            pause: float | None = None
            try:
                async with asyncio.timeout(self._timeout):
                    response = await self._client.post(url, json=body)
            except (httpx.TimeoutException, TimeoutError):
                problem = f"no answer within {self._timeout:g} s"
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    try:
                        return response.json()
                    except ValueError:
                        problem = f"status {response.status_code}, but no JSON: {response.text[:200]!r}"
                else:
                    problem = f"status {response.status_code}: {_message(response)}"
                    if response.status_code not in RETRIED:
                        raise GenerationError(f"request {request_id!r}: {url}: {problem}")
                    pause = _retry_after(response)
            if attempt + 1 < self._attempts:
                # Spread out, so that clients that failed together do not come back together.
                backoff = FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5)
                await asyncio.sleep(min(LONGEST_PAUSE, backoff if pause is None else pause))
        tries = f"{self._attempts} attempt" + "s" * (self._attempts > 1)
        raise GenerationError(f"request {request_id!r}: {url}: gave up after {tries}: {problem}")

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
        return Completion(
            id=request.id,
            thinking=thinking,
            answer=text,
            prompt_tokens=usage.get("prompt_tokens") or 0,
            thinking_tokens=thinking_tokens,
            answer_tokens=ours.get("answer_tokens", rest),
            waits=ours.get("waits", 0),
            end_forced=ours.get("end_forced"),
            finish_reason=choice.get("finish_reason") or "stop",
            output_ids=choice.get("token_ids"),
        )


def _message(response: httpx.Response) -> str:
    """What the server says is wrong: OpenAI's `error.message` where there is one, else the body's beginning."""
    try:
        body = response.json()
    except ValueError:
        return response.text[:300] or response.reason_phrase
    error = body.get("error", body) if isinstance(body, dict) else body
    message = error.get("message") if isinstance(error, dict) else error
    return str(message if message is not None else body)[:1000]


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds to wait by the Retry-After header (seconds or a date); None: it says nothing that can be read."""
    value = response.headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
