"""Reading a run's files in batches: positions and some rows of a pool of millions, never all of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from s1ray.errors import InputError
from s1ray.storage import Location, readable

if TYPE_CHECKING:
    import pyarrow as pa

LIGHT_ROWS, TEXT_ROWS = 65_536, 256
"""Rows in memory together: of numbers and short names, of texts."""

Place = tuple[Location, int]
"""A file, and the position of a row in it."""


def batches(
    files: Sequence[Location], columns: Sequence[str], rows: int = LIGHT_ROWS
) -> Iterator[tuple[Location, int, Any]]:
    """Some columns of Parquet files: file, position of the batch's first row, and the batch.

    Raises:
        InputError: a file is damaged, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        start = 0
        try:
            with pq.ParquetFile(readable(file)) as opened:
                if missing := [name for name in columns if name not in opened.schema_arrow.names]:
                    raise InputError(f"{file}: column {missing[0]!r} is missing; run the stage again with --force")
                for batch in opened.iter_batches(rows, columns=list(columns)):
                    yield file, start, batch
                    start += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file}: damaged, or cannot be read: {error}") from error


def rows_at(places: Collection[Place], columns: Sequence[str]) -> dict[Place, dict[str, Any]]:
    """Some columns of a few rows."""
    import pyarrow as pa

    wanted: dict[Location, set[int]] = {}
    for file, position in places:
        wanted.setdefault(file, set()).add(position)
    found: dict[Place, dict[str, Any]] = {}
    for file, positions in wanted.items():
        left = sorted(positions)
        for _, start, batch in batches([file], columns, TEXT_ROWS):
            inside = [position for position in left if position < start + len(batch)]
            rows = batch.take(pa.array([position - start for position in inside], pa.int64())).to_pylist()
            found |= {(file, position): row for position, row in zip(inside, rows, strict=True)}
            left = left[len(inside) :]
            if not left:
                break
    return found


def questions_by_id(files: Sequence[Location], ids: Collection[str]) -> dict[str, str]:
    """The questions of a few ids, from files that have `id` and `question`; those that are not there are left out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    left, places = set(ids), dict[str, Place]()
    for file, start, batch in batches(files if left else [], ["id"]):
        wanted = pa.array(sorted(left), pa.string())
        for position in pc.indices_nonzero(pc.is_in(batch.column(0), wanted)).to_pylist():
            places.setdefault(batch.column(0)[position].as_py(), (file, start + position))
        left -= places.keys()
        if not left:
            break
    texts = rows_at(list(places.values()), ["question"])
    return {name: texts[place]["question"] for name, place in places.items()}


def value_counts(column: pa.Array) -> list[tuple[Any, int]]:
    """The different values of a column, and how many there are of each."""
    import pyarrow.compute as pc

    counted = pc.value_counts(column)
    return list(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True))
