"""How many requests are made ready for the engine at once: a few, so that the first get there early.

An event loop gives every request a step in turn. Of many that arrive together, all would reach the engine when the last
one is ready, and it would stand idle until then. So a request whose body is complete is read, checked, rendered and
given to the engine before others begin; some at once, because each waits for a thread while its prompt is tokenized.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

AT_ONCE = 4
"""Requests that are made ready at once."""

_CURRENT: ContextVar[Preparation | None] = ContextVar("s1ray_preparation", default=None)
"""That of the request that the current task serves."""


class Preparation:
    """One request's; `end` it in any case."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places, self._ended = places, False

    def end(self) -> None:
        """Let the next request begin, if that has not happened yet."""
        if not self._ended:
            self._ended = True
            self._places.release()


class Preparations:
    """Those of one process.

    Args:
        at_once: requests that are made ready at once.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._places = asyncio.Semaphore(at_once)

    async def begin(self) -> Preparation:
        """Wait for the current task's request to be next: in the order in which their bodies were complete."""
        await self._places.acquire()
        preparation = Preparation(self._places)
        _CURRENT.set(preparation)
        return preparation


def prepared() -> None:
    """The engine has the current task's request, or it must wait for something that may take long."""
    if (current := _CURRENT.get()) is not None:
        current.end()
