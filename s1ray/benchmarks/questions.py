"""The questions of a benchmark: read from its file, its function or the Hub, and as they are asked."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator

from s1ray.benchmarks.definition import COLUMNS, QUESTION, Benchmark
from s1ray.benchmarks.finding import find_benchmark
from s1ray.benchmarks.rows import RowReader, asked_text
from s1ray.config import ConfigError
from s1ray.errors import InputError
from s1ray.reading.columnar import parquet_file
from s1ray.reading.files import find_files
from s1ray.reading.hub import check_hub, hub_is_offline, hub_records
from s1ray.reading.items import Bad, BadFile, Record
from s1ray.reading.pieces import ReadOptions
from s1ray.reading.records import file_records
from s1ray.registry import BENCHMARKS
from s1ray.schemas import Question, read_table, to_table


def load_benchmark(benchmark: str) -> list[Question]:
    """The questions of a benchmark as they are asked, in its own order; ids are those of the bare questions.

    Args:
        benchmark: a registered name, "module:attribute" of a `Benchmark` or of a function without arguments that gives
            `Question` rows, or a file or folder of rows.

    Raises:
        MissingError: there is no such file, and no such name.
        InputError: what is there cannot be imported or gives something else, or the file holds other rows.
        UnreachableError: the Hub does not give them.
    """
    found = find_benchmark(benchmark)
    return [asked(found, question) for question in read_benchmark(found)]


def read_benchmark(benchmark: Benchmark) -> list[Question]:
    """The bare questions of a benchmark, in its own order: without options and prompt.

    Raises:
        MissingError: its file is not there.
        InputError: a record cannot be used, or its function gives no Question rows.
        UnreachableError: the Hub does not give them.
    """
    if benchmark.function is not None:
        return _called(benchmark.function)
    if benchmark.hub is not None:
        where = f"{benchmark.hub} ({', '.join(filter(None, (benchmark.subset, f'split {benchmark.split}')))})"
        records: Iterator[Record] = _on_hub(benchmark)
    else:
        assert benchmark.path is not None
        where = benchmark.path
        plain = not any(getattr(benchmark, name) for name in COLUMNS)
        if plain and (rows := _own_rows(benchmark.path)) is not None:
            return rows
        records = file_records(benchmark.path)
    return RowReader(benchmark, f"benchmark {benchmark.name}: {where}").questions(records)


def asked(benchmark: Benchmark, question: Question) -> Question:
    """A question with the text that a model is asked: its options and the benchmark's prompt included."""
    text = benchmark.prompt.replace(QUESTION, asked_text(question))
    return dataclasses.replace(question, question=text)


def _called(name: str) -> list[Question]:
    function = BENCHMARKS.get(name)
    if not callable(function):
        raise InputError(f"benchmark {name!r}: is a {type(function).__name__}, not a function")
    given = function()
    if not isinstance(given, Iterable):
        raise InputError(f"benchmark {name!r}: gives a {type(given).__name__}; it must give Question rows")
    questions = list(given)
    for question in questions:
        if not isinstance(question, Question):
            raise InputError(f"benchmark {name!r}: gives a {type(question).__name__}; it must give Question rows")
    return questions


def _own_rows(path: str) -> list[Question] | None:
    """The rows at a path if they are `Question` rows: they have the texts `id` and `question`."""
    files = find_files(path).files
    if all(file.format == "parquet" for file in files):
        with contextlib.suppress(BadFile), parquet_file(files[0].absolute) as file:
            types = {field.name: str(field.type) for field in file.schema_arrow}
            if "string" in types.get("id", "") and "string" in types.get("question", ""):
                return [Question(**row) for row in read_table(path, Question).to_pylist()]
        # A damaged file is told by who reads its records.
        return None
    records = file_records(path)
    first = next(records, None)
    if first is None or not all(isinstance(first.get(name), str) for name in ("id", "question")):
        return None
    known = {field.name for field in dataclasses.fields(Question)}
    rows = [{k: v for k, v in record.items() if k in known} for record in itertools.chain([first], records)]
    try:
        return [Question(**row) for row in to_table(rows, Question).to_pylist()]
    except InputError as error:
        raise ConfigError(f"{path}: {error}; name the columns (`question`, `answer`) if these are other rows") from None


def _on_hub(benchmark: Benchmark) -> Iterator[Record]:
    assert benchmark.hub is not None
    advice = f"export it to a file, and give that as `path` of the benchmark {benchmark.name}"
    check_hub(advice)
    items = hub_records(
        benchmark.hub,
        benchmark.subset,
        benchmark.split,
        benchmark.revision,
        ReadOptions(),
        # Only whole data sets are found in the cache.
        streaming=not hub_is_offline(),
        advice=advice,
    )
    for number, item in items:
        if isinstance(item, Bad):
            raise ConfigError(f"benchmark {benchmark.name}: {benchmark.hub}: record {number}: {item.reason}")
        yield item
