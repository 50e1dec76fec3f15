"""One request on its way through the replica: when the engine has it, and how often its stream is read.

vLLM merges the tokens of a stream that its reader has not taken yet, for nearly nothing; every part that is read costs
JSON, accounting and a write. So a stream is read as often as it sends (`s1ray.serving.replica.stream_batching`), and at
once where it is complete. Tool calls are not: their parsers want every token by itself; nor are strategies, which look
at every token themselves.

Imported only where ray.serve.llm is (it imports vLLM).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from s1ray.serving.http.preparing import prepared
from s1ray.serving.metrics import FrameworkMeter
from s1ray.serving.replica.stream_batching import AT_ONCE, Pace

if TYPE_CHECKING:
    from vllm import RequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.output_processor import RequestOutputCollector

OUTPUTS_AT_ONCE = 8
"""A stream begins with the delimiter of its thinking, which may be several tokens without a text."""

FLOW: ContextVar[Flow | None] = ContextVar("s1ray_flow", default=None)
"""The request that the current task serves."""


class Flow:
    """One request.

    Args:
        meter: takes the times.
        pace: of its stream. None: every output is read at once.
        roles: its stream begins with an event that has no text, the role of a chat.
    """

    def __init__(self, meter: FrameworkMeter, pace: Pace | None, *, roles: bool = False) -> None:
        self._meter, self.pace, self.roles = meter, pace, roles
        self._complete: dict[str, asyncio.Event] = {}
        self._output_at: float | None = None
        self._parts = 0

    def entered(self, request_id: str, collector: RequestOutputCollector) -> None:
        """The engine has a request, and puts its outputs into this collector."""
        self._meter.entered()
        prepared()
        complete = self._complete[request_id] = asyncio.Event()
        put = collector.put

        def note_and_put(output: Any) -> None:
            if self._output_at is None:
                self._output_at = time.monotonic()
            put(output)
            # Exceptions are the end, too.
            if getattr(output, "finished", True):
                complete.set()

        collector.put = note_and_put

    def is_complete(self) -> bool:
        """Whether the engine has nothing more to say: what has not been read of the stream comes at once."""
        return bool(self._complete) and all(complete.is_set() for complete in self._complete.values())

    def sent(self) -> None:
        """A part of the response has been made."""
        if self._parts == 0 and self._output_at is not None:
            self._meter.left(time.monotonic() - self._output_at)
        self._parts += 1

    async def paced(self, request_id: str, outputs: AsyncGenerator[RequestOutput]) -> AsyncGenerator[RequestOutput]:
        """The engine's outputs, not more often than the stream sends; the first ones and the last one at once."""
        clock, taken = time.monotonic, 0
        async with contextlib.aclosing(outputs):
            async for output in outputs:
                at = clock()
                yield output
                taken += 1
                if self.pace is None or (self._parts < AT_ONCE and taken < OUTPUTS_AT_ONCE):
                    continue
                pause, complete = at + self.pace.interval_s - clock(), self._complete[request_id]
                if pause > 0 and not complete.is_set():
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(complete.wait(), pause)


def install(engine: AsyncLLM) -> None:
    """Let the requests of this engine be followed."""
    add = engine.add_request

    async def add_request(*args: Any, **options: Any) -> RequestOutputCollector:
        collector = await add(*args, **options)
        if (flow := FLOW.get()) is not None:
            flow.entered(args[0], collector)
        return collector

    engine.add_request = add_request
