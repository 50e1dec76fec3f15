"""JSON over HTTP with retries, for the engines that talk to a server.

Transient failures (no connection, a time-out, 408, 425, 429, 5xx) are retried a bounded number of times, with
exponential back-off or after the server's Retry-After. A faulty request (other 4xx) is not.
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

from s1ray.generation.base import GenerationError

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of transient failures."""

FIRST_PAUSE = 0.5
"""Seconds before the second attempt; doubled for each further one."""

FIRST_PAUSE_BUSY = 5.0
"""The same after a 429 without Retry-After: quotas are counted in minutes."""

MAX_PAUSE = 60.0
"""Most seconds between two attempts, whatever Retry-After says."""


class Transport:
    """Connections to one address.

    Args:
        base_url: the address with its `/v1`.
        api_key: sent as a bearer token.
        connections: open at most.
        timeout: seconds that one attempt may take, from sending to the last byte.
        attempts: tries of one request.
        transport: replaces the network, for tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        connections: int,
        timeout: float,
        attempts: int,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts}")
        self.base_url = base_url.rstrip("/")
        self._attempts = attempts
        self._timeout = timeout
        self._client = httpx.AsyncClient(
            headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 30.0)),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            transport=transport,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(self, request_id: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """POST a body (GET without one); give the answer's JSON.

        Raises:
            GenerationError: no answer could be had; begins with `request_id`.
        """
        url = f"{self.base_url}{path}"
        problem = ""
        for attempt in range(self._attempts):
            pause: float | None = None
            first = FIRST_PAUSE
            try:
                async with asyncio.timeout(self._timeout):
                    response = await self._client.request("GET" if body is None else "POST", url, json=body)
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
                    first = FIRST_PAUSE_BUSY if response.status_code == 429 else FIRST_PAUSE
            if attempt + 1 < self._attempts:
                # Jitter, so that clients that failed together do not retry together.
                backoff = first * 2**attempt * random.uniform(0.5, 1.5)
                await asyncio.sleep(min(MAX_PAUSE, backoff if pause is None else pause))
        tries = f"{self._attempts} attempt" + "s" * (self._attempts > 1)
        raise GenerationError(f"request {request_id!r}: {url}: gave up after {tries}: {problem}")


class AtEndpoint:
    """What generators over HTTP share: connections to one address, requests in flight at most, and `async with`.

    Args:
        base_url: the address with its `/v1`.
        model: the model's name there.
        api_key: sent as a bearer token.
        concurrency: requests in flight at most.
        timeout: seconds that one attempt may take, from sending to the last byte.
        attempts: tries of one request.
        extra_body: further fields for every request.
        transport: replaces the network, for tests.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None,
        concurrency: int,
        timeout: float,
        attempts: int,
        extra_body: Mapping[str, object] | None,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._transport = Transport(
            base_url,
            api_key=api_key,
            connections=concurrency,
            timeout=timeout,
            attempts=attempts,
            transport=transport,
        )
        self._model = model
        self._extra = dict(extra_body or {})
        self._free = asyncio.Semaphore(concurrency)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()


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
