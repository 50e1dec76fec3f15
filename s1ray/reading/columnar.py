"""Parquet and Arrow files, batch by batch: only the columns that are asked for, filtered before they become records."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from s1ray.reading.items import Bad, BadFile, Items, Record, beginning, disguise, reading_error
from s1ray.reading.where import Where
from s1ray.storage import random_access, readable

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_ROWS = 4096
BATCH_BYTES = 8 << 20
"""Of a batch, as far as the file's own figures tell."""


@contextlib.contextmanager
def parquet_file(path: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file, whose columns are read page by page.

    Raises:
        BadFile: it is none, or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with told(path):
        try:
            file = pq.ParquetFile(readable(path), pre_buffer=False, buffer_size=1 << 20)
        except pa.ArrowInvalid as error:
            what = disguise(path)
            raise BadFile(f"by its content this is {what}" if what else f"cannot be read as Parquet: {error}") from None
        with file:
            yield file


@contextlib.contextmanager
def arrow_batches(path: str) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """The batches of an Arrow file, of the streaming format (as `datasets` writes it) or the other one.

    Raises:
        BadFile: it is neither, or damaged.
    """
    import pyarrow as pa

    with told(path), random_access(path, mapped=True) as source:
        if source.read(6) == b"ARROW1":
            file = pa.ipc.open_file(source)
            yield file.schema, (file.get_batch(index) for index in range(file.num_record_batches))
        else:
            source.seek(0)
            stream = pa.ipc.open_stream(source)
            yield stream.schema, iter(stream)


@contextlib.contextmanager
def told(path: str) -> Iterator[None]:
    """Turn what pyarrow raises on a damaged file into `BadFile`, and on one that it cannot have into `InputError`."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowException, OSError, EOFError) as error:
        raise reading_error(path, error) from None


def read_parquet(path: str, start: int, stop: int, columns: Collection[str] | None, where: Where) -> Items:
    """The records of rows `start` to `stop` that match.

    Args:
        path: of the file.
        start: first row, from 0.
        stop: the row after the last.
        columns: to read; those that the file lacks are left out. None: all.
        where: which rows match.

    Raises:
        BadFile: the file is damaged.
    """
    with parquet_file(path) as file:
        groups, first = _groups(file, start, stop)
        names = _present(file.schema_arrow, columns)
        if not groups:
            return
        size = sum(file.metadata.row_group(group).total_byte_size for group in groups)
        rows = sum(file.metadata.row_group(group).num_rows for group in groups)
        batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(size, 1)))
        batches = file.iter_batches(batch_size=batch_rows, row_groups=groups, columns=names)
        yield from _records(batches, start - first, stop - first, where)


def read_arrow(path: str, start: int, stop: int, columns: Collection[str] | None, where: Where) -> Items:
    """The records of rows `start` to `stop` that match; as `read_parquet`."""
    with arrow_batches(path) as (schema, batches):
        names = _present(schema, columns)
        chosen = (batch if names is None else batch.select(names) for batch in batches)
        yield from _records(_small(chosen), start, stop, where)


def _small(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield from (batch.slice(begin, BATCH_ROWS) for begin in range(0, batch.num_rows, BATCH_ROWS))


def _groups(file: pq.ParquetFile, start: int, stop: int) -> tuple[list[int], int]:
    """The row groups that hold rows `start` to `stop`, and the first row of the first of them."""
    groups: list[int] = []
    first = row = 0
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if row + rows > start and row < stop:
            first = first if groups else row
            groups.append(group)
        row += rows
    return groups, first


def _present(schema: pa.Schema, columns: Collection[str] | None) -> list[str] | None:
    if columns is None:
        return None
    if twice := sorted({name for name in columns if schema.names.count(name) > 1}):
        raise BadFile(f"has two columns {twice[0]!r}; rename one")
    # Where none is there, any column: the rows are counted, and each tells what it lacks.
    return [name for name in schema.names if name in columns] or schema.names[:1]


def _records(batches: Iterator[pa.RecordBatch], start: int, stop: int, where: Where) -> Items:
    """The records of rows `start` to `stop` of some batches, numbered from 1 at `start`."""
    import numpy as np
    import pyarrow as pa

    row = 0
    for batch in batches:
        begin, end = max(start - row, 0), min(stop - row, batch.num_rows)
        if begin < end:
            part = batch.slice(begin, end - begin)
            places = np.arange(row + begin - start + 1, row + end - start + 1)
            mask, bad = where.mask(part)
            yield from bad_items(bad, places)
            if mask is not None:
                part, places = part.filter(pa.array(mask)), places[mask]
            yield from zip(places.tolist(), _to_records(part), strict=True)
        row += batch.num_rows
        if row >= stop:
            return


def bad_items(bad: dict[int, Bad], places: object) -> Items:
    """Rows of a batch that cannot be compared, with their places."""
    for index, what in bad.items():
        yield int(places[index]), what  # type: ignore[index]


def _to_records(batch: pa.RecordBatch) -> Iterator[Record | Bad]:
    try:
        yield from batch.to_pylist(maps_as_pydicts="strict")
    except UnicodeDecodeError:
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist(maps_as_pydicts="strict")[0]
            except UnicodeDecodeError as error:
                yield Bad("not UTF-8", f"byte 0x{error.object[error.start]:02x}", beginning(error.object))
