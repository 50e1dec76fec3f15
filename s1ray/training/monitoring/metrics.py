"""What a run records while it trains: one JSON line for each step.

The first worker appends to `<output>/metrics.jsonl`; the process that started the run follows that file (`progress`).
So the workers never wait for an observer, and a notebook or another terminal can follow just as well.
"""

from __future__ import annotations

import json
import math
from typing import IO, NotRequired, TypedDict, cast

from s1ray.storage import Growing, Location, StorePath, write_text

METRICS_FILE = "metrics.jsonl"


class StepMetrics(TypedDict):
    """A line of the metrics file."""

    step: int
    """Counted from 1, as is `epoch`."""
    epoch: int
    loss: float | None
    """Mean over the trained tokens of the global batch. None in the file: not a finite number."""
    grad_norm: float | None
    """Before clipping."""
    learning_rate: float
    tokens: int
    """In the global batch."""
    trained_tokens: int
    padding: float
    """Part of the computed tokens, 0 to 1."""
    busy: float
    """Part of the workers' time, 0 to 1, in which they do not wait for the one with the most work, by the model's
    operations."""
    seconds: float
    tokens_per_second: float
    """Over all workers."""
    memory_gib: float
    """The first worker's peak so far: on its GPU, or of its process on a CPU."""
    workers: int
    mfu: NotRequired[float]
    """Model FLOPs utilization, 0 to 1 (see `planning.mfu`), where the devices' peak is known."""
    validation_loss: NotRequired[float | None]
    """On the held-out traces after the step, at the steps that measure it."""
    skipped: NotRequired[str]
    """Why the update was skipped, if it was."""
    rows: NotRequired[list[str]]
    """Ids of a skipped step's examples."""


class MetricsFile:
    """Appends steps to a metrics file."""

    def __init__(self, path: Location, *, finished_steps: int):
        """Open the file to continue after `finished_steps`: lines of later steps, from a run that died, are removed."""
        kept = [line for line in read_metrics(path) if line["step"] <= finished_steps]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._stream: IO[str] | Growing = (
            Growing(path) if isinstance(path, StorePath) else path.open("a", encoding="utf-8", buffering=1)
        )

    def write(self, metrics: StepMetrics) -> None:
        """Append one step; numbers that are not finite become null, which JSON can express."""
        line = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in metrics.items()}
        text = json.dumps(line, allow_nan=False) + "\n"
        if isinstance(self._stream, Growing):
            self._stream.append(text.encode())
        else:
            self._stream.write(text)

    def flush(self) -> None:
        """Have all steps in the file: a checkpoint that is past them keeps them from being taken again.

        Raises:
            OSError: they cannot be written.
        """
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_metrics(path: Location) -> list[StepMetrics]:
    """The steps in a metrics file; none if there is no file. An incomplete last line is left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [cast(StepMetrics, json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines()]
