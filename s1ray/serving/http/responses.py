"""What a replica answers, on its way to the client: streams, refusals, and failures."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from s1ray.serving.http.access import RequestContext
from s1ray.serving.http.dialects.base import Events
from s1ray.serving.http.errors import RefusedError, busy, failed, late, lost
from s1ray.serving.http.replica_call import LateError, LostError, ReplicaCall
from s1ray.serving.protocol.engine_json import EngineJson
from s1ray.serving.ray_llm import ErrorResponse
from s1ray.serving.replica.watchdog import EngineLostError

logger = logging.getLogger("ray.serve")

Part = BaseModel | list[str] | list[ErrorResponse]
"""What a replica sends: a whole response, or some events of a stream; in place of either an error."""


def is_lost(error: BaseException) -> bool:
    """Whether an error means that the replica, its engine or its node is gone."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        return isinstance(cause, EngineLostError) or (not isinstance(cause, RayTaskError) and is_lost(cause))
    if isinstance(error, ReplicaUnavailableError):
        return True
    return isinstance(error, RayError) and not isinstance(error, TaskCancelledError)


def to_refusal(error: Exception) -> RefusedError | None:
    """The refusal for an error on the way to the model; None: the server is at fault."""
    cause = error.cause if isinstance(error, RayTaskError) else error
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
        error = part.error
        raise RefusedError(error.code, error.message, param=error.param, kind=error.type)
    if isinstance(part, str) and (problem := _failure(part)) is not None:
        raise problem


def streamed(first: list[str], rest: ReplicaCall[Part], rewrite: Events, context: RequestContext) -> StreamingResponse:
    """A stream. What goes wrong after its beginning becomes its last event.

    Args:
        first: its first events.
        rest: gives the others; cancelled when the stream ends, in whatever way.
        rewrite: from the engine's events to the client's.
        context: takes the outcome.
    """

    def shown(events: Part) -> str:
        assert isinstance(events, list)
        texts = [event for event in events if isinstance(event, str)]
        if any(_failure(event) is not None for event in texts):
            context.outcome = "failed"
        return rewrite(texts)

    async def events() -> AsyncIterator[str]:
        try:
            yield shown(first)
            async for more in rest:
                if text := shown(more):
                    yield text
        except Exception as error:
            refused = to_refusal(error)
            if refused is None:
                logger.error("a stream failed", exc_info=error)
                refused = failed()
            context.outcome = refused.outcome or "failed"
            yield rewrite([f"data: {json.dumps(refused.body())}\n\n", "data: [DONE]\n\n"])
        except BaseException:
            context.outcome = "cancelled"
            raise
        finally:
            rest.cancel()

    return StreamingResponse(events(), media_type="text/event-stream")


def _failure(event: str) -> RefusedError | None:
    """The error that an event of the engine's stream reports."""
    if not event.startswith('data: {"error"'):
        return None
    data: EngineJson = json.loads(event.removeprefix("data: "))
    error = data["error"]
    return RefusedError(error.get("code") or 500, error["message"], param=error.get("param"), kind=error.get("type"))
