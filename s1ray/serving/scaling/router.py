"""The queue in front of a model's replicas: earliest deadline first.

Serve's power-of-two-choices router with another order of the waiting requests. They stay in Serve's queue, so that
`max_queued_requests` limits it and autoscaling counts it. It runs in the HTTP workers, where the handles of the models
are.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, MutableSequence, Sequence
from typing import Any, Protocol

from s1ray.serving.metrics import set_queue_depth
from s1ray.serving.ray_llm import PowerOfTwoChoicesRequestRouter


class Pending(Protocol):
    """A waiting request, as Serve's router keeps it."""

    args: Sequence[object]
    created_at: float
    future: asyncio.Future[object]


class EarliestDeadlineRouter(PowerOfTwoChoicesRequestRouter):  # type: ignore[misc]  # Ray is untyped here
    """Power of two choices that serves waiting requests in the order of their deadlines."""

    _model = ""
    _waiting = 0
    _found: set[asyncio.Task[Any]]
    """Tasks that have just found a replica for a request, their own or another one."""

    def initialize_state(self, model: str = "", **options: Any) -> None:
        """Receive `request_router_kwargs`.

        Args:
            model: the model's name, for metrics.
            options: of the base class.
        """
        super().initialize_state(**options)
        self._model, self._found = model, set()

    async def _choose_replica_for_request(self, pending_request: Pending, *, is_retry: bool = False) -> object:
        self._waiting += 1
        set_queue_depth(self._model, self._waiting)
        try:
            return await super()._choose_replica_for_request(pending_request, is_retry=is_retry)
        finally:
            self._waiting -= 1
            set_queue_depth(self._model, self._waiting)

    def _get_next_pending_request_to_route(self) -> Pending | None:
        bring_earliest_to_front(self._pending_requests_to_route)
        found: Pending | None = super()._get_next_pending_request_to_route()
        return found

    async def _choose_replicas_with_backoff(self, pending_request: Pending | None = None) -> AsyncGenerator[object]:
        """Candidates for a request. Serve's router rests before it looks again, also where it has just found a place
        and another request with an earlier deadline took it: then places stay empty while requests wait.
        """
        task = asyncio.current_task()
        assert task is not None
        try:
            while True:
                async with contextlib.aclosing(super()._choose_replicas_with_backoff(pending_request)) as chosen:
                    async for candidates in chosen:
                        self._found.discard(task)
                        yield candidates
                        if task in self._found:
                            break
        finally:
            self._found.discard(task)

    def _fulfill_next_pending_request(self, replica: object, request_metadata: object = None) -> None:
        if (task := asyncio.current_task()) is not None:
            self._found.add(task)
        bring_earliest_to_front(self._pending_requests_to_fulfill)
        # With adapters, Serve prefers requests for the adapter that the free slot was found for.
        adapter = getattr(request_metadata, "multiplexed_model_id", "")
        if adapter and (same := self._pending_requests_by_model_id.get(adapter)):
            bring_earliest_to_front(same)
        super()._fulfill_next_pending_request(replica, request_metadata)


def bring_earliest_to_front(waiting: MutableSequence[Pending]) -> None:
    """Move the request with the earliest deadline to the front; the others keep their order."""
    alive = [index for index, request in enumerate(waiting) if not request.future.done()]
    at = min(alive, key=lambda index: deadline_of(waiting[index]), default=0)
    if at:
        request = waiting[at]
        del waiting[at]
        waiting.insert(0, request)


def deadline_of(request: Pending) -> float:
    """The deadline in a waiting request's `RequestInfo`; without one, the time at which the request was created."""
    for argument in request.args:
        deadline = getattr(argument, "deadline", None)
        if isinstance(deadline, float):
            return deadline
    return request.created_at
