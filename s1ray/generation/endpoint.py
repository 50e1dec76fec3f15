"""What the generators over HTTP have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import httpx

from s1ray.generation.base import OnCall
from s1ray.generation.pace import Pace
from s1ray.generation.transport import Transport
from s1ray.generation.wires.base import Wire


class AtEndpoint:
    """Connections to an address or several, requests in flight at most, and `async with`.

    Args:
        base_url: the address with its `/v1`, or several that serve the same.
        model: the model's name there.
        wire: the API's format.
        api_key: None: none is sent.
        concurrency: requests in flight at most.
        timeout: seconds that one attempt may take, from sending to the last byte.
        attempts: tries of one request, times the number of addresses.
        pace: makes what says when calls to an address start.
        extra_body: further fields for every request.
        on_call: is told of every call that is sent, and of its end.
        transport: replaces the network, for tests.
    """

    def __init__(
        self,
        base_url: str | Sequence[str],
        model: str,
        *,
        wire: Wire,
        api_key: str | None,
        concurrency: int,
        timeout: float,
        attempts: int,
        pace: Callable[[], Pace],
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
            pace=pace,
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
