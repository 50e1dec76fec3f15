"""Progress of an eval run: a bar on a terminal, elsewhere a log line every few seconds."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from s1ray.evaluation.count import Verdicts
from s1ray.evaluation.tasks import UNGRADED, Cell, JournalKey, journal_key
from s1ray.logs import heartbeat
from s1ray.schemas import Evaluation

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live
    from rich.progress import Progress as Bar


log = logging.getLogger("s1ray")

SHOWN = 6
"""Arms whose accuracy is in a line."""
REFRESH_S = 1.0
"""Seconds between two looks at the accuracies on a terminal."""


class Progress:
    """Counts responses and shows what they say so far; use it as a context manager.

    Args:
        cells: what is measured.
        spent: currency -> money so far.
    """

    def __init__(self, cells: Sequence[Cell], spent: Callable[[], Mapping[str, float]] = dict) -> None:
        self._total = sum(cell.size for cell in cells)
        self._spent = spent
        self._done = self._before = self._failed = self._tokens = 0
        several = len({cell.benchmark.name for cell in cells}) > 1
        self._names = {cell.key: " ".join(cell.key if several else cell.key[1:]) for cell in cells}
        self._verdicts: dict[JournalKey, Verdicts] = {cell.key: Verdicts(cell) for cell in cells}
        self._started = time.monotonic()
        self._live: Live | None = None
        self._bar: Bar | None = None
        self._shown = ExitStack()

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if sys.stderr.isatty():
            self._bar, self._live = _bar(self._total, self._view)
            self._shown.enter_context(self._live)
        else:
            self._shown.enter_context(heartbeat(lambda seconds: self.line()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.close()
        log.info("%s", self.line())

    def found(self, row: Evaluation) -> None:
        """Count a response of an earlier start, once it is graded."""
        if row.error is None and row.verdict != UNGRADED:
            self._done += 1
            self._before += 1
            self._verdicts[journal_key(row)].add(row)

    def finished(self, row: Evaluation) -> None:
        """Count one more response and its tokens."""
        self._done += 1
        self._failed += row.error is not None
        self._tokens += row.thinking_tokens + row.answer_tokens
        if row.error is None:
            self._verdicts[journal_key(row)].add(row)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done)

    def line(self) -> str:
        """How far it is, how fast, for how much, and what the answers say so far."""
        accuracies = "; ".join(self._accuracies())
        return f"eval: {self._done:,} of {self._total:,} responses, {self._note()}" + (accuracies and f"; {accuracies}")

    def _note(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        came = self._done - self._before
        parts = [f"{self._tokens / seconds:,.0f} tokens/s", f"{came / seconds:,.1f} samples/s"]
        parts += [f"{self._tokens:,} tokens"] if self._tokens else []
        parts += [f"{money:,.2f} {currency}" for currency, money in self._spent().items()]
        parts += [f"{self._failed:,} failed"] if self._failed else []
        if came and self._done < self._total:
            parts.append(f"about {_duration((self._total - self._done) * seconds / came)} left")
        return ", ".join(parts)

    def _accuracies(self) -> list[str]:
        """Of each arm that has an answer, with its interval."""
        found = []
        for key, verdicts in self._verdicts.items():
            if (share := verdicts.accuracy) is not None:
                low, value, high = (100 * number for number in (share.low, share.value, share.high))
                found.append(f"{self._names[key]}: {value:.1f} % ({low:.1f} to {high:.1f}, {share.n} questions)")
        more = len(found) - SHOWN
        return found if more <= 0 else [*found[:SHOWN], f"and {more} more arms"]

    def _view(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        assert self._bar is not None
        return Group(self._bar, Text(f"{self._note()}\n" + "\n".join(self._accuracies())))


def _duration(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} hours"


def _bar(total: int, view: Callable[[], Group]) -> tuple[Bar, Live]:
    from rich.console import Console
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    bar = Bar(TextColumn("eval"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar.add_task("", total=total)
    live = Live(get_renderable=view, console=Console(stderr=True), refresh_per_second=1 / REFRESH_S)
    return bar, live
