"""The traces of a run, read a batch at a time: never the whole file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.config import ConfigError
from s1ray.errors import InputError
from s1ray.schemas import Trace, conform, table_files
from s1ray.training.config import TrainingConfig
from s1ray.training.data.conversations import Conversation

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 256
"""Rows that are in memory at once."""


def read_conversations(config: TrainingConfig) -> Iterator[Conversation]:
    """The traces of a run, in order.

    Raises:
        MissingError: nothing is there.
        InputError: it is no Parquet, or not of traces.
        ConfigError: an id occurs twice.
    """
    path = config.traces
    seen: set[str] = set()
    for table in _tables(table_files(path, Trace), path):
        for row in table.to_pylist():
            trace = Trace(**row)
            if trace.id in seen:
                raise ConfigError(f"{path}: id {trace.id!r} occurs twice; every trace needs an id of its own")
            seen.add(trace.id)
            yield Conversation.of(trace)


def read_questions(config: TrainingConfig) -> Iterator[str]:
    """What the users of the conversations say."""
    for conversation in read_conversations(config):
        yield from (message.content for message in conversation.messages if message.role == "user")


def count_rows(path: str) -> int:
    """How many rows the traces have, without reading them."""
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(file).num_rows for file in table_files(path, Trace))


def _tables(files: list[Path], path: str) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = 0
    for name in files:
        try:
            # Mapped and not buffered ahead: a file may be one row group of several gigabytes.
            file = pq.ParquetFile(name, memory_map=True, pre_buffer=False)
            for batch in file.iter_batches(BATCH):
                yield conform(pa.Table.from_batches([batch]), Trace, path, first_row=first)
                first += len(batch)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: cannot be read as Parquet: {error}") from error
