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


class Journal:
    """The rows of one model and arm; use it as a context manager.

    Attributes:
        rows: id -> row. A row that is added again replaces the older one.
    """

    def __init__(self, path: Path):
        """Read what the file holds, if it exists. A last line that a kill cut short is dropped.

        Raises:
            RunError: the file is damaged elsewhere than at its end.
        """
        self.path = path
        self.rows: dict[str, Evaluation] = {}
        self._stream: BinaryIO | None = None
        self._whole = 0
        data = path.read_bytes() if path.exists() else b""
        for number, line in enumerate(data.splitlines(keepends=True), 1):
            if not line.endswith(b"\n"):
                break
            try:
                row = stored_row(json.loads(line))
            except (ValueError, TypeError):
                raise RunError(f"{path}: line {number} is damaged; pass --force to start the run again") from None
            self.rows[row.id] = row
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

    def add(self, row: Evaluation) -> None:
        """Append a row."""
        assert self._stream is not None, "the journal is not open"
        self._stream.write(json.dumps(vars(row), ensure_ascii=False).encode() + b"\n")
        self._stream.flush()
        self.rows[row.id] = row
