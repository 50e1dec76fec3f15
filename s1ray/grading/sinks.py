"""Writes graded rows: the lines of JSON Lines as they are, with three fields more, or Parquet of its schema."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from s1ray.grading.grade import Grade
from s1ray.grading.rows import ADDED, Job, Record, graded_schema, is_parquet

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


class Sink(Protocol):
    """Takes graded rows."""

    def add(self, record: Record, grade: Grade) -> None:
        """Write a row, perhaps later."""


@contextlib.contextmanager
def open_sink(job: Job, path: Path) -> Iterator[Sink]:
    """Open a part's file for writing, in the output's format."""
    if is_parquet(job.output):
        import pyarrow.parquet as pq

        with pq.ParquetWriter(path, graded_schema(pq.read_schema(job.source))) as writer:
            table = _ParquetRows(writer)
            yield table
            table.flush()
        return
    with path.open("wb") as file:
        if job.output.suffix.lower() != ".gz":
            yield _JsonLines(file)
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed:
            yield _JsonLines(compressed)


class _JsonLines:
    def __init__(self, stream: IO[bytes] | gzip.GzipFile) -> None:
        self._stream = stream

    def add(self, record: Record, grade: Grade) -> None:
        line, row = record.row
        added = _added(grade)
        if ADDED[0] in row:
            line = json.dumps(row | added).encode()
        else:
            # The row as it is written, to the last digit, and the columns at its end.
            line = line[:-1].rstrip() + b", " + json.dumps(added).encode()[1:]
        self._stream.write(line + b"\n")


class _ParquetRows:
    """Collects the rows of a batch, which are next to each other."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._batch: pa.RecordBatch | None = None
        self._rows: list[tuple[int, Grade]] = []

    def add(self, record: Record, grade: Grade) -> None:
        batch, place = record.row
        if batch is not self._batch:
            self.flush()
            self._batch = batch
        self._rows.append((place, grade))

    def flush(self) -> None:
        """Write what was collected."""
        import pyarrow as pa

        if self._batch is None or not self._rows:
            return
        taken = self._batch.take(pa.array([place for place, _ in self._rows]))
        columns = {name: taken.column(name) for name in taken.schema.names if name not in ADDED}
        grades = [_added(grade) for _, grade in self._rows]
        columns |= {name: pa.array([_storable(grade[name]) for grade in grades], pa.string()) for name in ADDED}
        schema = self._writer.schema
        self._writer.write_table(pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema))
        self._rows = []


def _added(grade: Grade) -> dict[str, str | None]:
    return {"verdict": grade.verdict, "extracted": grade.extracted, "graded_by": grade.graded_by}


def _storable(text: str | None) -> str | None:
    # Half of a surrogate pair cannot be UTF-8.
    return None if text is None else text.encode("utf-8", errors="replace").decode("utf-8")


def concatenate(files: Sequence[Path], target: Path, job: Job) -> None:
    """Write the files of all parts as one."""
    if not is_parquet(job.output):
        with target.open("wb") as out:
            for file in files:
                with file.open("rb") as part:
                    shutil.copyfileobj(part, out, 1 << 20)
        return
    import pyarrow.parquet as pq

    with pq.ParquetWriter(target, pq.read_schema(files[0])) as writer:
        for file in files:
            part = pq.ParquetFile(file)
            for batch in part.iter_batches(4096):
                writer.write_batch(batch)
