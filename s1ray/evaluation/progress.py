"""How a benchmark run shows that it is getting on: a bar on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Any

LOG_SECONDS = 10.0
"""Between two log lines."""

log = logging.getLogger("s1ray")


class Progress:
    """Counts responses; use it as a context manager.

    Args:
        total: responses to come, those of an earlier attempt included.
        done: how many of them an earlier attempt has brought.
    """

    def __init__(self, total: int, done: int) -> None:
        self._total, self._done, self._begun_with = total, done, done
        self._failed = 0
        self._tokens = 0
        self._started = self._logged = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("benchmark"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total, completed=self._done, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._done > self._begun_with:
            self._log()

    def finished(self, tokens: int, *, failed: bool) -> None:
        """One more response, of so many tokens."""
        self._done += 1
        self._failed += failed
        self._tokens += tokens
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, note=self._note())
        elif time.monotonic() - self._logged >= LOG_SECONDS:
            self._log()

    def _log(self) -> None:
        self._logged = time.monotonic()
        log.info("benchmark: %d of %d responses, %s", self._done, self._total, self._note())

    def _note(self) -> str:
        rate = self._tokens / max(time.monotonic() - self._started, 1e-9)
        return f"{rate:,.0f} tokens/s" + (f", {self._failed} failed" if self._failed else "")
