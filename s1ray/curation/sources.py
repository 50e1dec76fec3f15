"""Reading pools of questions, and staging them: every row of every source, in one schema, in numbered Parquet parts.

The parts are what Ray Data reads. A row's `order` is its position in all sources together; it decides which of two
equal rows stays, and what order the results have, so that neither depends on how the work was spread.
"""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1ray.config import ConfigError
from s1ray.curation.config import Benchmark, ColumnMapping, CurationConfig, FileSource, HubSource, Source
from s1ray.schemas import Question, arrow_schema, parquet_files, question_id, write_table

if TYPE_CHECKING:
    import pyarrow as pa

PART_ROWS = 4096
"""Rows of a staged part: a block of Ray Data."""
MINIATURE = "miniature"

Row = dict[str, Any]


def staged_schema() -> pa.Schema:
    """`Question`, and what only curation needs: the row's position, its source's index, and an earlier step's error."""
    import pyarrow as pa

    extra = [pa.field("order", pa.int64()), pa.field("source_index", pa.int64()), pa.field("error", pa.string())]
    # A row without a question is dropped with a reason, so it must be possible to stage it.
    fields = [field.with_nullable(True) for field in arrow_schema(Question)]
    return pa.schema([*fields, *extra])


def stage(sources: Iterable[Source], folder: Path) -> list[Path]:
    """Write all rows of all sources as numbered parts.

    Raises:
        FileNotFoundError: a source's files are not there.
        ConfigError: a column is missing; the message names file and column.
    """
    import pyarrow as pa

    schema, parts = staged_schema(), []
    rows = (
        {**row, "source_index": index} for index, source in enumerate(sources) for row in source_rows(source, index)
    )
    numbered = ({**row, "order": order} for order, row in enumerate(rows))
    for number, batch in enumerate(_batched(numbered, PART_ROWS)):
        part = folder / f"part-{number:05d}.parquet"
        write_table(pa.Table.from_pylist(batch, schema=schema), part)
        parts.append(part)
    if not parts:
        raise ConfigError("sources: none of them has a row; check their `where` and `limit`")
    return parts


def source_rows(source: Source, index: int) -> Iterator[Row]:
    """The rows of one source, as `Question` fields and `error`."""
    if isinstance(source, FileSource):
        name, records = source.name or Path(source.path).stem, _file_records(source.path)
    elif isinstance(source, HubSource):
        name, records = source.name or source.path, _hub_records(source)
    else:
        from s1ray.miniature.pool import build_pool

        yield from ({**row, "error": None} for row in build_pool(size=source.size, seed=source.seed))
        return
    where = f"sources.{index} ({source.path})"
    chosen = _matching(records, source.where, where)
    for record in itertools.islice(chosen, source.limit):
        yield _to_row(record, source.columns, name, where)


def benchmark_questions(benchmark: Benchmark) -> Iterator[tuple[str, str]]:
    """(label, question) of every question of a benchmark.

    Raises:
        FileNotFoundError: its files are not there.
        ConfigError: they have no such column.
    """
    if benchmark.path == MINIATURE:
        from s1ray.miniature.pool import build_benchmark

        yield from ((f"miniature/{row['id']}", row["question"]) for row in build_benchmark())
        return
    name, where = benchmark.name or Path(benchmark.path).stem, f"decontamination.benchmarks ({benchmark.path})"
    for number, record in enumerate(_matching(_file_records(benchmark.path), benchmark.where, where)):
        question = _text(_column(record, benchmark.question, where))
        if question:
            yield f"{name}/{number}", question


def input_paths(config: CurationConfig) -> dict[str, str]:
    """Name -> path of every local input, for the run's digest."""
    paths = {f"sources.{i}": s.path for i, s in enumerate(config.sources) if isinstance(s, FileSource)}
    benchmarks = config.decontamination.benchmarks
    return paths | {f"benchmarks.{i}": b.path for i, b in enumerate(benchmarks) if b.path != MINIATURE}


def check_sources(config: CurationConfig) -> list[str]:
    """Read the first row of every source and benchmark that is at hand; one line each on what is there.

    Raises:
        FileNotFoundError: files are not there.
        ConfigError: a mapped column is missing, or a required field is not mapped.
    """
    lines = []
    for index, source in enumerate(config.sources):
        if isinstance(source, FileSource):
            next(source_rows(source.model_copy(update={"limit": 1}), index), None)
            lines.append(f"source {source.path}: {_count(source.path)}")
        elif isinstance(source, HubSource):
            lines.append(f"source {source.path} ({source.split}): from the Hugging Face Hub")
        else:
            lines.append(f"source miniature: {source.size:,} rows, generated")
        if isinstance(source, FileSource | HubSource):
            for field in config.quality.require:
                if getattr(source.columns, field) is None:
                    raise ConfigError(
                        f"sources.{index}.columns.{field}: not set, but quality.require has {field!r}, so every row "
                        "would be dropped; name the column, or take the field out of quality.require"
                    )
    for benchmark in config.decontamination.benchmarks:
        next(benchmark_questions(benchmark), None)
        lines.append(f"benchmark {benchmark.path}")
    return lines


def _count(path: str) -> str:
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
        raise FileNotFoundError(f"{path}: no such file or folder")
    return [path]


def _file_records(path: str) -> Iterator[Row]:
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
            for batch in parquet.iter_batches(batch_size=PART_ROWS):
                yield from batch.to_pylist()


def _json_lines(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ConfigError(f"{file}:{number}: not JSON ({error}); one object a line is needed") from None
            if not isinstance(record, dict):
                raise ConfigError(f"{file}:{number}: a JSON object is needed, not a {type(record).__name__}")
            yield record


def _hub_records(source: HubSource) -> Iterator[Row]:
    import datasets

    try:
        dataset = datasets.load_dataset(
            source.path, source.subset, split=source.split, revision=source.revision, streaming=True
        )
    except Exception as error:  # the library raises its own, httpx's, OSError and ValueError
        raise ConfigError(
            f"sources: {source.path!r} (split {source.split!r}) cannot be loaded from the Hugging Face Hub: {error}; "
            "without network, export it to Parquet and use a source of kind `files`"
        ) from error
    yield from dataset


def _matching(records: Iterator[Row], where: Mapping[str, Any], origin: str) -> Iterator[Row]:
    for record in records:
        if all(_column(record, column, origin) == value for column, value in where.items()):
            yield record


def _column(record: Row, column: str, origin: str) -> Any:
    if column not in record:
        raise ConfigError(f"{origin}: no column {column!r}; there are {', '.join(sorted(record))}")
    return record[column]


def _to_row(record: Row, columns: ColumnMapping, name: str, origin: str) -> Row:
    def value(column: str | None) -> Any:
        return None if column is None else _column(record, column, origin)

    question = _text(value(columns.question)) or ""
    detail, length = _text(value(columns.source)), value(columns.length)
    used = {columns.question, columns.solution, columns.answer, columns.domain, columns.source, columns.length}
    rest = {key: rest for key, rest in record.items() if key not in used | {"metadata"}}
    return {
        "id": question_id(question),
        "question": question,
        "solution": _text(value(columns.solution)),
        "answer": _text(value(columns.answer)),
        "source": f"{name}/{detail}" if detail else name,
        "domain": _text(value(columns.domain)),
        "metadata": json.dumps(
            _metadata(record.get("metadata")) | rest, ensure_ascii=False, sort_keys=True, default=str
        ),
        "length": _whole(length, columns.length, origin),
        "solved_by": _labels(columns, record, origin),
        "error": _text(value(columns.error)) or None,
    }


def _labels(columns: ColumnMapping, record: Row, origin: str) -> list[str] | None:
    labels = {model: _label(record, column, origin) for model, column in columns.solved_by.items()}
    for model, column in columns.unsolved_by.items():
        label = _label(record, column, origin)
        labels[model] = None if label is None else not label
    if not labels or None in labels.values():
        return None
    return sorted(model for model, solved in labels.items() if solved)


def _label(record: Row, column: str, origin: str) -> bool | None:
    value = _column(record, column, origin)
    # What Parquet, JSON lines and data frames make of a column of truth values, some missing.
    if value is None or value != value:
        return None
    if value in (0, 1):
        return bool(value)
    raise ConfigError(f"{origin}: column {column!r} must be true or false (or 1 or 0), not {value!r}")


def _whole(value: Any, column: str | None, origin: str) -> int | None:
    if value is None or value != value:
        return None
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{origin}: column {column!r} must be a whole number, not {value!r}") from None


def _text(value: Any) -> str | None:
    """A cell as text; of a list the first element, as s1 reads OlympiadBench."""
    if isinstance(value, list):
        value = value[0] if value else None
    if value is None or isinstance(value, str):
        return value
    return str(value)


def _metadata(value: Any) -> dict[str, Any]:
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


def _batched(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while batch := list(itertools.islice(rows, size)):
        yield batch
