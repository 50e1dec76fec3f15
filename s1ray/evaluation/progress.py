"""Progress of an eval run: a bar on a terminal, elsewhere a log line every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LOG_SECONDS = 10.0
"""Between two log lines."""

log = logging.getLogger("s1ray")


class Progress:
    """Counts responses and shows the count; use it as an asynchronous context manager.

    Args:
        total: responses of the run, those of an earlier attempt included.
        done: how many of them an earlier attempt got.
    """

    def __init__(self, total: int, done: int) -> None:
        self._total, self._done = total, done
        self._failed = 0
        self._tokens = 0
        self._started = time.monotonic()

    async def __aenter__(self) -> Progress:
        self._bar = _bar(self._total, self._done) if sys.stderr.isatty() else None
        # A log line comes even while no response does.
        self._ticks = asyncio.create_task(self._log_again_and_again()) if self._bar is None else None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._ticks is not None:
            self._ticks.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticks
            self._log()

    def finished(self, tokens: int, *, failed: bool) -> None:
        """Count one more response and its tokens."""
        self._done += 1
        self._failed += failed
        self._tokens += tokens
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done, note=self._note())

    async def _log_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(LOG_SECONDS)
            self._log()

    def _log(self) -> None:
        log.info("eval: %d of %d responses, %s", self._done, self._total, self._note())

    def _note(self) -> str:
        rate = self._tokens / max(time.monotonic() - self._started, 1e-9)
        return f"{rate:,.0f} tokens/s" + (f", {self._failed} failed" if self._failed else "")


def _bar(total: int, done: int) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("eval"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    bar.start()
    bar.add_task("", total=total, completed=done, note="")
    return bar
