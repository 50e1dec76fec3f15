"""A generator for synchronous code: actors that answer one shard of questions after another, scripts and notebooks."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import queue
import threading
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Self, TypeVar

from s1ray.generation.base import GenerationRequest, Generator, complete_all
from s1ray.schemas import Completion

MakeGenerator = Callable[[], Generator]

T = TypeVar("T")

CANCEL_S = 30.0
"""Seconds that requests which are cancelled have to end."""


class BlockingGenerator:
    """Completes lists of requests on an event loop of its own, in a thread of its own; use as `with`, or call `close`.

    An engine is tied to the loop that it was first used on, so the loop lives as long as the engine does.
    """

    def __init__(self, make_generator: MakeGenerator, concurrency: int = 64) -> None:
        """Start the loop and make the generator on it.

        Args:
            make_generator: makes the generator; called on the loop's thread.
            concurrency: requests in flight at once.
        """
        self._concurrency = concurrency
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="generator", daemon=True)
        self._thread.start()
        try:
            self._generator = self._run(_made(make_generator))
        except BaseException:
            self._stop()
            raise

    def complete(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Completions in the order of the requests; one that failed holds the message in `error`."""
        found = {completion.id: completion for completion in self.stream(requests)}
        return [found[request.id] for request in requests]

    def stream(self, requests: Sequence[GenerationRequest]) -> collections.abc.Generator[Completion]:
        """Completions in the order in which they finish.

        One that the caller has not dealt with keeps the place of its request, so that a slow caller (a ledger on a slow
        disk) never has more than `concurrency` to lose. Leaving the loop early cancels what is in flight and waits for
        its end.
        """
        found: queue.SimpleQueue[Completion | None] = queue.SimpleQueue()
        dealt_with = asyncio.Event()
        work = asyncio.run_coroutine_threadsafe(self._complete(requests, found, dealt_with), self._loop)
        try:
            while (completion := found.get()) is not None:
                yield completion
                self._loop.call_soon_threadsafe(dealt_with.set)
            work.result()
        finally:
            # What the requests tell of their end must not come later than this.
            if work.cancel():
                with contextlib.suppress(queue.Empty):
                    while found.get(timeout=CANCEL_S) is not None:
                        pass

    def close(self) -> None:
        """Release the generator and end the thread."""
        if self._loop.is_running():
            self._run(self._generator.close())
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def _complete(
        self,
        requests: Sequence[GenerationRequest],
        found: queue.SimpleQueue[Completion | None],
        dealt_with: asyncio.Event,
    ) -> None:
        try:
            completing = complete_all(self._generator, requests, concurrency=self._concurrency)
            # Closed here: cancelled between two completions, it would end the others only some time later.
            async with contextlib.aclosing(completing) as completions:
                async for completion in completions:
                    found.put(completion)
                    await dealt_with.wait()
                    dealt_with.clear()
        finally:
            found.put(None)

    def _run(self, coroutine: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)


async def _made(make_generator: MakeGenerator) -> Generator:
    return make_generator()
