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
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from fastapi.responses import StreamingResponse
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

logger = logging.getLogger("ray.serve")

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Of a stream: proxies (nginx by the second one) pass each event on at once."""

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


async def streamed(
    call: ReplicaCall[Part], rewrite: Events, context: RequestContext, *, keep_alive_s: float | None, silence: str
) -> StreamingResponse:
    """A stream, begun with its first events or after `keep_alive_s`. What goes wrong after that is its last event.

    Args:
        call: gives the events; cancelled when the stream ends, in whatever way.
        rewrite: from the engine's events to the client's.
        context: takes the outcome.
        keep_alive_s: seconds without anything for the client after which it gets `silence`. None: never.
        silence: an event or comment that clients pass over.

    Raises:
        RefusedError: the first part says so, in time. Also whatever else the request fails with by then.
    """
    first = _task(call.begin())
    context.defer(first.cancel)
    if await _done(first, keep_alive_s):
        raise_refusals(first.result())
    stream = _Stream(call, rewrite, context, keep_alive_s, silence)
    return StreamingResponse(stream.events(first), media_type="text/event-stream", headers=HEADERS)


class _Stream:
    """Writes one stream; see `streamed`."""

    def __init__(
        self,
        call: ReplicaCall[Part],
        rewrite: Events,
        context: RequestContext,
        keep_alive_s: float | None,
        silence: str,
    ) -> None:
        self._call, self._rewrite, self._context = call, rewrite, context
        self._keep_alive_s, self._silence = keep_alive_s, silence

    async def events(self, first: asyncio.Task[Part]) -> AsyncIterator[str]:
        """The client's events, and `silence` between them where they are far apart."""
        clock = asyncio.get_running_loop().time
        part, said_at = first, clock()
        if not first.done():
            yield self._silence
        try:
            while True:
                left = None if self._keep_alive_s is None else max(0.0, said_at + self._keep_alive_s - clock())
                if not await _done(part, left):
                    yield self._silence
                    said_at = clock()
                    continue
                try:
                    texts, refused = self._read(part.result())
                except StopAsyncIteration:
                    return
                if text := self._rewrite(texts):
                    yield text
                    said_at = clock()
                elif self._keep_alive_s is not None and clock() - said_at >= self._keep_alive_s:
                    yield self._silence
                    said_at = clock()
                if refused is not None:
                    raise refused
                part = _task(self._call.__anext__())
        except Exception as error:
            yield self._last(error)
        except BaseException:
            self._context.outcome = "cancelled"
            raise
        finally:
            part.cancel()
            self._call.cancel()

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


def _task(part: Coroutine[Any, Any, Part]) -> asyncio.Task[Part]:
    """A part on its way. Its failure is no news for the log where nobody waits for it any more."""
    task = asyncio.create_task(part)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


async def _done(part: asyncio.Task[Part], within_s: float | None) -> bool:
    """Whether a part comes in so many seconds."""
    return bool((await asyncio.wait({part}, timeout=within_s))[0])


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
