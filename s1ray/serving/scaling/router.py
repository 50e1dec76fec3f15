"""The queue in front of a model's replicas: the request with the earliest deadline goes first.

Serve's own router, power of two choices, with another order among the requests that wait. They stay in Serve's queue,
where `max_queued_requests` bounds it and autoscaling sees it.

Imported where a handle to a model lives: in the HTTP workers.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any

from s1ray.serving.metrics import set_queue_depth
from s1ray.serving.ray_llm import PowerOfTwoChoicesRequestRouter


class EarliestDeadlineRouter(PowerOfTwoChoicesRequestRouter):
    """Power of two choices; waiting requests go in the order of their deadlines."""

    _model = ""
    _waiting = 0

    def initialize_state(self, model: str = "", **options: Any) -> None:
        """Take `request_router_kwargs`.

        Args:
            model: the model's name, for metrics.
            options: of the base class.
        """
        super().initialize_state(**options)
        self._model = model

    async def _choose_replica_for_request(self, pending_request: Any, *, is_retry: bool = False) -> Any:
        self._waiting += 1
        set_queue_depth(self._model, self._waiting)
        try:
            return await super()._choose_replica_for_request(pending_request, is_retry=is_retry)
        finally:
            self._waiting -= 1
            set_queue_depth(self._model, self._waiting)

    def _fulfill_next_pending_request(self, replica: Any, request_metadata: Any = None) -> None:
        bring_earliest_to_front(self._pending_requests_to_fulfill)
        # Where there are adapters, Serve gives a place to requests for the same one first.
        adapter = getattr(request_metadata, "multiplexed_model_id", "")
        if adapter and (same := self._pending_requests_by_model_id.get(adapter)):
            bring_earliest_to_front(same)
        super()._fulfill_next_pending_request(replica, request_metadata)


def bring_earliest_to_front(waiting: MutableSequence[Any]) -> None:
    """Put the request with the earliest deadline first; the others keep their order."""
    earliest, at = None, 0
    for index, request in enumerate(waiting):
        if not request.future.done():
            due = deadline_of(request)
            if earliest is None or due < earliest:
                earliest, at = due, index
    if at:
        request = waiting[at]
        del waiting[at]
        waiting.insert(0, request)


def deadline_of(request: Any) -> float:
    """When a waiting request should be served: as its origin says, or when it was created."""
    for argument in request.args:
        due = getattr(argument, "deadline", None)
        if isinstance(due, float):
            return due
    return float(request.created_at)
