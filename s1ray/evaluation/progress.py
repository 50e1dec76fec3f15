"""Progress of an eval run: a bar on a terminal, elsewhere a log line every few seconds."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from s1ray.logs import heartbeat

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


log = logging.getLogger("s1ray")


class Progress:
    """Counts responses and shows the count; use it as a context manager.

    Args:
        total: responses of the run, those of an earlier attempt included.
        done: how many of them an earlier attempt got.
    """

    def __init__(self, total: int, done: int) -> None:
        self._total, self._done = total, done
        self._failed = 0
        self._tokens = 0
        self._started = time.monotonic()
        self._bar: Bar | None = None
        self._shown = ExitStack()

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = self._shown.enter_context(_bar(self._total, self._done))
        else:
            self._shown.enter_context(heartbeat(lambda seconds: self._line()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.close()
        log.info("%s", self._line())

    def finished(self, tokens: int, *, failed: bool) -> None:
        """Count one more response and its tokens."""
        self._done += 1
        self._failed += failed
        self._tokens += tokens
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done, note=self._note())

    def _line(self) -> str:
        return f"eval: {self._done} of {self._total} responses, {self._note()}"

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
    bar.add_task("", total=total, completed=done, note="")
    return bar
