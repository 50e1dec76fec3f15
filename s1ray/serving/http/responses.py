"""What a replica answers, on its way to the client: streams, refusals, and failures.

A stream begins with its first events, so that a request which is refused before gets an HTTP status that says so. Only
so long, though, as connections bear silence: after `keep_alive_s` seconds without anything the stream begins all the
same, with a comment, and what the request is refused with later is its last event. In every stream, comments fill
silence of that length, while thinking is hidden as well as in a queue.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

from fastapi.responses import Response
from pydantic import BaseModel
from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from s1ray.serving.http.access import RequestContext
from s1ray.serving.http.dialects.base import Events
from s1ray.serving.http.errors import RefusedError, busy, failed, late, lost
from s1ray.serving.http.replica_call import LateError, LostError, ReplicaCall
from s1ray.serving.metrics import outcome_of
from s1ray.serving.protocol.engine_json import EngineJson
from s1ray.serving.ray_llm import ErrorResponse
from s1ray.serving.replica.watchdog import EngineLostError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

logger = logging.getLogger("ray.serve")

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Of a stream: proxies (nginx by the second one) pass each event on at once."""

UNREAD_S = 60.0
"""Seconds for which a client may read nothing of a stream whose buffers are full; then it is taken to have left, or it
would hold a place of the replica for ever."""

Part = BaseModel | list[str] | list[ErrorResponse]
"""What a replica sends: a whole response, or some events of a stream; in place of either an error."""


def is_lost(error: BaseException) -> bool:
    """Whether an error means that the replica, its engine or its node is gone."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        return isinstance(cause, EngineLostError) or (not isinstance(cause, RayTaskError) and is_lost(cause))
    if isinstance(error, ReplicaUnavailableError | EngineLostError):
        return True
    return isinstance(error, RayError) and not isinstance(error, TaskCancelledError)


def to_refusal(error: Exception) -> RefusedError | None:
    """The refusal for an error on the way to the model; None: the server is at fault."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, RefusedError):
        return cause
    if isinstance(cause, BackPressureError):
        return busy()
    if isinstance(cause, LostError):
        return lost()
    if isinstance(cause, LateError):
        return late(cause.seconds, begun=cause.begun)
    if isinstance(cause, DeploymentUnavailableError):
        return RefusedError(503, "the model is not available: it failed to start")
    return None


def raise_refusals(first: Part) -> None:
    """Raise what the first part of a response refuses the request with.

    Raises:
        RefusedError: it is an error.
    """
    part = first[0] if isinstance(first, list) else first
    if isinstance(part, ErrorResponse):
        raise _refused(part)
    if isinstance(part, str) and (problem := _failure(part)) is not None:
        raise problem


class _UnreadError(Exception):
    """The client reads nothing of its stream."""


class EventStream(Response):
    """A stream, begun with its first events or after `keep_alive_s`. What goes wrong after that is its last event.

    Everything happens in the request's own task, and only silence is filled by another: where many requests begin at
    once, each turn that an event waits for the event loop comes after a turn of all of them.

    Args:
        call: gives the events; cancelled when the stream ends, in whatever way.
        rewrite: from the engine's events to the client's.
        context: takes the outcome.
        keep_alive_s: seconds without anything for the client after which it gets `silence`. None: never.
        silence: an event or comment that clients pass over.

    Raises, when it is sent:
        RefusedError: the first part says so, in time. Also whatever else the request fails with by then.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        call: ReplicaCall[Part],
        rewrite: Events,
        context: RequestContext,
        *,
        keep_alive_s: float | None,
        silence: str,
    ) -> None:
        self.status_code, self.background = 200, None
        # A body it has not, nor a length.
        self.init_headers(HEADERS)
        self._call, self._rewrite, self._context = call, rewrite, context
        self._keep_alive_s, self._silence = keep_alive_s, silence
        self._writing = asyncio.Lock()
        self._started = self._over = False
        self._said_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream to its end, or until the client leaves."""
        own = asyncio.current_task()
        assert own is not None
        left = False

        async def leave() -> None:
            nonlocal left
            while (await receive())["type"] != "http.disconnect":
                pass
            if not self._over:
                left = True
                own.cancel()

        others = [asyncio.create_task(leave())]
        if self._keep_alive_s is not None:
            others.append(asyncio.create_task(self._fill_silence(send, self._keep_alive_s)))
        try:
            await self._send(send)
        except _UnreadError:
            self._context.outcome = "cancelled"
        except asyncio.CancelledError:
            self._context.outcome = "cancelled"
            # Where somebody else has ended this task as well, it ends.
            if not left or own.uncancel():
                raise
        finally:
            for other in others:
                other.cancel()
            self._call.cancel()

    async def _send(self, send: Send) -> None:
        try:
            part = await self._call.begin()
            if not self._started:
                raise_refusals(part)
            while True:
                texts, refused = self._read(part)
                await self._write(send, self._rewrite(texts))
                if refused is not None:
                    raise refused
                part = await anext(self._call)
        except StopAsyncIteration:
            pass
        except _UnreadError:
            raise
        except Exception as error:
            async with self._writing:
                begun = self._started
            if not begun:
                raise to_refusal(error) or error from None
            await self._write(send, self._last(error))
        self._over = True
        await self._write(send, "", ends=True)

    async def _write(self, send: Send, text: str, *, ends: bool = False) -> None:
        """Begin the response, write what the client gets, if it gets anything, and perhaps end it.

        Raises:
            _UnreadError: the client reads nothing.
        """
        try:
            async with asyncio.timeout(UNREAD_S), self._writing:
                if not self._started:
                    self._started = True
                    await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                if text:
                    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
                    self._said_at = asyncio.get_running_loop().time()
                if ends:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            raise _UnreadError from None

    async def _fill_silence(self, send: Send, keep_alive_s: float) -> None:
        clock = asyncio.get_running_loop().time
        self._said_at = clock()
        while True:
            await asyncio.sleep(self._said_at + keep_alive_s - clock())
            if clock() - self._said_at >= keep_alive_s:
                try:
                    await self._write(send, self._silence)
                except _UnreadError:
                    return

    def _read(self, part: Part) -> tuple[list[str], RefusedError | None]:
        """A part's events up to an error that ends the stream, and that."""
        texts: list[str] = []
        for event in part if isinstance(part, list) else [part]:
            if not isinstance(event, str):
                assert isinstance(event, ErrorResponse), "a stream has events and errors only"
                return texts, _refused(event)
            if (problem := _failure(event)) is not None:
                self._context.outcome = outcome_of(problem.status)
            texts.append(event)
        return texts, None

    def _last(self, error: Exception) -> str:
        """The event with which a failure ends the stream."""
        refused = to_refusal(error)
        if refused is None:
            logger.error("a stream failed", exc_info=error)
            refused = failed()
        self._context.outcome = refused.outcome or outcome_of(refused.status)
        return self._rewrite([f"data: {json.dumps(refused.body())}\n\n", "data: [DONE]\n\n"])


def _refused(response: ErrorResponse) -> RefusedError:
    error = response.error
    return RefusedError(error.code, error.message, param=error.param, kind=error.type)


def _failure(event: str) -> RefusedError | None:
    """The error that an event of the engine's stream reports."""
    if not event.startswith('data: {"error"'):
        return None
    data: EngineJson = json.loads(event.removeprefix("data: "))
    error = data["error"]
    return RefusedError(error.get("code") or 500, error["message"], param=error.get("param"), kind=error.get("type"))
