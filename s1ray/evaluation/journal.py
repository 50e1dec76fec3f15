"""Finished rows, stored as soon as they are finished, so that a killed run can resume.

A journal has one JSON line per row, appended and handed to the operating system at once, so that killing the process
loses none. The Parquet file is written from the journals at the end.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from s1ray.evaluation.tasks import stored_row
from s1ray.runs import RunError
from s1ray.schemas import Evaluation

SECONDS = "seconds"
"""Beside a row's own fields. Rows have no clock, so that the results of equal runs are equal to the byte."""


class Journal:
    """The rows of one benchmark, model and arm; use it as a context manager.

    Attributes:
        rows: id -> row. A row that is added again replaces the older one.
        seconds: id -> how long the answer took, where the journal says so.
    """

    def __init__(self, path: Path):
        """Read what the file holds, if it exists. A last line that a kill cut short is dropped.

        Raises:
            RunError: the file is damaged elsewhere than at its end.
        """
        self.path = path
        self.rows: dict[str, Evaluation] = {}
        self.seconds: dict[str, float] = {}
        self._stream: BinaryIO | None = None
        self._whole = 0
        data = path.read_bytes() if path.exists() else b""
        for number, line in enumerate(data.splitlines(keepends=True), 1):
            if not line.endswith(b"\n"):
                break
            try:
                fields = json.loads(line)
                seconds = fields.pop(SECONDS, None)
                row = stored_row(fields)
            except (ValueError, TypeError, AttributeError):
                raise RunError(f"{path}: line {number} is damaged; pass --force to start the run again") from None
            self._take(row, seconds)
            self._whole += len(line)

    def __enter__(self) -> Journal:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self.path.open("ab")
        self._stream.truncate(self._whole)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._stream is not None
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._stream = None

    def add(self, row: Evaluation, seconds: float | None = None) -> None:
        """Append a row, and the seconds that its answer took."""
        assert self._stream is not None, "the journal is not open"
        line = json.dumps(vars(row) | {SECONDS: seconds}, ensure_ascii=False)
        self._stream.write(line.encode() + b"\n")
        self._stream.flush()
        self._take(row, seconds)

    def _take(self, row: Evaluation, seconds: float | None) -> None:
        self.rows[row.id] = row
        self.seconds.pop(row.id, None)
        if seconds is not None:
            self.seconds[row.id] = seconds
