"""Rows of a file to grade: read in parts, each row an answer or the reason why it is none.

JSON Lines are cut at every 32 MiB, Parquet by row group; a gzip stream is one part, as it can only be read from its
beginning. Nothing here holds more than a few rows.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from s1ray.errors import InputError, MissingError
from s1ray.grading.grade import KINDS, RULES
from s1ray.grading.many import Answer
from s1ray.thinking.format import PRESETS, ThinkingFormat

if TYPE_CHECKING:
    import pyarrow as pa

LINES = (".jsonl", ".ndjson", ".json")
ADDED = ("verdict", "extracted", "graded_by")
"""The columns that grading adds."""
PART_BYTES = 32 << 20
LINE_BYTES = 64 << 20
"""A longer line is no row; it is never held as a whole."""
BATCH_ROWS = 256
DELIMITERS = tuple(dict.fromkeys(text for preset in PRESETS.values() for text in (preset.start, preset.end)))


@dataclasses.dataclass(frozen=True)
class Job:
    """What to grade, and how."""

    source: Path
    output: Path
    gold: str = "gold"
    """Columns, as are the next two."""
    response: str = "response"
    kind: str | None = None
    grader: str = RULES
    thinking_format: ThinkingFormat | None = None
    """How thinking is written in the responses. None: they are answer texts."""


@dataclasses.dataclass(frozen=True)
class Record:
    """One row of a part."""

    number: int
    """Its line in the part, from 1; of Parquet its row."""
    row: Any
    """The line's bytes and object, or the batch and the index in it."""
    answer: Answer | None
    problem: str | None = None
    """Why there is no answer; None as well where the line is blank, and so no row."""
    delimited: bool = False
    """The answer text has a delimiter of thinking in it."""
    unfinished: bool = False
    """The response never ended its thinking."""


def is_parquet(path: Path) -> bool:
    """Whether the name says Parquet.

    Raises:
        InputError: it says neither Parquet nor JSON Lines.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
        if suffixes[-1:] == [".parquet"]:
            raise InputError(f"{path}: Parquet is compressed in itself; unpack it first")
    if suffixes[-1:] == [".parquet"]:
        return True
    if suffixes and suffixes[-1] in LINES:
        return False
    raise InputError(f"{path}: the name must end in .parquet, {', '.join(LINES)} or one of these and .gz")


def check(job: Job) -> None:
    """Look at the first row.

    Raises:
        MissingError: there is no such file.
        InputError: it cannot be read, or lacks a column.
    """
    if not job.source.is_file():
        raise MissingError(f"{job.source}: no such file")
    parquet = is_parquet(job.source)
    if parquet != is_parquet(job.output):
        raise InputError(f"{job.output}: rows keep their format; end its name like that of {job.source.name}")
    if parquet:
        import pyarrow.parquet as pq

        with _readable(job.source):
            names = pq.read_schema(job.source).names
    else:
        with _readable(job.source):
            names = next((list(record.row[1]) for record in _lines(job, 0, None) if record.row[1] is not None), [])
        if not names:
            raise InputError(f"{job.source}: no line of it is a JSON object; each line must be one")
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{job.source}: has two columns {doubled[0]!r}; rename one")
    for option, column in (("--gold", job.gold), ("--response", job.response), ("--kind", job.kind)):
        if column is not None and column not in names:
            raise InputError(f"{job.source}: no column {column!r}; name it with {option}. It has {', '.join(names)}")
    there = [name for name in ADDED if name in names]
    if there and len(there) < len(ADDED):
        raise InputError(f"{job.source}: has a column {there[0]!r} of its own, which grading would replace; rename it")


def part_count(source: Path) -> int:
    """How many parts a file has."""
    if is_parquet(source):
        import pyarrow.parquet as pq

        return max(1, int(pq.ParquetFile(source).num_row_groups))
    return 1 if source.suffix.lower() == ".gz" else max(1, -(-os.path.getsize(source) // PART_BYTES))


def read_part(job: Job, index: int) -> Iterator[Record]:
    """The rows of a part, in order.

    Raises:
        InputError: the file is damaged.
    """
    with _readable(job.source):
        if is_parquet(job.source):
            yield from _batches(job, index)
        elif job.source.suffix.lower() == ".gz":
            yield from _lines(job, 0, None)
        else:
            yield from _lines(job, index * PART_BYTES, (index + 1) * PART_BYTES)


class _readable:
    """Turns what reading a damaged file raises into words."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        import pyarrow as pa

        # pyarrow's read errors are OSErrors, too.
        if isinstance(error, EOFError | gzip.BadGzipFile | zlib.error | pa.ArrowException | OSError):
            raise InputError(f"{self._path}: cannot be read to its end: {' '.join(str(error).split())}") from error


def _lines(job: Job, start: int, stop: int | None) -> Iterator[Record]:
    """The lines that begin in a range of bytes."""
    compressed = job.source.suffix.lower() == ".gz"
    stream: IO[bytes] | gzip.GzipFile
    with gzip.open(job.source) if compressed else job.source.open("rb") as stream:
        place = start
        if start:
            # The line that the byte before belongs to is the part's before, also if it ends with that byte.
            stream.seek(start - 1)
            place = start - 1 + sum(len(piece) for piece in _pieces(stream))
        number = 0
        while stop is None or place < stop:
            pieces = _pieces(stream)
            line = next(pieces, b"")
            size = len(line) + sum(len(piece) for piece in pieces)
            if not size:
                return
            if place == 0:
                line = line.removeprefix(b"\xef\xbb\xbf")
            place, number = place + size, number + 1
            if size > LINE_BYTES:
                yield Record(number, (b"", None), None, f"the line has {size:,} bytes, more than {LINE_BYTES:,}")
            elif line.strip():
                yield _of_line(job, number, line.strip())
            else:
                yield Record(number, (b"", None), None)


def _pieces(stream: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """The rest of a line, in pieces of which only the first may be kept."""
    while piece := stream.readline(LINE_BYTES):
        yield piece
        if piece.endswith(b"\n"):
            return


def _of_line(job: Job, number: int, line: bytes) -> Record:
    try:
        # Bytes would be taken for UTF-16, too, and the output's lines are UTF-8.
        row = json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        return Record(number, (line, None), None, f"no JSON: {error}")
    if not isinstance(row, dict):
        return Record(number, (line, None), None, f"a JSON {type(row).__name__}, not an object")
    there = [name for name in ADDED if name in row]
    if there and len(there) < len(ADDED):
        return Record(number, (line, row), None, f"has a column {there[0]!r} of its own, which grading would replace")
    return _record(job, number, (line, row), row)


def _batches(job: Job, index: int) -> Iterator[Record]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(job.source)
    if not file.num_row_groups:
        return
    columns = [job.gold, job.response, *([job.kind] if job.kind else [])]
    number = 0
    for batch in file.iter_batches(BATCH_ROWS, row_groups=[index]):
        for place, row in enumerate(batch.select(columns).to_pylist()):
            number += 1
            yield _record(job, number, (batch, place), row)


def _record(job: Job, number: int, stored: object, row: Mapping[str, object]) -> Record:
    missing = [name for name in (job.gold, job.response) if name not in row]
    if missing:
        return Record(number, stored, None, f"no column {missing[0]!r}")
    gold, text, kind = row[job.gold], row[job.response], row.get(job.kind) if job.kind else None
    if isinstance(gold, float) and math.isnan(gold):
        gold = None
    if gold is not None and not (_is_plain(gold) or isinstance(gold, str)):
        return Record(number, stored, None, f"column {job.gold!r} is a {type(gold).__name__}, not a text")
    if _is_plain(text) and not (isinstance(text, float) and math.isnan(text)):
        text = str(text)
    if not isinstance(text, str):
        what = (
            "null"
            if text is None or isinstance(text, float)
            else f"a {type(text).__name__}, not a text; give one response a row"
        )
        return Record(number, stored, None, f"column {job.response!r} is {what}")
    if kind is not None and not isinstance(kind, str):
        return Record(number, stored, None, f"column {job.kind!r} is a {type(kind).__name__}, not a text")
    if job.kind is not None and kind is not None and kind not in KINDS and job.grader == RULES:
        return Record(
            number, stored, None, f"column {job.kind!r} (--kind) is {kind!r}; it must be one of {', '.join(KINDS)}"
        )
    unfinished = job.thinking_format is not None and job.thinking_format.end not in text
    if job.thinking_format is not None:
        text = "" if unfinished else job.thinking_format.split(text)[1]
    answer = Answer(None if gold is None else str(gold), text, kind)
    delimited = any(delimiter in text for delimiter in DELIMITERS)
    return Record(number, stored, answer, delimited=delimited, unfinished=unfinished)


def _is_plain(value: object) -> bool:
    """Whether a value that is no text is graded as the text that it prints as: a number, true or false."""
    from decimal import Decimal

    return isinstance(value, int | float | Decimal)


def graded_schema(schema: pa.Schema) -> pa.Schema:
    """A Parquet schema with the columns that grading adds."""
    import pyarrow as pa

    kept = [field for field in schema if field.name not in ADDED]
    nullable = {"extracted"}
    added = [pa.field(name, pa.string(), nullable=name in nullable) for name in ADDED]
    return pa.schema([*kept, *added], metadata=schema.metadata)
