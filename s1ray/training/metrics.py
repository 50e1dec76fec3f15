"""What a run says while it trains: one JSON line a step, and a progress bar made from them.

The first worker appends to `<output>/metrics.jsonl`; whoever started the run follows that file. So the workers never
wait for an observer, and a notebook or another terminal can follow just as well.

Fields of a line: step (from 1), epoch (from 1), loss (mean over the trained tokens of the global batch), grad_norm
(before clipping), learning_rate, tokens (all in the global batch), trained_tokens, padding (part of the computed
tokens, 0 to 1), seconds, tokens_per_second (all workers), and on GPUs memory_gib (the first worker's peak so far).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

log = logging.getLogger("s1ray")

METRICS_FILE = "metrics.jsonl"


class MetricsFile:
    """Appends steps to a metrics file."""

    def __init__(self, path: Path, *, finished_steps: int):
        """Open the file to go on after `finished_steps`: lines of later steps, from a run that died, are removed."""
        kept = [line for line in read_metrics(path) if line["step"] <= finished_steps]
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        os.replace(temporary, path)
        self._stream = path.open("a", encoding="utf-8", buffering=1)

    def write(self, metrics: dict[str, Any]) -> None:
        """Append one step."""
        self._stream.write(json.dumps(metrics) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The steps in a metrics file; empty if there is none. A last line that is not yet whole is left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


class Progress:
    """Shows the steps of a run while it goes on: a bar on a terminal, else a log line every few seconds.

    Use it as a context manager around the run.
    """

    def __init__(self, path: Path, total_steps: int, *, interval: float = 10.0):
        self._path = path
        self._total = total_steps
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="training-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        if sys.stderr.isatty():
            self._bar()
        else:
            self._lines()

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
                stopped = self._stop.wait(0.5)
                if latest := self._latest():
                    bar.update(task, completed=latest["step"], description=describe(latest))
                if stopped:
                    return

    def _lines(self) -> None:
        shown, shown_at = 0, time.monotonic()
        while True:
            stopped = self._stop.wait(0.5)
            due = stopped or time.monotonic() - shown_at >= self._interval
            if due and (latest := self._latest()) and latest["step"] != shown:
                log.info("train: step %d/%d, %s", latest["step"], self._total, describe(latest))
                shown, shown_at = latest["step"], time.monotonic()
            if stopped:
                return

    def _latest(self) -> dict[str, Any] | None:
        try:
            with self._path.open("rb") as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - 4096))
                lines = stream.read().decode("utf-8", errors="replace").split("\n")[:-1]
            return json.loads(lines[-1]) if lines else None
        except (OSError, ValueError):
            return None


def describe(metrics: dict[str, Any]) -> str:
    """A step in a few words."""
    return f"loss {metrics['loss']:.3f}, {metrics['tokens_per_second']:,.0f} tokens/s"
