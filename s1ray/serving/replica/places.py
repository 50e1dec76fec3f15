"""The bounded queue of a replica that answers HTTP itself: so many requests at once, and the others by deadline.

The same rules as of the queue in front of the replicas (`s1ray.serving.scaling.router`), for one replica.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from s1ray.serving.http.errors import busy
from s1ray.serving.http.preparing import prepared


class Places:
    """The places of a replica.

    Args:
        running: requests that have a place at once.
        waiting: requests that may wait for one. -1: any number.
        on_change: is told how many wait, whenever that changes.
    """

    def __init__(self, running: int, waiting: int, on_change: Callable[[int], object] = lambda waiting: None) -> None:
        self._limit, self._queue_limit, self._on_change = running, waiting, on_change
        self._numbers = itertools.count()
        self._queue: list[tuple[float, int, asyncio.Future[None]]] = []
        self.running = 0
        """Requests that have a place."""
        self.waiting = 0
        """Requests that wait for one."""

    async def enter(self, deadline: float) -> None:
        """Wait for a place, the request with the earliest deadline first; `leave` gives it back.

        Raises:
            RefusedError: too many wait already.
        """
        if self.running < self._limit:
            self.running += 1
            return
        if 0 <= self._queue_limit <= self.waiting:
            raise busy()
        prepared()
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (deadline, next(self._numbers), place)
        heapq.heappush(self._queue, entry)
        self._wait(1)
        try:
            await place
        except asyncio.CancelledError:
            if entry in self._queue:
                self._queue.remove(entry)
                heapq.heapify(self._queue)
            elif not place.cancelled():
                # It came and the client left in the same moment.
                self.leave()
            raise
        finally:
            self._wait(-1)

    def leave(self) -> None:
        """Give a place back: to the next request, if one waits."""
        while self._queue:
            place = heapq.heappop(self._queue)[2]
            if not place.done():
                place.set_result(None)
                return
        self.running -= 1

    def _wait(self, change: int) -> None:
        self.waiting += change
        self._on_change(self.waiting)
