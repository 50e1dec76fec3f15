"""Shows a run's steps while it trains, and passes them on to the trackers (`tracking`)."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from s1ray.training.monitoring.metrics import StepMetrics, read_metrics
from s1ray.training.monitoring.tracking import Tracker

log = logging.getLogger("s1ray")

POLL_SECONDS = 0.5


class Progress:
    """Follows a run's metrics file: a bar on a terminal, else a log line every few seconds.

    Use it as a context manager around the run.
    """

    def __init__(self, path: Path, total_steps: int, *, trackers: Sequence[Tracker] = (), interval: float = 10.0):
        """Prepare to follow a file that may not exist yet.

        Args:
            trackers: each gets every step once, in order, and is closed at the end. One that fails is dropped.
            interval: seconds between log lines.
        """
        self._path = path
        self._bytes = 0
        self._total = total_steps
        self._trackers = list(trackers)
        self._interval = interval
        self._tracked = 0
        self._failed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="training-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._failed = kind is not None
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        if sys.stderr.isatty():
            self._bar()
        else:
            self._lines()
        for tracker in list(self._trackers):
            self._attempt(tracker, partial(tracker.close, failed=self._failed))

    def _bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        with Bar(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("starting the workers", total=self._total)
            while True:
                stopped = self._stop.wait(POLL_SECONDS)
                if latest := self._latest():
                    bar.update(task, completed=latest["step"], description=describe(latest))
                if stopped:
                    return

    def _lines(self) -> None:
        waiting: StepMetrics | None = None
        started = shown_at = time.monotonic()
        while True:
            stopped = self._stop.wait(POLL_SECONDS)
            waiting = self._latest() or waiting
            if waiting and (stopped or time.monotonic() - shown_at >= self._interval):
                log.info("train: step %d/%d, %s", waiting["step"], self._total, describe(waiting))
                waiting, shown_at = None, time.monotonic()
            elif not self._tracked and time.monotonic() - shown_at >= self._interval:
                shown_at = time.monotonic()
                log.info("train: the workers are starting (%.0f s)", shown_at - started)
            if stopped:
                return

    def _latest(self) -> StepMetrics | None:
        """The newest step since the last call; passes all new steps to the trackers."""
        found = self._path.stat().st_size if self._path.exists() else 0
        if found == self._bytes:
            return None
        self._bytes = found
        lines = read_metrics(self._path)
        for line in lines:
            if line["step"] > self._tracked:
                self._tracked = line["step"]
                for tracker in list(self._trackers):
                    self._attempt(tracker, partial(tracker.log, line))
        return lines[-1] if lines else None

    def _attempt(self, tracker: Tracker, call: Callable[[], None]) -> None:
        # Whatever a tracking service raises, it must not end the training.
        try:
            call()
        except Exception as error:
            log.warning("train: %s failed (%s); it gets no further steps", tracker.name, error)
            self._trackers.remove(tracker)


def describe(metrics: StepMetrics) -> str:
    """A step in a few words."""
    loss = "not a number" if metrics["loss"] is None else f"{metrics['loss']:.3f}"
    parts = [f"loss {loss}", f"{metrics['tokens_per_second']:,.0f} tokens/s"]
    if (validation_loss := metrics.get("validation_loss")) is not None:
        parts.insert(1, f"validation {validation_loss:.3f}")
    if metrics.get("workers", 1) > 1 and "busy" in metrics:
        parts.append(f"workers busy {100 * metrics['busy']:.0f} %")
    if "mfu" in metrics:
        parts.append(f"MFU {100 * metrics['mfu']:.1f} %")
    if "skipped" in metrics:
        parts.append(f"skipped: {metrics['skipped']}")
    return ", ".join(parts)
