"""Shows a run's steps while it trains, and passes them on to the trackers (`tracking`)."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, Self

from s1ray.storage import Location
from s1ray.training.monitoring.metrics import StepMetrics, read_metrics
from s1ray.training.monitoring.tracking import Tracker

log = logging.getLogger("s1ray")

POLL_SECONDS = 0.5
LONG_STEP = 10
"""A step is mentioned as long after so many times the patience."""


class Awaited(Protocol):
    """What a run waits for (`startup.Awaited`)."""

    def stepped(self) -> None:
        """Called when there are new steps."""

    def __call__(self, *, finished: bool) -> str | None:
        """In a few words; None: for the next step, as always. `finished`: there are no more steps."""


class Progress:
    """Follows a run's metrics file: a bar on a terminal, else a log line every few seconds.

    Use it as a context manager around the run.
    """

    def __init__(
        self,
        path: Location,
        total_steps: int,
        *,
        trackers: Sequence[Tracker] = (),
        awaited: Awaited | None = None,
        interval: float = 10.0,
        patience: float = 60.0,
    ):
        """Prepare to follow a file that may not exist yet.

        Args:
            trackers: each gets every step once, in order, and is closed at the end. One that fails is dropped.
            awaited: says what is awaited where there are no steps.
            interval: seconds between log lines.
            patience: seconds between lines on what is awaited; at the start the first comes after `interval`.
        """
        self._path = path
        self._bytes = 0
        self._total = total_steps
        self._trackers = list(trackers)
        self._awaited = awaited
        self._interval = interval
        self._patience = patience
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
            stepped = said_at = time.monotonic()
            while True:
                stopped = self._stop.wait(POLL_SECONDS)
                if latest := self._latest():
                    bar.update(task, completed=latest["step"], description=describe(latest))
                    stepped = said_at = time.monotonic()
                elif not stopped and time.monotonic() - said_at >= self._interval:
                    said_at = time.monotonic()
                    if what := self._waiting(said_at - stepped):
                        bar.update(task, description=what)
                if stopped:
                    return

    def _lines(self) -> None:
        waiting: StepMetrics | None = None
        said = False
        stepped = said_at = shown_at = time.monotonic()
        while True:
            stopped = self._stop.wait(POLL_SECONDS)
            if latest := self._latest():
                waiting, stepped = latest, time.monotonic()
                said_at = stepped
            if waiting and (stopped or time.monotonic() - shown_at >= self._interval):
                log.info("train: step %d/%d, %s", waiting["step"], self._total, describe(waiting))
                waiting, shown_at = None, time.monotonic()
            elif not stopped and time.monotonic() - said_at >= (self._patience if said else self._interval):
                said, said_at = True, time.monotonic()
                if what := self._waiting(said_at - stepped):
                    log.info("train: %s", what)
            if stopped:
                return

    def _waiting(self, seconds: float) -> str | None:
        """What is awaited, after so long without a step; None: nothing but a step that takes its time."""
        what: str | None = "the workers are starting"
        if self._awaited is not None:
            # Ray raises all sorts of errors where it has just lost a node; the run is told of them elsewhere.
            try:
                what = self._awaited(finished=self._tracked >= self._total)
            except Exception as error:
                what = f"Ray does not answer ({type(error).__name__})"
        if what is None and seconds < LONG_STEP * self._patience:
            return None
        since = "no step for " if self._tracked else ""
        return f"{what or 'the workers are there, and still at a step'} ({since}{seconds:.0f} s)"

    def _latest(self) -> StepMetrics | None:
        """The newest step since the last call; passes all new steps to the trackers."""
        found = self._path.stat().st_size if self._path.exists() else 0
        if found == self._bytes:
            return None
        self._bytes = found
        lines = read_metrics(self._path)
        if lines and self._awaited is not None:
            with contextlib.suppress(Exception):
                self._awaited.stepped()
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
