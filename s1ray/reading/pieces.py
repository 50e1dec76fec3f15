"""Files cut into pieces that are read apart: byte ranges of JSON lines, row ranges of Parquet and Arrow, else whole.

Where a file is cut depends on the file alone, so the order of all rows does not depend on how many workers read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import IO

from s1ray.reading.columnar import arrow_batches, parquet_file, read_arrow, read_parquet
from s1ray.reading.delimited import read_table
from s1ray.reading.files import DataFile
from s1ray.reading.items import MAX_BYTES, Bad, BadFile, Items, Record, Unusable, beginning
from s1ray.reading.json_text import is_lines, read_lines, read_values
from s1ray.reading.streams import is_utf8, opened
from s1ray.reading.where import Where
from s1ray.storage import location

PIECE_BYTES = 16 << 20
"""Of a piece, where a file can be cut: a second or less of work."""
GROUP_PIECES = 4
"""Into how many pieces a row group may be cut; each reads the pages before its own in vain."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of a file that is read by one worker."""

    file: DataFile
    start: int = 0
    """First byte (JSON lines) or row (Parquet, Arrow)."""
    stop: int | None = None
    """The byte or row after the last. None: to the end."""
    weight: int = 0
    """Bytes to read, about."""

    @property
    def unit(self) -> str:
        """What a place in it is: "line" or "row"."""
        return "line" if self.file.format in ("json lines", "csv", "tsv") else "row"

    def places_before(self) -> int:
        """How many lines or rows of the file come before it; of JSON lines they are counted, which reads them."""
        if self.file.format == "json lines":
            return lines_before(self.file.absolute, [self.start])[self.start]
        return self.start


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """How records are read."""

    encoding: str = "utf-8"
    """Of text files."""
    delimiter: str | None = None
    """Of CSV files. None: what the header has most of."""
    columns: Collection[str] | None = None
    """The only ones that are needed. None: all."""
    where: Where = dataclasses.field(default_factory=Where)
    on_columns: Callable[[Iterable[str]], None] = lambda names: None
    """Is told the columns of a Parquet or Arrow file."""
    on_rows: Callable[[int], None] = lambda rows: None
    """Is told how many rows such a file has in the piece, before `where`."""
    on_record: Callable[[Record], None] = lambda record: None
    """Is told every record of a text file before `where`."""


def pieces_of(file: DataFile, encoding: str) -> list[Piece]:
    """The pieces of a file, in order. One that cannot be read is one piece, so that reading it tells why."""
    with contextlib.suppress(BadFile):
        if file.format == "parquet":
            return _row_pieces(file, _parquet_sizes(file.absolute))
        if file.format == "arrow":
            with arrow_batches(file.absolute) as (_, batches):
                return _row_pieces(file, [(batch.num_rows, batch.nbytes) for batch in batches])
        if file.format in ("json", "json lines"):
            with opened(file, encoding) as stream:
                lines = is_lines(_begin(stream), named=file.format == "json lines")
            file = dataclasses.replace(file, format="json lines" if lines else "json")
            if lines and file.compression is None and is_utf8(encoding):
                starts = range(0, file.size, PIECE_BYTES)
                return [
                    Piece(file, s, min(s + PIECE_BYTES, file.size), min(PIECE_BYTES, file.size - s)) for s in starts
                ]
    return [Piece(file, weight=file.size)]


def _begin(stream: IO[bytes]) -> bytes:
    """The first two lines of a file that are not blank, or as much of them as is needed to tell what it is."""
    begin = b""
    while line := stream.readline(MAX_BYTES):
        begin += line if begin or line.strip() else b""
        if begin.count(b"\n") > 1 or begin[:1] == b"[" or len(begin) > MAX_BYTES:
            break
    return begin


def _parquet_sizes(path: str) -> list[tuple[int, int]]:
    """Rows and bytes of each row group, or of the parts into which a large one is cut."""
    with parquet_file(path) as file:
        groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    sizes = []
    for group in groups:
        parts = max(1, min(GROUP_PIECES, math.ceil(group.total_byte_size / PIECE_BYTES), group.num_rows))
        for part in range(parts):
            rows = group.num_rows * (part + 1) // parts - group.num_rows * part // parts
            sizes.append((rows, group.total_byte_size // parts))
    return sizes


def _row_pieces(file: DataFile, sizes: list[tuple[int, int]]) -> list[Piece]:
    """Pieces of consecutive groups of rows, each of at least `PIECE_BYTES` but for the last."""
    pieces, start, row, weight = [], 0, 0, 0
    for number, (rows, size) in enumerate(sizes, start=1):
        row, weight = row + rows, weight + size
        if weight >= PIECE_BYTES or number == len(sizes):
            pieces.append(Piece(file, start, row, weight))
            start, weight = row, 0
    return [piece for piece in pieces if piece.stop != piece.start]


def read_piece(piece: Piece, options: ReadOptions) -> Items:
    """The records of a piece that match, and those that cannot be used, in order.

    Raises:
        BadFile: the file is damaged; what came before is sound.
    """
    if piece.file.format in ("parquet", "arrow"):
        return _read_rows(piece, options)
    return _matching(_read_text(piece, options), options)


def _read_rows(piece: Piece, options: ReadOptions) -> Items:
    path, stop = piece.file.absolute, piece.stop
    if piece.file.format == "parquet":
        with parquet_file(path) as file:
            options.on_columns(file.schema_arrow.names)
            stop = file.metadata.num_rows if stop is None else stop
        options.on_rows(stop - piece.start)
        yield from read_parquet(path, piece.start, stop, options.columns, options.where)
        return
    with arrow_batches(path) as (schema, batches):
        options.on_columns(schema.names)
        stop = sum(batch.num_rows for batch in batches) if stop is None else stop
    options.on_rows(stop - piece.start)
    yield from read_arrow(path, piece.start, stop, options.columns, options.where)


def _read_text(piece: Piece, options: ReadOptions) -> Items:
    with opened(piece.file, options.encoding, max(piece.start - 1, 0)) as stream:
        if piece.file.format == "json lines":
            while piece.start and (line := stream.readline(MAX_BYTES)) and not line.endswith(b"\n"):
                pass
            yield from read_lines(stream, options.encoding, piece.stop)
        elif piece.file.format == "json":
            yield from read_values(stream, options.encoding)
        else:
            delimiter = options.delimiter or ("\t" if piece.file.format == "tsv" else None)
            yield from read_table(stream, delimiter, options.encoding)


def _matching(items: Items, options: ReadOptions) -> Items:
    for place, item in items:
        if isinstance(item, Bad):
            yield place, item
            continue
        options.on_record(item)
        try:
            if options.where.holds(item):
                yield place, item
        except Unusable as error:
            yield place, dataclasses.replace(error.bad, text=beginning(item))


def lines_before(path: str, starts: Collection[int]) -> dict[int, int]:
    """For each byte range of a JSON-lines file, by its first byte, how many lines come before its first."""
    counts, place, lines = {0: 0}, 0, 0
    with location(path).open("rb") as stream:
        for start in sorted(set(starts) - {0}):
            # A range begins after the first line end at or after the byte before it.
            for chunk in _chunks(stream, start - 1 - place):
                lines += chunk.count(b"\n")
            place = start - 1
            counts[start] = lines + 1
    return counts


def _chunks(stream: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := stream.read(min(size, 1 << 20))):
        size -= len(chunk)
        yield chunk
