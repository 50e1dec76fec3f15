"""Rows that cannot be used: kept aside with file, line and reason, counted, and too many of them refused."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import IO, Any

from s1ray.reading.items import Bad
from s1ray.reading.pieces import Piece, lines_before
from s1ray.storage import Location, writing

QUARANTINE = "quarantine.jsonl"
"""In the run folder: one object per row, with source, file, line or row, reason, and the beginning of its text."""
ALWAYS_ALLOWED = 10
"""So many bad rows of a source are no reason to fail, however few rows it has."""


class QuarantineWriter:
    """Writes the bad rows of one task, with places that are counted from the beginning of their piece.

    Attributes:
        counts: bad rows by kind.
    """

    def __init__(self, stream: IO[str], source: str) -> None:
        self._stream, self._source, self.counts = stream, source, Counter[str]()

    def add(self, piece: Piece | None, place: int, bad: Bad) -> None:
        """One bad row."""
        self.counts[bad.kind] += 1
        if piece is None:
            where: dict[str, object] = {"row": place}
        elif piece.file.format == "json lines":
            where = {"file": piece.file.path, "line": place, "start": piece.start}
        else:
            where = {"file": piece.file.path, piece.unit: place + piece.start}
        self._write(where | {"reason": bad.reason, "text": bad.text})

    def add_file(self, piece: Piece, reason: str) -> None:
        """A file that cannot be read, or not to its end."""
        self._write({"file": piece.file.path, "reason": reason})

    def _write(self, entry: dict[str, object]) -> None:
        self._stream.write(json.dumps({"source": self._source} | entry, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def quarantine_writer(path: Location, source: str) -> Iterator[QuarantineWriter]:
    """A writer of a task's bad rows; the file is there whole or not at all."""
    with writing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        yield QuarantineWriter(stream, source)


def collect(parts: Sequence[Location], target: Location) -> int:
    """Write the bad rows of all tasks into one file, with the lines of the whole files; return how many there are.

    A byte range does not know how many lines come before it. They are counted here, in one pass over each file that has
    a bad row after its first range. Without bad rows there is no file.
    """
    starts: dict[str, set[int]] = {}
    for entry in _entries(parts):
        if entry.get("start"):
            starts.setdefault(entry["file"], set()).add(entry["start"])
    lines = {file: lines_before(file, places) for file, places in starts.items()}
    rows = 0
    with writing(target) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for entry in _entries(parts):
            start = entry.pop("start", 0)
            if start:
                entry["line"] += lines[entry["file"]][start]
            stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
            rows += 1
    if not rows:
        target.unlink()
    return rows


def _entries(parts: Sequence[Location]) -> Iterator[dict[str, Any]]:
    for part in parts:
        with part.open(encoding="utf-8") as stream:
            for line in stream:
                yield json.loads(line)


@dataclasses.dataclass(frozen=True)
class Excess:
    """More bad rows than a source may have."""

    bad: Counter[str]
    rows: int
    max_bad_share: float

    def __str__(self) -> str:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.bad.most_common())
        return (
            f"{self.bad.total():,} of {self.rows:,} rows cannot be used ({kinds}), more than max_bad_share "
            f"({self.max_bad_share:g}) allows"
        )


def excess(bad: Counter[str], rows: int, max_bad_share: float) -> Excess | None:
    """Whether a source has more bad rows than it may."""
    allowed = max(ALWAYS_ALLOWED, int(max_bad_share * rows)) if max_bad_share > 0 else 0
    return Excess(bad, rows, max_bad_share) if bad.total() > allowed else None
