"""Files of rows that are written piece by piece: Parquet in row groups of equal size, and JSON Lines."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

Write = Callable[[list[dict[str, Any]]], None]
"""Takes some rows, each with every column."""
GROUP_ROWS = 256
"""Rows of a row group, where nothing else is said; some 25 MB of long traces."""


class RowGroups(contextlib.AbstractContextManager["RowGroups"]):
    """Writes Parquet in row groups of equal size, whatever the pieces that come: the bytes depend on the rows alone."""

    def __init__(self, path: Path, schema: pa.Schema, rows: int = GROUP_ROWS) -> None:
        """Open the file; `rows` is the size of a group."""
        import pyarrow.parquet as pq

        self._writer, self._schema, self._rows = pq.ParquetWriter(path, schema), schema, rows
        self._waiting = schema.empty_table()

    def add(self, table: pa.Table) -> None:
        """Write some rows, perhaps later."""
        import pyarrow as pa

        self._waiting = pa.concat_tables([self._waiting, table.cast(self._schema)])
        while len(self._waiting) >= self._rows:
            self._write(self._waiting.slice(0, self._rows))
            self._waiting = self._waiting.slice(self._rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and len(self._waiting):
            self._write(self._waiting)
        self._writer.close()

    def _write(self, rows: pa.Table) -> None:
        # Pages begin where the pieces do, so there must be one piece.
        self._writer.write_table(rows.combine_chunks())


@contextlib.contextmanager
def parquet(path: Path, schema: pa.Schema) -> Iterator[Write]:
    """A Parquet file, open for rows."""
    import pyarrow as pa

    with RowGroups(path, schema) as groups:
        yield lambda rows: groups.add(pa.Table.from_pylist(rows, schema=schema))


@contextlib.contextmanager
def json_lines(path: Path, schema: pa.Schema) -> Iterator[Write]:
    """A file of JSON Lines, open for rows."""
    with path.open("w", encoding="utf-8") as stream:
        yield lambda rows: stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


SINKS = {".parquet": parquet, ".jsonl": json_lines}
"""By the file's ending: opens it for rows."""
