"""A model's server as the HTTP application in the same process sees it: calls, not messages.

Imported only in the replicas, because ray.serve.llm imports vLLM.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from pydantic import BaseModel

from s1ray.serving.http.answers import GENERATE
from s1ray.serving.http.dialects.base import Method
from s1ray.serving.http.responses import Part
from s1ray.serving.protocol.request_info import RequestInfo
from s1ray.serving.replica.places import Places
from s1ray.serving.replica.watchdog import EngineLostError

ENDS_S = 4.0
"""Seconds in which a replica without its engine has ended."""

Answer = Callable[[Any, RequestInfo], Awaitable[AsyncGenerator[Part]]]
"""A method of a model's server."""


class LocalBackend:
    """The one model whose server is in this process.

    Args:
        server: has an `Answer` for each `Method`.
        places: of requests that generate.
        others_retry: whoever is in front sends a request again where its replica ends without an answer.
        keep_alive_s: seconds after which a stream begins, even if it has nothing to say. None: never.
    """

    tries = 1
    """Where this process is lost, so is whoever would try again."""

    def __init__(
        self, server: object, places: Places, *, others_retry: bool = False, keep_alive_s: float | None = None
    ) -> None:
        self._server, self._places = server, places
        self._others_retry, self._keep_alive_s = others_retry, keep_alive_s

    def call(self, model: str, method: Method, request: BaseModel, info: RequestInfo) -> LocalAttempt:
        """Send a request to the server, which may change its own copy of it."""
        parts = self._parts(getattr(self._server, method), request.model_copy(), info)
        streams = bool(getattr(request, "stream", False))
        return LocalAttempt(self._in_turn(parts, info) if method in GENERATE else parts, whole=not streams)

    async def _parts(self, answer: Answer, request: BaseModel, info: RequestInfo) -> AsyncGenerator[Part]:
        begun = False
        try:
            async with contextlib.aclosing(await answer(request, info)) as parts:
                async for part in parts:
                    begun = True
                    yield part
        except EngineLostError:
            if not begun and self._is_silent(request, info):
                # This process ends in a second (the watchdog), and HAProxy sends what had no answer to another replica.
                await asyncio.sleep(ENDS_S)
            raise

    def _is_silent(self, request: BaseModel, info: RequestInfo) -> bool:
        """Whether the client has nothing of its response yet, and whoever is in front sends its request again."""
        if not self._others_retry or self._keep_alive_s is None or not getattr(request, "stream", False):
            return self._others_retry
        return time.time() < info.arrived + self._keep_alive_s - ENDS_S / 2

    async def _in_turn(self, parts: AsyncGenerator[Part], info: RequestInfo) -> AsyncGenerator[Part]:
        began = time.time()
        await self._places.enter(info.deadline)
        info.waited_s = time.time() - began
        try:
            async with contextlib.aclosing(parts):
                async for part in parts:
                    yield part
        finally:
            self._places.leave()


class LocalAttempt:
    """What the server answers to one request.

    Args:
        parts: of the answer.
        whole: there is only one.
    """

    def __init__(self, parts: AsyncGenerator[Part], *, whole: bool) -> None:
        self._parts, self._whole = parts, whole
        self._closing: asyncio.Task[None] | None = None

    async def __anext__(self) -> Part:
        part = await self._parts.__anext__()
        if self._whole:
            self.cancel()
        return part

    def cancel(self) -> None:
        """Stop the engine's work on the request."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())

    async def _close(self) -> None:
        # Where a part is awaited, its task is being cancelled, which closes the parts as well.
        with contextlib.suppress(RuntimeError):
            await self._parts.aclose()
