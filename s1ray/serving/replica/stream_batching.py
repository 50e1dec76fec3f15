"""Sends a stream's events in batches, so that many streams cost little, without delaying the first events.

Every part of a stream costs time in the replica, the HTTP worker, the proxy and Ray's transport between them, whatever
it holds. At 64 streams of 50 tokens a second, one part for each token is more than they can do in addition to an
engine: on two cores it took half of the throughput. So events that come within one interval after the last part travel
together in the next one; the first events of a stream, and events after a pause, go at once. The interval grows with
the number of streams, up to a limit, so that a replica sends no more parts a second than its machine can.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeVar

T = TypeVar("T")

PARTS_PER_CORE_AND_S = 50
"""Through an HTTP worker, a part takes about two milliseconds of processor time in all processes together
(`benchmarks/serving`), so this is a tenth of the cores."""

DIRECT_PARTS_PER_CORE_AND_S = 200
"""Where the replica answers HTTP itself: a part takes a fraction of that, but others' first tokens wait for it."""

MAX_S = 1.0
"""Seconds between two parts of a stream at most, however many streams there are: a reader should see it grow."""

AT_ONCE = 2
"""Events at the beginning of a stream that are not delayed: the role, and the first token."""


class Pace:
    """How often the streams of one replica send.

    Args:
        interval_s: seconds between two parts of a stream at least, but for the first. 0: every event by itself.
        parts_per_s: parts that all streams together send in a second.
    """

    def __init__(self, interval_s: float, parts_per_s: float) -> None:
        self._interval_s, self._parts_per_s = interval_s, parts_per_s
        self.streams = 0
        """Streams that are open."""

    @property
    def interval_s(self) -> float:
        """Seconds between two parts of a stream now."""
        if self._interval_s <= 0:
            return 0.0
        return max(self._interval_s, min(MAX_S, self.streams / self._parts_per_s))


async def batched(
    events: AsyncGenerator[T], pace: Pace, *, is_complete: Callable[[], bool] | None = None, held: int = 0
) -> AsyncGenerator[list[T]]:
    """Events in lists: at once where the last list is older than the interval, otherwise with those that follow in it.

    Args:
        events: of one stream. An error in them is raised after all events before it. Closed with this generator.
        pace: of the replica's streams.
        is_complete: says whether all that is left of the stream comes at once; of events that keep the pace themselves.
            None: they do not.
        held: of events that keep the pace, how many of the first wait for the one after them, which comes at the same
            time.
    """
    pace.streams += 1
    try:
        if is_complete is not None:
            parts = _as_they_come(events, is_complete, held)
        elif pace.interval_s <= 0:
            parts = _as_they_come(events, lambda: False, 0)
        else:
            parts = _in_intervals(events, pace)
        async with contextlib.aclosing(parts):
            async for part in parts:
                yield part
    finally:
        pace.streams -= 1


async def _as_they_come(
    events: AsyncGenerator[T], is_complete: Callable[[], bool], held: int
) -> AsyncGenerator[list[T]]:
    """Each event by itself, but for those that come at the same time: the first `held` ones with the one that follows,
    and what is left of a complete stream.
    """
    together: list[T] = []
    sent = 0
    async with contextlib.aclosing(events):
        try:
            async for event in events:
                together.append(event)
                if sent + len(together) > held and not is_complete():
                    part, together = together, []
                    sent += len(part)
                    yield part
        except Exception:
            if together:
                part, together = together, []
                yield part
            raise
        if together:
            yield together


async def _in_intervals(events: AsyncIterator[T], pace: Pace) -> AsyncGenerator[list[T]]:
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
    sent, last = 0, -math.inf
    try:
        while True:
            await came.wait()
            pause = last + pace.interval_s - clock()
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
