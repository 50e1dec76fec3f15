"""What a run says while it trains: one JSON line a step.

The first worker appends to `<output>/metrics.jsonl`; whoever started the run follows that file (`progress`). So the
workers never wait for an observer, and a notebook or another terminal can follow just as well.

Fields of a line:

- step, epoch: from 1
- loss: mean over the trained tokens of the global batch
- validation_loss: of the held-out traces after the step, at the steps that measure it
- grad_norm: before clipping
- learning_rate
- tokens, trained_tokens: in the global batch
- padding: part of the computed tokens, 0 to 1
- seconds, tokens_per_second: of all workers
- mfu: model FLOPs utilization, 0 to 1 (see `throughput`), where the devices' peak is known
- memory_gib: the first worker's peak so far, on its GPU, or in all on a CPU
- workers: how many took part
- skipped, rows: if the update was left out, why, and the ids of the step's examples
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

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
        """Append one step; numbers that are not finite become null, as JSON has none."""
        line = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in metrics.items()}
        self._stream.write(json.dumps(line, allow_nan=False) + "\n")

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


class MetricsTail:
    """Follows a metrics file that another process writes."""

    def __init__(self, path: Path):
        self._path = path
        self._position: tuple[int, int] = (0, 0)

    def read(self) -> list[dict[str, Any]]:
        """The steps since the last call. A run that goes on from a checkpoint tells some again, from the first on."""
        try:
            with self._path.open("rb") as stream:
                inode, offset = self._position
                found = os.fstat(stream.fileno())
                # A run that goes on writes the file anew.
                stream.seek(offset if inode == found.st_ino and offset <= found.st_size else 0)
                start = stream.tell()
                whole = stream.read().rpartition(b"\n")[0]
        except FileNotFoundError:
            return []
        lines = whole.splitlines()
        self._position = (found.st_ino, start + (len(whole) + 1 if lines else 0))
        return [json.loads(line) for line in lines]
