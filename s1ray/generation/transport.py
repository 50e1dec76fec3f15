"""JSON over HTTP with retries, for the engines that talk to a server.

Transient failures (no connection, a time-out, 408, 409, 425, 429, 5xx, a 200 that tells of an error, a body that cannot
be read) are retried a bounded number of times, with exponential back-off or after the wait that the server asks for, or
at once at another address that serves the same. A faulty request (other 4xx) is not. When calls start is the matter of
`pace`, and where they go that of `addresses`.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar

import httpx

from s1ray.errors import InputError
from s1ray.generation.addresses import Address, Addresses
from s1ray.generation.answers import MAX_BODY, UnusableError, decode, refuse_error
from s1ray.generation.base import Call, CallOutcome, GenerationError, OnCall, RefusedError, Usage
from s1ray.generation.connections import Connections
from s1ray.generation.pace import Pace
from s1ray.generation.problems import Problem, Tries, unsuccessful
from s1ray.generation.wires.base import Wire
from s1ray.secrets import Redaction

T = TypeVar("T")

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
    """Connections to one address, or to several that serve the same.

    Args:
        base_url: the address with its `/v1`, or several.
        wire: how the API wants its key, and counts tokens.
        api_key: None: none is sent.
        connections: open at most.
        timeout: seconds that one attempt may take, from sending to the last byte.
        attempts: tries of one request, times the number of addresses.
        pace: makes what says when calls to an address start.
        transport: replaces the network, for tests.
    """

    def __init__(
        self,
        base_url: str | Sequence[str],
        *,
        wire: Wire,
        api_key: str | None,
        connections: int,
        timeout: float,
        attempts: int,
        pace: Callable[[], Pace],
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts}")
        if api_key is not None and not re.fullmatch(r"[!-~]+", api_key):
            raise InputError(
                f"the API key for {base_url} is empty or holds a space, a line break or a character that is not ASCII; "
                "give it without what stands around it"
            )
        self._addresses = Addresses([base_url] if isinstance(base_url, str) else base_url, pace)
        self.base_url = ", ".join(address.url for address in self._addresses.all)
        self._attempts = attempts * len(self._addresses.all)
        self._timeout = timeout
        self._wire = wire
        self._redaction = Redaction(api_key)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        # A client with a transport of its own does not look for proxies.
        if transport is None and not urllib.request.getproxies():
            transport = Connections(KEEPALIVE)
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
        tries, where = Tries(self._attempts), f"request {calls.request_id!r}"
        try:
            sent = None if body is None else json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise GenerationError(f"{where}: it cannot be written as JSON in UTF-8: {error}") from None
        failed = False
        while True:
            address = calls.address = self._addresses.choose(calls.address, failed=failed)
            found, end = await self._at(address, calls, path, sent, read, max_tokens)
            if isinstance(found, _Answer):
                end("answered", found.usage, None)
                return found.value
            problem, failed = self._redaction.message(found.why), True
            pause = tries.after(found)
            end("lost" if found.lost else "failed" if isinstance(pause, str) else "retried", found.usage, problem)
            if isinstance(pause, str):
                message = f"{where}: {address.url}{path}: {pause.format(problem)}"
                raise RefusedError(message, problem) if found.refused else GenerationError(message)
            if found.status == 429:
                # Every request waits before its next call there, this one too.
                address.pace.pause(pause)
            elif not self._addresses.has_other(address):
                await asyncio.sleep(pause)

    async def _at(
        self,
        address: Address,
        calls: Calls,
        path: str,
        sent: bytes | None,
        read: Callable[[Mapping[str, Any]], T] | None,
        max_tokens: int | None,
    ) -> tuple[_Answer[T] | Problem, EndOfCall]:
        """One call to an address in its turn: what came of it, and what is told of its end."""
        address.in_flight += 1
        try:
            turn = await address.pace.turn(len(sent or b""), max_tokens)
            try:
                end = calls.begin()
            except BaseException:
                turn.end(None, counts=False)  # it is not made
                raise
            try:
                found = await self._call(address, f"{address.url}{path}", sent, read)
            except BaseException as error:
                end("lost", None, type(error).__name__)
                raise
        finally:
            address.in_flight -= 1
        turn.end(found.usage, counts=isinstance(found, _Answer) or found.lost)
        if isinstance(found, _Answer):
            address.answered()
        elif found.transient and (found.status is None or found.status >= 500):
            address.failed(unreachable=found.unreachable)
        return found, end

    async def _call(
        self, address: Address, url: str, body: bytes | None, read: Callable[[Mapping[str, Any]], T] | None
    ) -> _Answer[T] | Problem:
        """One call, and what came of it."""
        try:
            status, headers, content = await self._exchange(url, body)
            content = self._redaction.body(content)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return Problem(f"{type(error).__name__}: {error}", unreachable=True)
        except (httpx.TimeoutException, TimeoutError):
            return Problem(f"no answer within {self._timeout:g} s", lost=True)
        except httpx.DecodingError as error:
            return Problem(f"the body does not decompress: {error}", lost=True)
        except UnusableError as error:
            return Problem(str(error), lost=True)
        except httpx.RequestError as error:
            return Problem(f"{type(error).__name__}: {error}", lost=True)
        if 200 <= status < 300:
            address.pace.heed(headers)
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


EndOfCall = Callable[[CallOutcome, "Usage | None", "str | None"], None]
"""Is told of a call's outcome, count and reason."""


class Calls:
    """The calls that are made for one request, numbered; `on_call` is told of each when it is sent and has ended.

    Attributes:
        address: of the last one.
    """

    def __init__(self, request_id: str, on_call: OnCall | None = None) -> None:
        """Of the request with this id. `on_call` None: nobody is told."""
        self.request_id = request_id
        self.address: Address | None = None
        self._on_call = on_call
        self._made = 0
        self._useless_since: float | None = None

    def begin(self) -> EndOfCall:
        """Tell of a call that is sent; gives what is called with its outcome, count and reason when it has ended."""
        self._made += 1
        number, began = self._made, monotonic()
        waited = 0.0 if self._useless_since is None else began - self._useless_since

        def tell(outcome: CallOutcome, usage: Usage | None = None, reason: str | None = None) -> None:
            now = monotonic()
            self._useless_since = None if outcome in ("sent", "answered") else now
            seconds = waited if outcome == "sent" else now - began
            if self._on_call is not None:
                self._on_call(Call(self.request_id, number, outcome, usage, reason, seconds=seconds))

        tell("sent")
        return tell
