"""Records of files and data sets as they are, and how they become questions."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path

from pydantic import Field

from s1ray.config import Config, ConfigError
from s1ray.errors import MissingError
from s1ray.schemas import Question, parquet_files, question_id

BATCH_ROWS = 4096
"""Rows of a Parquet file that are in memory at once."""

Record = dict[str, object]
"""A row of a file or data set, by column."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceRow(Question):
    """A question, and whether an earlier step failed on it."""

    error: str | None = None
    """What an earlier step (an API call) reported; quality drops such a row."""


class ColumnMapping(Config):
    """Which of a source's columns hold what. Columns that are not named here go into `metadata`."""

    question: str = "question"
    solution: str | None = None
    answer: str | None = None
    domain: str | None = None
    source: str | None = None
    """Column that says where a row comes from; it is added to the source's name ("math/Algebra")."""
    length: str | None = None
    """Column with a trace's token count, where one has been measured."""
    error: str | None = None
    """Column that is set where an earlier step (an API call) failed."""
    solved_by: dict[str, str] = Field(default_factory=dict)
    """Difficulty model -> column that is true where it answered correctly."""
    unsolved_by: dict[str, str] = Field(default_factory=dict)
    """Difficulty model -> column that is true where it did not."""


def matching(records: Iterable[Record], where: Mapping[str, object], origin: str) -> Iterator[Record]:
    """The records whose columns have the values of `where`.

    Args:
        records: by column.
        where: column -> value.
        origin: of the records, for the message.

    Raises:
        ConfigError: a record has no such column.
    """
    for record in records:
        if all(column_of(record, column, origin) == value for column, value in where.items()):
            yield record


def column_of(record: Record, column: str, origin: str) -> object:
    """A record's value in a column.

    Raises:
        ConfigError: it has no such column.
    """
    if column not in record:
        raise ConfigError(f"{origin}: no column {column!r}; there are {', '.join(sorted(record))}")
    return record[column]


def file_records(path: str) -> Iterator[Record]:
    """The rows of a Parquet or JSON-lines file, or of a folder of them.

    Raises:
        MissingError: nothing is there.
        ConfigError: a file is neither.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in _files(Path(path)):
        if file.suffix in (".jsonl", ".ndjson", ".json"):
            yield from _json_lines(file)
            continue
        try:
            parquet = pq.ParquetFile(file)
        except pa.ArrowInvalid as error:
            raise ConfigError(f"{file}: neither Parquet nor .jsonl: {error}") from None
        with parquet:
            for batch in parquet.iter_batches(batch_size=BATCH_ROWS):
                yield from batch.to_pylist()


def count_rows(path: str) -> str:
    """How many rows the files at `path` have, as far as that can be told without reading them."""
    import pyarrow.parquet as pq

    files = _files(Path(path))
    if any(file.suffix != ".parquet" for file in files):
        return f"{len(files)} file(s)"
    return f"{sum(pq.read_metadata(file).num_rows for file in files):,} rows"


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        lines = sorted(file for file in path.rglob("*.jsonl") if not file.name.startswith("."))
        return lines or parquet_files(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such file or folder")
    return [path]


def _json_lines(file: Path) -> Iterator[Record]:
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ConfigError(f"{file}:{number}: not JSON ({error}); one object per line is needed") from None
            if not isinstance(record, dict):
                raise ConfigError(f"{file}:{number}: a JSON object is needed, not a {type(record).__name__}")
            yield record


def to_row(record: Record, columns: ColumnMapping, name: str, origin: str) -> SourceRow:
    """A record as a question.

    Args:
        record: by column.
        columns: which of them hold what.
        name: of the source.
        origin: of the record, for the message.

    Raises:
        ConfigError: a column is missing, or holds something else than the mapping says.
    """

    def value(column: str | None) -> object:
        return None if column is None else column_of(record, column, origin)

    question = text_of(value(columns.question)) or ""
    detail = text_of(value(columns.source))
    used = {columns.question, columns.solution, columns.answer, columns.domain, columns.source, columns.length}
    rest = {key: rest for key, rest in record.items() if key not in used | {"metadata"}}
    return SourceRow(
        id=question_id(question),
        question=question,
        solution=text_of(value(columns.solution)),
        answer=text_of(value(columns.answer)),
        source=f"{name}/{detail}" if detail else name,
        domain=text_of(value(columns.domain)),
        metadata=json.dumps(_metadata(record.get("metadata")) | rest, ensure_ascii=False, sort_keys=True, default=str),
        length=_whole(value(columns.length), columns.length, origin),
        solved_by=_labels(columns, record, origin),
        error=text_of(value(columns.error)) or None,
    )


def _labels(columns: ColumnMapping, record: Record, origin: str) -> list[str] | None:
    labels = {model: _label(record, column, origin) for model, column in columns.solved_by.items()}
    for model, column in columns.unsolved_by.items():
        label = _label(record, column, origin)
        labels[model] = None if label is None else not label
    if not labels or None in labels.values():
        return None
    return sorted(model for model, solved in labels.items() if solved)


def _label(record: Record, column: str, origin: str) -> bool | None:
    value = column_of(record, column, origin)
    # What Parquet, JSON lines and data frames make of a column of truth values, some missing.
    if value is None or value != value:
        return None
    if value in (0, 1):
        return bool(value)
    raise ConfigError(f"{origin}: column {column!r} must be true or false (or 1 or 0), not {value!r}")


def _whole(value: object, column: str | None, origin: str) -> int | None:
    if value is None or value != value:
        return None
    try:
        if isinstance(value, str | int | float | Decimal):
            return int(value)
    except (ValueError, OverflowError):
        pass
    raise ConfigError(f"{origin}: column {column!r} must be a whole number, not {value!r}")


def text_of(value: object) -> str | None:
    """A cell as text; of a list the first element, as s1 reads OlympiadBench."""
    if isinstance(value, list):
        value = value[0] if value else None
    if value is None or isinstance(value, str):
        return value
    return str(value)


def _metadata(value: object) -> dict[str, object]:
    """A source's own metadata: a mapping, JSON, or the printed dict that s1's data sets have."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, str):
        return {} if value is None else {"metadata": value}
    for read in (json.loads, ast.literal_eval):
        try:
            parsed = read(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(parsed, dict):
            return parsed
    return {"metadata": value} if value else {}
