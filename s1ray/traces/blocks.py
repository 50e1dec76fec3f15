"""Blocks of questions and attempts at them, as Ray Data sends them to workers and as the workers read them.

A block says where the answers are; a worker reads them from the ledgers. No question is in two blocks, so that what
depends on all attempts at one (majority answers, `per_question`) is decided within its block, wherever that is.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s1ray.errors import S1rayError
from s1ray.manifests import RunError
from s1ray.ray_data import quiet_ray_data
from s1ray.schemas import Question, Trace, arrow_schema
from s1ray.storage import Location
from s1ray.teachers.ledger import Answer, Place, read_answers
from s1ray.traces.config import TracesConfig
from s1ray.traces.finishing import Attempt, finish
from s1ray.traces.judging import Judgements

if TYPE_CHECKING:
    import pyarrow as pa

PROBLEM = "problem"
"""The only column of what a worker gives where it could not do its block."""


@dataclass(frozen=True)
class Folders:
    """Of the ledgers."""

    responses: Location
    judgements: Location


@dataclass(frozen=True)
class FinishBlock:
    """For Ray Data: from a block to rows of Trace with `error` and `reason`."""

    folders: Folders
    config: TracesConfig

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Finish a block."""
        import pyarrow as pa

        finished = finish(read_block(rows, self.folders), self.config)
        records = [vars(each.trace) | {"error": each.error, "reason": each.reason} for one in finished for each in one]
        return pa.Table.from_pylist(records, schema=finished_schema())


@dataclass(frozen=True)
class ExamineBlock:
    """For Ray Data: from a block to what decides which asks come next, without the texts.

    The columns are `row` (of the question), `sample`, `usable` (correct, and not dropped by itself) and `step` (what
    the judge must be asked).
    """

    folders: Folders
    config: TracesConfig

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Examine a block."""
        import pyarrow as pa

        # What one trace is dropped for in favour of another says nothing about it.
        config = self.config.model_copy(update={"per_question": "all"})
        finished = finish(read_block(rows, self.folders), config, counted=config.max_tokens is not None)
        numbers = rows.column("row").to_pylist()
        records = [
            {
                "row": row,
                "sample": each.trace.sample,
                "usable": each.trace.correct is True and each.reason is None,
                "step": each.step,
            }
            for row, one in zip(numbers, finished, strict=True)
            for each in one
        ]
        types = {"row": pa.int64(), "sample": pa.int64(), "usable": pa.bool_(), "step": pa.int64()}
        return pa.Table.from_pylist(records, schema=pa.schema(types))


def read_block(rows: pa.Table, folders: Folders) -> list[tuple[Question, list[Attempt]]]:
    """The questions of a block, and the attempts at them, read from the ledgers."""
    records = rows.to_pylist()
    attempts = [attempt for record in records for attempt in record["attempts"]]
    answers = _reader(folders.responses, [attempt["answer"] for attempt in attempts])
    stated = _reader(folders.judgements, [attempt["stated"] for attempt in attempts])
    compared = _reader(folders.judgements, [attempt["compared"] for attempt in attempts])
    names = [name for name in rows.column_names if name not in ("row", "attempts")]
    return [
        (
            Question(**{name: record[name] for name in names}),
            [
                Attempt(each["sample"], answers(), each["error"], Judgements(stated(), compared()))
                for each in record["attempts"]
            ],
        )
        for record in records
    ]


def _reader(folder: Location, places: Sequence[Mapping[str, Any] | None]) -> Callable[[], Answer | None]:
    """Gives the answers one after another; None where there is no place.

    Raises:
        RunError: the ledger is not there.
    """
    try:
        found = iter(read_answers(folder, [Place(**place) for place in places if place is not None]))
    except OSError as error:
        raise RunError(
            f"{folder}: a worker on {platform.node()} cannot read it: {error.strerror}; the run folder must be on "
            "storage that every node sees"
        ) from error
    answers = (None if place is None else next(found) for place in places)
    return lambda: next(answers)


def finished_schema() -> pa.Schema:
    """Of a finished trace: Trace has no place for what a dropped row needs."""
    import pyarrow as pa

    return pa.schema([*arrow_schema(Trace), pa.field("error", pa.string()), pa.field("reason", pa.string())])


def block_of(questions: pa.Table, rows: Sequence[int], attempts: Sequence[Sequence[Mapping[str, Any]]]) -> pa.Table:
    """A block.

    Args:
        questions: all of them.
        rows: those of the block, by their places.
        attempts: at each of them: `sample`, `error` (None: there is an answer), and the places of the `answer` and of
            what the judge `stated` and `compared`, each None where there is none.
    """
    import pyarrow as pa

    places = [(name, place_type()) for name in ("answer", "stated", "compared")]
    attempt = pa.struct([("sample", pa.int64()), ("error", pa.string()), *places])
    numbers = pa.array(rows, type=pa.int64())
    block = questions.take(numbers).append_column("row", numbers)
    return block.append_column("attempts", pa.array(attempts, type=pa.list_(attempt)))


def place_type() -> pa.DataType:
    """Of a `Place`."""
    import pyarrow as pa

    return pa.struct([("file", pa.string()), ("offset", pa.int64()), ("length", pa.int64())])


def in_workers(function: Callable[[pa.Table], pa.Table], blocks: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """What a function makes of blocks, in their order, in pieces of any size.

    Raises:
        RunError: the function raised an error that a user can mend.
    """
    import ray

    with quiet_ray_data():
        options = ray.data.DataContext.get_current().execution_options
        before, options.preserve_order = options.preserve_order, True
        try:
            data = ray.data.from_arrow(list(blocks))
            data = data.map_batches(Telling(function), batch_size=None, batch_format="pyarrow")
            tables = iter(data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))
            with contextlib.closing(tables):
                for table in tables:
                    if table.column_names == [PROBLEM]:
                        raise RunError(
                            f"traces: {table.column(PROBLEM)[0]}; the answers are kept: mend it and run again"
                        )
                    yield table
        finally:
            options.preserve_order = before


@dataclass(frozen=True)
class Telling:
    """Gives errors that a user can mend as text: raised, they would reach the user wrapped in Ray's and Ray Data's."""

    function: Callable[[pa.Table], pa.Table]

    def __call__(self, rows: pa.Table) -> pa.Table:
        """What the function gives, or the problem."""
        import pyarrow as pa

        try:
            return self.function(rows)
        except S1rayError as error:
            return pa.table({PROBLEM: pa.array([str(error)], type=pa.string())})
