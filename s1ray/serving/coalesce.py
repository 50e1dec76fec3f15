"""Sends a stream's events together, so that many streams cost little, without holding the first ones back.

Every part of a stream costs the replica, the HTTP worker and Ray's transport between them some time, whatever is in it.
At sixty-four streams of fifty tokens a second, one part a token is more than they can do beside an engine. So events
that come within one interval of the last part travel together in the next one; the first events of a stream, and
events after a silence, go at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")

AT_ONCE = 2
"""Events at a stream's beginning that are not held back: the role, and the first token."""


async def coalesced(events: AsyncIterator[T], interval_s: float) -> AsyncIterator[list[T]]:
    """Events in lists: at once where the last list is older than the interval, else with those that follow in it.

    A failure of `events` comes after everything that they gave. Ends them when it is closed itself.

    Args:
        events: what to send.
        interval_s: seconds between two lists at least, but for the first of them. 0: every event by itself.
    """
    if interval_s <= 0:
        async for event in events:
            yield [event]
        return
    clock = asyncio.get_running_loop().time
    waiting: list[T] = []
    came, over = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        try:
            async for event in events:
                waiting.append(event)
                came.set()
        finally:
            over.set()
            came.set()

    reader = asyncio.create_task(read())
    sent, last = 0, -interval_s
    try:
        while True:
            await came.wait()
            pause = last + interval_s - clock()
            if sent >= AT_ONCE and pause > 0 and not over.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), pause)
            came.clear()
            if waiting:
                together, waiting[:] = list(waiting), []
                sent, last = sent + len(together), clock()
                yield together
            if over.is_set() and not waiting:
                await reader
                return
    finally:
        if not reader.done():
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
