"""JSON over HTTP with retries, for the engines that talk to a server.

Transient failures (no connection, a time-out, 408, 425, 429, 5xx, a 200 that tells of an error, a body that cannot be
read) are retried a bounded number of times, with exponential back-off or after the server's Retry-After. A faulty
request (other 4xx) is not.
"""

from __future__ import annotations

import asyncio
import email.utils
import itertools
import json
import math
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from s1ray.errors import InputError
from s1ray.generation.answers import MAX_BODY, UnusableError, decode, refuse_error
from s1ray.generation.base import Call, CallOutcome, GenerationError, OnCall, Usage
from s1ray.generation.wires.base import Wire

T = TypeVar("T")

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
"""Statuses of transient failures."""

FIRST_PAUSE = 0.5
"""Seconds before the second attempt; doubled for each further one."""

FIRST_PAUSE_BUSY = 5.0
"""The same after a 429 without Retry-After: quotas are counted in minutes."""

MAX_PAUSE = 60.0
"""Most seconds between two attempts, where the server does not say how long to wait."""

MAX_WAIT = 3600.0
"""Seconds that one request waits in all because the server says so; then it fails, in words."""

EMPTY = ("insufficient_quota", "exceeded your current quota", "billing", "insufficient balance")
"""Words of a 429 that waiting does not help: the account is empty."""

JSON = {"Content-Type": "application/json"}

SPREAD = 5.0
"""Seconds within which requests go on after a common pause."""


class Transport:
    """Connections to one address.

    Args:
        base_url: the address with its `/v1`.
        wire: how the API wants its key, and counts tokens.
        api_key: None: none is sent.
        connections: open at most.
        timeout: seconds that one attempt may take, from sending to the last byte.
        attempts: tries of one request.
        transport: replaces the network, for tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        wire: Wire,
        api_key: str | None,
        connections: int,
        timeout: float,
        attempts: int,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts}")
        if api_key is not None and not re.fullmatch(r"[!-~]+", api_key):
            raise InputError(
                f"the API key for {base_url} is empty or holds a space, a line break or a character that is not ASCII; "
                "give it without what stands around it"
            )
        self.base_url = base_url.rstrip("/")
        self._attempts = attempts
        self._timeout = timeout
        self._wire = wire
        self._key = api_key
        self._pause = _Pause()
        self._client = httpx.AsyncClient(
            headers=wire.headers(api_key),
            timeout=httpx.Timeout(timeout, connect=min(timeout, 30.0)),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            transport=transport,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(
        self,
        request_id: str,
        path: str,
        body: Mapping[str, object] | None = None,
        read: Callable[[Mapping[str, Any]], T] | None = None,
        on_call: OnCall | None = None,
        numbers: Iterator[int] | None = None,
    ) -> T:
        """POST a body (GET without one); give what `read` makes of the answer's JSON object.

        After a 429 all requests of this transport pause together, as long as the server says.

        Args:
            request_id: begins every message.
            path: behind the base address.
            body: sent as JSON.
            read: raises UnusableError where the answer is of no use or tells of an error. None: the object itself.
            on_call: is told of every call.
            numbers: of the calls, where one request needs several answers. None: from 1.

        Raises:
            GenerationError: no answer could be had.
        """
        url, waited = f"{self.base_url}{path}", 0.0
        try:
            sent = None if body is None else json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise GenerationError(f"request {request_id!r}: it cannot be written as JSON in UTF-8: {error}") from None
        problem, attempt = "", 0
        numbers = numbers or itertools.count(1)
        while attempt < self._attempts:
            await self._pause.over()
            call = _CallTold(request_id, next(numbers), on_call, self._without_key)
            unusable: CallOutcome = "retried" if attempt + 1 < self._attempts else "failed"
            try:
                status, headers, content = await self._exchange(url, sent)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                problem = f"{type(error).__name__}: {error}"
                call.end(unusable, problem)
            except (httpx.TimeoutException, TimeoutError):
                problem = f"no answer within {self._timeout:g} s"
                call.end("lost", problem)
            except httpx.DecodingError as error:
                problem = f"the body does not decompress: {error}"
                call.end("lost", problem)
            except UnusableError as error:
                problem = str(error)
                call.end("lost", problem)
            except httpx.RequestError as error:
                problem = f"{type(error).__name__}: {error}"
                call.end("lost", problem)
            except BaseException as error:
                call.end("lost", type(error).__name__)
                raise
            else:
                outcome = self._judge(status, content, read)
                if not isinstance(outcome, _Problem):
                    call.end("answered", None, outcome[1])
                    return outcome[0]
                problem = self._without_key(outcome.why)
                if not outcome.transient:
                    call.end("lost" if outcome.lost else "failed", problem, outcome.usage)
                    raise GenerationError(f"request {request_id!r}: {url}: {problem}")
                pause = _retry_after(headers) if status in RETRIED else None
                told_to_wait = pause is not None and waited + pause <= MAX_WAIT
                beyond = pause is not None and not told_to_wait
                ending: CallOutcome = "failed" if beyond else "retried" if told_to_wait and status == 429 else unusable
                call.end("lost" if outcome.lost else ending, problem, outcome.usage)
                if pause is not None:
                    waited += pause
                    if waited > MAX_WAIT:
                        raise GenerationError(
                            f"request {request_id!r}: {url}: {problem}; the server asks to wait {pause:,.0f} s, more "
                            f"than {MAX_WAIT:,.0f} s in all"
                        )
                    # Waiting as told costs no attempt: a busy hour must not fail the rows of that hour.
                    await self._rest(pause, together=status == 429)
                    attempt += status != 429
                    continue
                if status == 429:
                    await self._backoff(FIRST_PAUSE_BUSY, attempt, together=True)
                    attempt += 1
                    continue
            await self._backoff(FIRST_PAUSE, attempt)
            attempt += 1
        tries = f"{self._attempts} attempt" + "s" * (self._attempts > 1)
        problem = self._without_key(problem)
        raise GenerationError(f"request {request_id!r}: {url}: gave up after {tries}: {problem}")

    async def _exchange(self, url: str, body: bytes | None) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and decoded body of one call."""
        async with (
            asyncio.timeout(self._timeout),
            self._client.stream("GET" if body is None else "POST", url, content=body, headers=JSON) as response,
        ):
            parts, size = [], 0
            async for part in response.aiter_bytes():
                size += len(part)
                if size > MAX_BODY:
                    raise UnusableError(f"the body has more than {MAX_BODY:,} bytes")
                parts.append(part)
            return response.status_code, response.headers, b"".join(parts)

    def _judge(
        self, status: int, content: bytes, read: Callable[[Mapping[str, Any]], T] | None
    ) -> tuple[T, Usage | None] | _Problem:
        if not 200 <= status < 300:
            message = _message(content, status)
            empty = status == 429 and any(word in message.lower() for word in EMPTY)
            # Behind a gateway that waits no longer the model goes on, and so does the bill.
            return _Problem(f"status {status}: {message}", status in RETRIED and not empty, lost=status == 504)
        usage: Usage | None = None
        try:
            answer = decode(content)
            usage = self._wire.usage(answer)
            if read is None:
                refuse_error(answer)
            result: Any = answer if read is None else read(answer)
        except UnusableError as error:
            lost = usage is None and not error.told
            return _Problem(f"status {status}, but {error}", error.transient, usage, lost)
        except RecursionError:
            return _Problem(f"status {status}, but the answer is nested too deeply", True, usage, usage is None)
        return result, usage

    async def _backoff(self, first: float, attempt: int, *, together: bool = False) -> None:
        if attempt + 1 < self._attempts:
            # Jitter, so that clients that failed together do not retry together.
            await self._rest(min(MAX_PAUSE, first * 2**attempt * random.uniform(0.5, 1.5)), together=together)

    async def _rest(self, seconds: float, *, together: bool) -> None:
        if together:
            # Every request waits before its next call, this one too.
            self._pause.begin(seconds)
        else:
            await asyncio.sleep(seconds)

    def _without_key(self, message: str) -> str:
        """A server may repeat the key that it refuses."""
        return message.replace(self._key, "(key)") if self._key else message


@dataclass(frozen=True)
class _Problem:
    why: str
    transient: bool
    usage: Usage | None = None
    lost: bool = False
    """The provider may have billed an answer, and its count cannot be read."""


class _Pause:
    """A pause that all requests of a transport keep; they go on one after the other, not all at once."""

    def __init__(self) -> None:
        self._until = 0.0

    def begin(self, seconds: float) -> None:
        self._until = max(self._until, time.monotonic() + seconds)

    async def over(self) -> None:
        # While one waits, another may be told to wait longer.
        until = 0.0
        while until < self._until and (left := self._until - time.monotonic()) > 0:
            until = self._until
            await asyncio.sleep(left + random.uniform(0, min(left, SPREAD)))


class _CallTold:
    """Tells of a call when it is made, and once more when it has ended."""

    def __init__(self, request_id: str, number: int, on_call: OnCall | None, without_key: Callable[[str], str]) -> None:
        self._request_id, self._number, self._on_call, self._without_key = request_id, number, on_call, without_key
        if on_call is not None:
            on_call(Call(request_id, number, "sent"))

    def end(self, outcome: CallOutcome, reason: str | None, usage: Usage | None = None) -> None:
        if self._on_call is not None:
            reason = None if reason is None else self._without_key(reason)
            self._on_call(Call(self._request_id, self._number, outcome, usage, reason))


class AtEndpoint:
    """What generators over HTTP share: connections to one address, requests in flight at most, and `async with`.

    Args:
        base_url: the address with its `/v1`.
        model: the model's name there.
        wire: the API's format.
        api_key: None: none is sent.
        concurrency: requests in flight at most.
        timeout: seconds that one attempt may take, from sending to the last byte.
        attempts: tries of one request.
        extra_body: further fields for every request.
        on_call: is told of every call that is sent, and of its end.
        transport: replaces the network, for tests.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        wire: Wire,
        api_key: str | None,
        concurrency: int,
        timeout: float,
        attempts: int,
        extra_body: Mapping[str, object] | None,
        on_call: OnCall | None,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._transport = Transport(
            base_url,
            wire=wire,
            api_key=api_key,
            connections=concurrency,
            timeout=timeout,
            attempts=attempts,
            transport=transport,
        )
        self._wire = wire
        self._model = model
        self._on_call = on_call
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


def _message(content: bytes, status: int) -> str:
    """What the server says is wrong: OpenAI's `error.message` where there is one, else the body's beginning."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return content[:300].decode("utf-8", "replace") or httpx.codes.get_reason_phrase(status)
    error = body.get("error", body) if isinstance(body, dict) else body
    message = error.get("message") if isinstance(error, dict) else error
    code = error.get("code") if isinstance(error, dict) else None
    said = str(message if message is not None else body)[:1000]
    return f"{said} ({code})" if isinstance(code, str) and code not in said else said


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds to wait by the Retry-After header (seconds or a date); None: it says nothing that can be read."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
