"""s1's rule across sources: a row goes that shares an n-gram with an accepted row of an earlier source.

Its code adds each accepted source to the benchmarks of the sources after it; the paper does not mention it. Within a
source nothing goes, and the n-grams of rows that went do not count, so the order of the sources decides.

    n-grams of the features -> sorted, a file for each part -> contested, a file for each range of hashes
    -> for one source after another: its rows that go

A range of hashes has all that matters of its n-grams, and most of these are of one source alone and matter no further.
So no process has more than some millions of n-grams in memory, whatever the number of rows, and only positions of rows
come to the driver. n-grams are compared by hashes of 64 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from s1ray.curation.features import Features
from s1ray.curation.funnel import Flags, Rows
from s1ray.curation.parts import run_tasks
from s1ray.curation.text.blocks import Hashes
from s1ray.storage import Location, StorePath, readable, remove, writing

RANGE_GRAMS = 1 << 21
"""n-grams of a range, about: some 100 MB in the worker that looks at it."""

Sources = npt.NDArray[np.int32]
"""Index of each row's source; shape (N,)."""


def cross_source(features: Features, rows: Rows, folder: Location, *, range_grams: int = RANGE_GRAMS) -> Rows:
    """The rows that share an n-gram with an accepted row of an earlier source; ascending.

    Args:
        features: of all N rows, with their n-grams.
        rows: positions of those that are left, ascending; the others do not count.
        folder: for the work, which is deleted at the end.
        range_grams: n-grams of a range, about.
    """
    sources, left = features.column("source_index"), np.zeros(len(features), np.bool_)
    left[rows] = True
    there = np.unique(sources[rows]).tolist()
    if len(there) < 2:
        return np.empty(0, np.int64)
    folder.mkdir(parents=True, exist_ok=True)
    parts = [
        (file, int(start), folder / f"sorted-{number:06d}")
        for number, (file, start) in enumerate(zip(features.files, features.starts[:-1], strict=True))
    ]
    counts = run_tasks("sorting n-grams", sort_part, parts, left=left)
    borders = _borders(max(1, -(-sum(counts) // range_grams)))
    ranges = [(low, high, folder / f"contested-{number:06d}.npy") for number, (low, high) in enumerate(borders)]
    files = [file for _, _, file in parts]
    contested = run_tasks("comparing sources", write_contested, ranges, files=files, sources=sources)
    gone = np.zeros(len(features), np.bool_)
    for source in there[1:]:
        concerned = [(file,) for (*_, file), those in zip(ranges, contested, strict=True) if source in those]
        for found in run_tasks("comparing sources", shared_rows, concerned, source=source, sources=sources, gone=gone):
            gone[found] = True
    remove(folder)
    return np.flatnonzero(gone)


def sort_part(features: Location, start: int, file: Location, *, left: Flags) -> int:
    """Write a part's n-grams in the order of their hashes, with their rows; how many there are.

    Args:
        features: file of the part, with `grams`.
        start: position of its first row.
        file: for the result (`_names`).
        left: the rows that count.
    """
    import pyarrow.parquet as pq

    lists = pq.read_table(readable(features), columns=["grams"]).column(0).combine_chunks()
    grams, counts = lists.flatten().to_numpy(), lists.value_lengths().to_numpy()
    rows = np.repeat(np.arange(start, start + len(counts), dtype=np.int32), counts)
    grams, rows = grams[left[rows]], rows[left[rows]]
    order = np.argsort(grams, kind="stable")
    for name, values in zip(_names(file), (grams, rows), strict=True):
        _save(name, values[order])
    return len(grams)


def write_contested(
    low: int, high: int | None, file: Location, *, files: Sequence[Location], sources: Sources
) -> frozenset[int]:
    """Write the n-grams of a range of hashes that rows of several sources have; these sources.

    Args:
        low: first hash.
        high: the hash after the last one. None: there is no end.
        file: for the result, shape (2, M): the number of the n-gram in the range, and the row.
        files: what `sort_part` has written.
        sources: of all rows.
    """
    pieces = [_read_range(each, low, high) for each in files]
    grams = np.concatenate([piece[0] for piece in pieces])
    rows = np.concatenate([piece[1] for piece in pieces])
    order = np.argsort(grams)
    grams, rows = grams[order], rows[order]
    firsts = np.flatnonzero(np.concatenate(([True], grams[1:] != grams[:-1]))) if len(grams) else np.empty(0, np.int64)
    counts = np.diff(np.append(firsts, len(grams)))
    own = sources[rows]
    several = np.minimum.reduceat(own, firsts) != np.maximum.reduceat(own, firsts) if len(grams) else firsts > 0
    kept = np.repeat(several, counts)
    numbers = np.repeat(np.cumsum(several, dtype=np.int32) - 1, counts)
    _save(file, np.stack([numbers[kept].astype(np.int32), rows[kept]]))
    return frozenset(np.unique(own[kept]).tolist())


def shared_rows(file: Location, *, source: int, sources: Sources, gone: Flags) -> npt.NDArray[np.int32]:
    """The rows of a source that share an n-gram of a range with an accepted row of an earlier source; shape (M,).

    Args:
        file: what `write_contested` has written.
        source: the source.
        sources: of all rows.
        gone: the rows of earlier sources that are not accepted.
    """
    numbers, rows = _load(file)
    own = sources[rows]
    seen = np.zeros(int(numbers.max(initial=-1)) + 1, np.bool_)
    seen[numbers[(own < source) & ~gone[rows]]] = True
    found: npt.NDArray[np.int32] = np.unique(rows[(own == source) & seen[numbers]])
    return found


def _borders(count: int) -> list[tuple[int, int | None]]:
    """Ranges that together have all hashes."""
    lows = [(number << 64) // count for number in range(count)]
    return list(zip(lows, [*lows[1:], None], strict=True))


def _read_range(file: Location, low: int, high: int | None) -> tuple[Hashes, npt.NDArray[np.int32]]:
    """The n-grams of a part within a range, and their rows; nothing else is read."""
    grams, rows = map(_load, _names(file))
    first = int(np.searchsorted(grams, np.uint64(low)))
    end = len(grams) if high is None else int(np.searchsorted(grams, np.uint64(high)))
    return np.array(grams[first:end]), np.array(rows[first:end])


def _save(file: Location, values: npt.NDArray[Any]) -> None:
    with writing(file) as temporary, temporary.open("wb") as stream:
        np.save(stream, values)


def _load(file: Location) -> npt.NDArray[Any]:
    """An array; of a local file only what is used is read."""
    loaded: npt.NDArray[Any] = np.load(readable(file), mmap_mode=None if isinstance(file, StorePath) else "r")
    return loaded


def _names(file: Location) -> tuple[Location, Location]:
    return file.with_suffix(".grams.npy"), file.with_suffix(".rows.npy")
