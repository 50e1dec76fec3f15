"""Finished rows, stored as soon as they are finished, so that a killed run can resume.

A journal has one JSON line per row, appended and handed to the operating system at once, so that killing the process
loses none. Of a row this process holds only where its line begins; the Parquet file is written from the journals at the
end. The journal of a run in a store is a folder of parts (`s1ray.storage.appending`), with a working copy on this
machine.
"""

from __future__ import annotations

import json
import os
import tempfile
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from s1ray.evaluation.tasks import UNGRADED, stored_row
from s1ray.manifests import RunError
from s1ray.schemas import Evaluation
from s1ray.storage import Location, PartFolder, Parts, StorePath, private

SECONDS = "seconds"
"""Beside a row's own fields. Rows have no clock, so that the results of equal runs are equal to the byte."""
NOWHERE = -1


class Journal:
    """The rows of one benchmark, model and arm, by their place among them; use it as a context manager.

    Args:
        path: the file.
        size: rows that there will be.
        place: the place of a row, from 0; KeyError where it is none of them.
        seen: is told of every row that is there already. A row that was added again is told of again.
    """

    def __init__(
        self,
        path: Location,
        size: int,
        place: Callable[[Evaluation], int],
        seen: Callable[[Evaluation], None] = lambda row: None,
    ):
        """Read what the file holds, if it exists. A last line that a kill cut short is dropped.

        Raises:
            RunError: the file is damaged elsewhere than at its end.
        """
        self._parts_of = PartFolder(path) if isinstance(path, StorePath) else None
        self._parts: Parts | None = None
        self.path = path if isinstance(path, Path) else self._working_copy()
        self._place = place
        self._begins = array("q", [NOWHERE]) * size
        self._failed = bytearray(size)
        self._ungraded = bytearray(size)
        self._stream: BinaryIO | None = None
        self._whole = 0
        if self.path.exists():
            with self.path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if not line.endswith(b"\n"):
                        break
                    try:
                        row, _ = _read(line)
                        self._take(row, len(line))
                    except (ValueError, TypeError, AttributeError, LookupError):
                        raise RunError(
                            f"{path}: line {number} is damaged; pass --force to start the run again"
                        ) from None
                    seen(row)

    def __enter__(self) -> Journal:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = open(self.path, "ab", opener=private)
        self._stream.truncate(self._whole)
        self._parts = None if self._parts_of is None else self._parts_of.appender()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._stream is not None
        if self._parts is not None:
            self._parts.close()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._stream = None

    def add(self, row: Evaluation, seconds: float | None = None) -> None:
        """Append a row, and the seconds that its answer took. It replaces an older one of the same place."""
        assert self._stream is not None, "the journal is not open"
        line = json.dumps(vars(row) | {SECONDS: seconds}, ensure_ascii=False).encode() + b"\n"
        self._stream.write(line)
        self._stream.flush()
        if self._parts is not None:
            self._parts.append(line)
        self._take(row, len(line))

    def is_missing(self, place: int) -> bool:
        """Whether a row is not there, or its request failed."""
        return self._begins[place] == NOWHERE or bool(self._failed[place])

    @property
    def missing(self) -> int:
        """How many are."""
        return sum(map(self.is_missing, range(len(self._begins))))

    @property
    def failed(self) -> list[int]:
        """The places of the rows whose request failed."""
        return [place for place, failed in enumerate(self._failed) if failed]

    @property
    def ungraded(self) -> list[int]:
        """The places of the rows whose answer has no verdict yet."""
        return [place for place, ungraded in enumerate(self._ungraded) if ungraded]

    def row(self, place: int) -> Evaluation:
        """One row, which must be there."""
        return self.timed(place)[0]

    def timed(self, place: int) -> tuple[Evaluation, float | None]:
        """One row, which must be there, and its seconds."""
        return next(self._rows(range(place, place + 1)))

    def rows(self) -> Iterator[tuple[Evaluation, float | None]]:
        """All rows in the order of their places, each with its seconds; all must be there."""
        return self._rows(range(len(self._begins)))

    def _rows(self, places: range) -> Iterator[tuple[Evaluation, float | None]]:
        with self.path.open("rb") as lines:
            for place in places:
                assert self._begins[place] != NOWHERE, f"{self.path}: row {place} is not there"
                lines.seek(self._begins[place])
                yield _read(lines.readline())

    def _working_copy(self) -> Path:
        """A local file with what a store's parts hold, which goes with this process."""
        assert self._parts_of is not None
        self._folder = tempfile.TemporaryDirectory(prefix="s1ray-journal-")
        copy = Path(self._folder.name) / "journal.jsonl"
        with copy.open("wb") as stream:
            stream.writelines(self._parts_of.lines())
        return copy

    def _take(self, row: Evaluation, size: int) -> None:
        place = self._place(row)
        self._begins[place] = self._whole
        self._failed[place] = row.error is not None
        self._ungraded[place] = row.verdict == UNGRADED
        self._whole += size


def _read(line: bytes) -> tuple[Evaluation, float | None]:
    fields = json.loads(line)
    seconds = fields.pop(SECONDS, None)
    return stored_row(fields), seconds
