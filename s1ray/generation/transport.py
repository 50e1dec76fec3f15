"""JSON over HTTP with retries, for the engines that talk to a server.

Transient failures (no connection, a time-out, 408, 409, 425, 429, 5xx, a 200 that tells of an error, a body that cannot
be read) are retried a bounded number of times, with exponential back-off or after the wait that the server asks for. A
faulty request (other 4xx) is not. When calls start is the matter of `pace`.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx

from s1ray.errors import InputError
from s1ray.generation.answers import MAX_BODY, UnusableError, decode, is_refusal, refuse_error
from s1ray.generation.base import Call, CallOutcome, GenerationError, OnCall, RefusedError, Usage
from s1ray.generation.pace import Pace, reset_wait, told_wait
from s1ray.generation.redaction import Redaction
from s1ray.generation.wires.base import Wire

T = TypeVar("T")

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses of transient failures, unless the server's `x-should-retry` says otherwise."""

FIRST_PAUSE = 0.5
"""Seconds before the second attempt; doubled for each further one."""

FIRST_PAUSE_BUSY = 5.0
"""The same after a 429 that does not say how long: quotas are counted in minutes."""

MAX_PAUSE = 60.0
"""Most seconds between two attempts, where the server does not say how long to wait."""

MIN_WAIT = 1.0
"""Least seconds between two attempts after a 429, even where the server says that none need pass."""

MAX_WAIT = 3600.0
"""Seconds that one request waits in all because the server says so; then it fails, in words."""

EMPTY = ("insufficient_quota", "exceeded your current quota", "billing", "insufficient balance")
"""Words of a 429 that waiting does not help: the account is empty."""

JSON = {"Content-Type": "application/json"}

KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), 60)
        for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL")
        if hasattr(socket, name)
    ),
)
"""Options of sockets: what stands between drops a connection on which a long answer is waited for in silence."""


class Transport:
    """Connections to one address.

    Args:
        base_url: the address with its `/v1`.
        wire: how the API wants its key, and counts tokens.
        api_key: None: none is sent.
        connections: open at most.
        timeout: seconds that one attempt may take, from sending to the last byte.
        attempts: tries of one request.
        pace: when calls start.
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
        pace: Pace,
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
        self._redaction = Redaction(api_key)
        self._pace = pace
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        # A client with a transport of its own does not look for proxies.
        if transport is None and not urllib.request.getproxies():
            transport = httpx.AsyncHTTPTransport(limits=limits, socket_options=KEEPALIVE)
        self._client = httpx.AsyncClient(
            headers=wire.headers(api_key),
            timeout=httpx.Timeout(timeout, connect=min(timeout, 30.0)),
            limits=limits,
            transport=transport,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(
        self,
        calls: Calls,
        path: str,
        body: Mapping[str, object] | None = None,
        read: Callable[[Mapping[str, Any]], T] | None = None,
        max_tokens: int | None = None,
    ) -> T:
        """POST a body (GET without one); give what `read` makes of the answer's JSON object.

        Args:
            calls: of the request that this is for, whose id begins every message.
            path: behind the base address.
            body: sent as JSON.
            read: raises UnusableError where the answer is of no use or tells of an error. None: the object itself.
            max_tokens: that the answer can have. None: not limited.

        Raises:
            GenerationError: no answer could be had.
            RefusedError: a filter of the provider's does not allow one.
        """
        url, tries = f"{self.base_url}{path}", _Tries(self._attempts)
        where = f"request {calls.request_id!r}"
        try:
            sent = None if body is None else json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise GenerationError(f"{where}: it cannot be written as JSON in UTF-8: {error}") from None
        while True:
            turn = await self._pace.turn(len(sent or b""), max_tokens)
            try:
                end = calls.begin()
            except BaseException:
                turn.end(None, counts=False)  # it is not made
                raise
            try:
                found = await self._call(url, sent, read)
            except BaseException as error:
                end("lost", None, type(error).__name__)
                raise
            turn.end(found.usage, counts=isinstance(found, _Answer) or found.lost)
            if isinstance(found, _Answer):
                end("answered", found.usage, None)
                return found.value
            problem = self._redaction.message(found.why)
            pause = tries.after(found)
            end("lost" if found.lost else "failed" if isinstance(pause, str) else "retried", found.usage, problem)
            if isinstance(pause, str):
                message = f"{where}: {url}: {pause.format(problem)}"
                raise RefusedError(message, problem) if found.refused else GenerationError(message)
            if found.status == 429:
                # Every request waits before its next call, this one too.
                self._pace.pause(pause)
            else:
                await asyncio.sleep(pause)

    async def _call(
        self, url: str, body: bytes | None, read: Callable[[Mapping[str, Any]], T] | None
    ) -> _Answer[T] | Problem:
        """One call, and what came of it."""
        try:
            status, headers, content = await self._exchange(url, body)
            content = self._redaction.body(content)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return Problem(f"{type(error).__name__}: {error}")
        except (httpx.TimeoutException, TimeoutError):
            return Problem(f"no answer within {self._timeout:g} s", lost=True)
        except httpx.DecodingError as error:
            return Problem(f"the body does not decompress: {error}", lost=True)
        except UnusableError as error:
            return Problem(str(error), lost=True)
        except httpx.RequestError as error:
            return Problem(f"{type(error).__name__}: {error}", lost=True)
        if 200 <= status < 300:
            self._pace.heed(headers)
            return self._read(status, content, read)
        return unsuccessful(status, headers, content)

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

    def _read(self, status: int, content: bytes, read: Callable[[Mapping[str, Any]], T] | None) -> _Answer[T] | Problem:
        """What the body of a success holds."""
        usage: Usage | None = None
        try:
            answer = decode(content)
            usage = self._wire.usage(answer)
            if read is None:
                refuse_error(answer)
            result: Any = answer if read is None else read(answer)
        except UnusableError as error:
            lost = usage is None and not error.told
            why = f"status {status}, but {error}"
            return Problem(why, status, error.transient, usage, lost, refused=error.refused)
        except RecursionError:
            return Problem(f"status {status}, but the answer is nested too deeply", status, True, usage, usage is None)
        return _Answer(result, usage)


@dataclass(frozen=True)
class _Answer(Generic[T]):
    value: T
    usage: Usage | None


@dataclass(frozen=True)
class Problem:
    """Why a call gave nothing of use."""

    why: str
    status: int | None = None
    transient: bool = True
    """The same call may succeed later."""
    usage: Usage | None = None
    lost: bool = False
    """The provider may have billed an answer, and its count cannot be read."""
    wait: float | None = None
    """Seconds that the server asks to wait."""
    refused: bool = False
    """By a filter of the provider's."""


class _Tries:
    """How often a request is sent."""

    def __init__(self, attempts: int) -> None:
        self._attempts, self._made, self._waited = attempts, 0, 0.0

    def after(self, problem: Problem) -> float | str:
        """Seconds before the request is sent again; or, where it is given up, the message, with {} for the problem."""
        if not problem.transient:
            return "{}"
        wait = problem.wait
        if wait is not None:
            wait = max(wait, MIN_WAIT) if problem.status == 429 else wait
            self._waited += wait
            if self._waited > MAX_WAIT:
                return f"{{}}; the server asks to wait {wait:,.0f} s, more than {MAX_WAIT:,.0f} s in all"
            if problem.status == 429:
                # Waiting as told costs no attempt: a busy hour must not fail the rows of that hour.
                return wait
        self._made += 1
        if self._made >= self._attempts:
            return f"gave up after {self._attempts} attempt{'s' * (self._attempts > 1)}: {{}}"
        if wait is not None:
            return wait
        first = FIRST_PAUSE_BUSY if problem.status == 429 else FIRST_PAUSE
        # Jitter, so that clients that failed together do not retry together.
        return min(MAX_PAUSE, first * 2.0 ** (self._made - 1) * random.uniform(0.5, 1.5))


class Calls:
    """The calls that are made for one request, numbered; `on_call` is told of each when it is sent and has ended."""

    def __init__(self, request_id: str, on_call: OnCall | None = None) -> None:
        """Of the request with this id. `on_call` None: nobody is told."""
        self.request_id = request_id
        self._on_call = on_call
        self._made = 0

    def begin(self) -> Callable[[CallOutcome, Usage | None, str | None], None]:
        """Tell of a call that is sent; gives what is called with its outcome, count and reason when it has ended."""
        self._made += 1
        number = self._made

        def tell(outcome: CallOutcome, usage: Usage | None = None, reason: str | None = None) -> None:
            if self._on_call is not None:
                self._on_call(Call(self.request_id, number, outcome, usage, reason))

        tell("sent")
        return tell


def unsuccessful(status: int, headers: httpx.Headers, content: bytes) -> Problem:
    """What a status other than a success says."""
    error = _error(content)
    message = _message(error, content, status)
    empty = status == 429 and any(word in message.lower() for word in EMPTY)
    refused = 400 <= status < 500 and status not in RETRIED and is_refusal(error)
    told = headers.get("x-should-retry")
    transient = not refused and (told == "true" or (status in RETRIED and told != "false" and not empty))
    wait = told_wait(headers) if transient else None
    if wait is None and status == 429:
        wait = reset_wait(headers) or None
    # Behind a gateway that waits no longer the model goes on, and so does the bill.
    lost = status == 504
    return Problem(f"status {status}: {message}", status, transient, lost=lost, wait=wait, refused=refused)


def _error(content: bytes) -> object:
    """What the body of an error holds: its `error` where there is one, or all of it. None: no JSON."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return body.get("error", body) if isinstance(body, dict) else body


def _message(error: object, content: bytes, status: int) -> str:
    """What the server says is wrong: the error's message where there is one, else the body's beginning."""
    if error is None:
        return content[:300].decode("utf-8", "replace") or httpx.codes.get_reason_phrase(status)
    message = error.get("message") if isinstance(error, dict) else error
    code = error.get("code") if isinstance(error, dict) else None
    said = str(message if message is not None else error)[:1000]
    return f"{said} ({code})" if isinstance(code, str) and code not in said else said
