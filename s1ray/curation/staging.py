"""Staging: every row of every source, in one schema, in numbered Parquet parts, which Ray Data then reads.

A row's `order` is its position in all sources together. It decides which of two equal rows stays and in which order the
results are, so neither depends on how the work was spread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from s1ray.config import ConfigError
from s1ray.curation.records import SourceRow
from s1ray.curation.sources import Source
from s1ray.errors import InputError
from s1ray.logs import heartbeat
from s1ray.schemas import to_table, write_table

PART_ROWS = 4096
"""Rows of a staged part: a block of Ray Data."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StagedRow(SourceRow):
    """A row of a source, and its position."""

    order: int
    source_index: int


def stage(sources: Sequence[Source], folder: Path) -> list[Path]:
    """Write all rows of all sources as numbered parts.

    Raises:
        S1rayError: a source cannot be read, or holds something else than its config says; the message names it.
    """
    rows = _staged(sources)
    parts: list[Path] = []
    with heartbeat(lambda seconds: f"curate: reading sources, {len(parts) * PART_ROWS:,} rows in {seconds:.0f} s"):
        while batch := list(itertools.islice(rows, PART_ROWS)):
            parts.append(folder / f"part-{len(parts):05d}.parquet")
            write_table(to_table(batch, StagedRow), parts[-1])
    if not parts:
        raise ConfigError("sources: none of them has a row; check their `where` and `limit`")
    return parts


def check_sources(sources: Sequence[Source], require: Sequence[str]) -> list[str]:
    """Check every source, and say what each one is, one line per source.

    Raises:
        S1rayError: one cannot be read, or lacks a required field; the message names it.
    """
    lines = []
    for index, source in enumerate(sources):
        with _named(index):
            lines.append(source.check(require))
    return lines


def _staged(sources: Sequence[Source]) -> Iterator[StagedRow]:
    order = itertools.count()
    for index, source in enumerate(sources):
        with _named(index):
            for row in itertools.islice(source.rows(), source.limit):
                yield StagedRow(**vars(row), order=next(order), source_index=index)


@contextlib.contextmanager
def _named(index: int) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise ConfigError(f"sources.{index}: {error}") from error
