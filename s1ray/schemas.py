"""The rows that flow between the rooms, as dataclasses, and their Arrow schemas.

    Question -> (curation) -> Question -> (traces) -> Trace -> (training) -> Example
    Question -> (evaluation) -> Completion -> Evaluation

A dataclass here is the one place where a column is named and typed: `arrow_schema` derives the Parquet schema from it,
`read_table` checks a file against it and says which column is wrong, and `write_table` writes a file whole or not at
all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from s1ray.errors import InputError, MissingError
from s1ray.storage import AnyPath, Location, StorePath, arrow_place, inside, is_file, location, writing

if TYPE_CHECKING:
    import pyarrow as pa


def question_id(question: str) -> str:
    """The key of a question: the first 16 hex digits of the SHA-256 of its UTF-8 text (s1's `qhash`)."""
    return hashlib.sha256(question.encode("utf-8")).hexdigest()[:16]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """A problem to think about, as a source gives it and as curation annotates it."""

    id: str
    """`question_id(question)`: the join key everywhere."""
    question: str
    solution: str | None = None
    """Reference working, as the source has it. None: the source has none."""
    answer: str | None = None
    """Reference final answer. None: only `solution` can tell."""
    source: str = ""
    """Where the row comes from, for example "simplescaling/openaimath/Algebra"."""
    domain: str | None = None
    """Subject. None: curation's `domains` must give one, or the row is dropped."""
    metadata: str = "{}"
    """The source's other fields, as one JSON object."""
    length: int | None = None
    """Tokens of the reference working or trace: selection prefers long ones (s1, section 2.2)."""
    solved_by: list[str] | None = None
    """Difficulty models that answered correctly. None: difficulty was not measured; empty: none of them did."""
    pass_rates: str | None = None
    """JSON: difficulty model -> its share of right attempts, of those that are right or wrong. None: not measured, or
    an older version wrote the row."""
    selected_by: str | None = None
    """Why selection took the row ("trusted", "uniform", "weighted", "all")."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trace:
    """A teacher's reasoning on one question: what the student is trained on."""

    id: str
    """`<question_id>-<sample>`."""
    question_id: str
    sample: int
    question: str
    answer: str | None = None
    """What the attempt is graded against."""
    domain: str | None = None
    thinking: str
    attempt: str
    """The teacher's answer text, after its thinking."""
    teacher: str
    thinking_tokens: int
    attempt_tokens: int
    finish_reason: str
    """"stop", or "length" where the teacher was cut."""
    correct: bool | None = None
    """None: not graded, or nobody can say."""
    graded_by: str | None = None
    """The grader's rule; ending in "by majority answer" where that is what `answer` is, and beginning with "judge:" and
    the judge's label where it helped."""
    verdict: str | None = None
    """One of `s1ray.grading.Verdict`. None: not graded, or written by an older version."""
    sampling: str | None = None
    """JSON: how it was sampled (temperature, seed, ...). None: the teacher does not say."""
    model_version: str | None = None
    """What the provider says has answered."""
    prompt_tokens: int | None = None
    """As the provider counts, like the next two, in its own tokens. None: it does not."""
    cached_tokens: int | None = None
    """Of the prompt's, read from a cache."""
    completion_tokens: int | None = None
    """Reasoning included."""
    answer_source: str | None = None
    """Where `answer` comes from: "reference", or "majority 3/4" (the answer of 3 of the question's 4 whole attempts).
    None: there is none, or an older version wrote the row."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChatRow:
    """A conversation to train on: several turns, tools, a system prompt (`s1ray train convert`)."""

    id: str
    question_id: str
    """Of the user's first message: rows of one are held out together."""
    messages: str
    """JSON: a list of objects with role, content, and where there are some reasoning_content, tool_calls, name,
    tool_call_id."""
    tools: str | None = None
    """JSON: definitions of the tools, as chat templates take them."""
    finish_reason: str = "stop"
    """"stop", or "length" where the teacher was cut."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One training sequence: token ids, and which of them carry loss."""

    id: str
    input_ids: list[int]
    """Length T."""
    loss_mask: list[bool]
    """Length T; True where the token is a training target (the assistant's turn)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confidence:
    """How sure the model was of a response, over its thinking and its answer; what was forced is left out
    (`s1ray.voting.confidence` says what the figures are).
    """

    tokens: int
    """Those that the figures are of."""
    forced_tokens: int
    """Further ones, which the model has not chosen: delimiters, inserted waits, forced ends. A server that does not say
    which they are has them among `tokens`."""
    mean: float
    """DeepConf's confidence of the tokens, in nats."""
    lowest_group: float
    """The lowest mean of a window."""
    lowest_tenth: float
    """The mean of the lowest tenth of the windows."""
    tail: float
    """Of the last window."""
    self_certainty: float
    """Mean over the tokens, in nats."""
    entropy: float
    """Mean over the tokens, in bits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completion:
    """One generated response, thinking apart from answer, with its accounting from token ids."""

    id: str
    """`<question_id>-<sample>`, or the caller's own key."""
    thinking: str
    answer: str
    prompt_tokens: int
    thinking_tokens: int
    answer_tokens: int
    waits: int = 0
    """Waits that budget forcing inserted (not the model's own)."""
    end_forced: str | None = None
    """Why the end of thinking was forced ("budget", "context", ...). None: the model ended it."""
    answer_cut: bool = False
    """The answer reached a limit (its own, or the whole response's) before the model ended it."""
    finish_reason: str = "stop"
    """"stop": the model ended it. Anything else ("length", "content_filter", "refusal", "tool_calls", "unknown" where
    nothing was said, "error", ...) is no whole answer."""
    output_ids: list[int] | None = None
    error: str | None = None
    """What went wrong, where the request failed; the texts are empty then."""
    cached_tokens: int = 0
    """Of the prompt's, read from a provider's cache."""
    completion_tokens: int | None = None
    """As the provider counts and bills them, reasoning included. None: not said."""
    model_version: str | None = None
    """What the provider says has answered."""
    raw_finish_reason: str | None = None
    """In the provider's words. None: not said."""
    thinking_unknown: bool = False
    """Nobody has told thinking tokens from answer tokens: `answer_tokens` holds them all."""
    strategy: Mapping[str, object] | None = None
    """What our server says of the strategy that it carried out: `name`, and the sums over all of its requests to the
    engine, this response's included (`calls`, `prompt_tokens`, `thinking_tokens`, `answer_tokens`)."""
    confidence: Confidence | None = None
    """None: the request did not ask for it (`GenerationRequest.top_logprobs`)."""
    wait_positions: list[int] | None = None
    """Begin and end of each inserted wait in `output_ids`, in turn. None: not known."""
    wait_spans: list[int] | None = None
    """The same in characters of `thinking`. None: not known, or none was inserted."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One graded completion of one arm of an eval run."""

    id: str
    """`<question_id>-<sample>`, and `-r<repeat>` behind it in repetitions but the first."""
    question_id: str
    sample: int
    repeat: int = 0
    """Which of the run's repetitions (`repeats`); each asks every question with seeds of its own."""
    benchmark: str = ""
    """The benchmark's name. "": that of the run's only one, in files of older versions."""
    model: str
    """The model's label in the report ("base", "sft", ...)."""
    arm: str
    """The setting's label ("max=256", "waits=2", ...)."""
    max_thinking_tokens: int | None
    waits_asked: int
    domain: str | None = None
    gold: str
    extracted: str | None
    """None: no answer could be read off; that counts as wrong."""
    correct: bool | None
    """None: nobody can say, so the row counts neither as right nor as wrong."""
    verdict: str = ""
    """One of `s1ray.grading.Verdict`, or "failed" where the request failed; in the journals of a run also "not graded".
    Files of older versions have none; reading them derives it."""
    graded_by: str
    thinking: str
    answer: str
    thinking_tokens: int
    answer_tokens: int
    waits: int
    end_forced: str | None = None
    answer_cut: bool = False
    finish_reason: str = "stop"
    error: str | None = None
    calls: int = 1
    """Requests that the answer took, those whose response was thrown away included. The token counts are of them all;
    texts, waits and ends are of the response that was kept."""
    uncounted_calls: int = 0
    """Those of them, and requests to a reward model, that were cancelled, failed, or came without a count: their tokens
    are not in the counts."""
    prompt_tokens: int | None = None
    """None: an older version wrote the row."""
    reward_tokens: int = 0
    """That a reward model has read for the answer; they are in no other count."""
    kept_thinking_tokens: int | None = None
    """Thinking tokens of the response that was kept, where there were several. None: `thinking_tokens`."""
    thinking_unknown: bool = False
    """The server told a response's tokens, but not how many of them were thinking: all are in `answer_tokens`."""
    wait_spans: list[int] | None = None
    """Begin and end of each inserted wait in `thinking`, in turn, in characters; equal where a stop was suppressed
    without a text. From token ids; None: not known, or none was inserted."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """How long an answer of an eval run took; apart from its row, which is the same in every run."""

    id: str
    """The Evaluation row's, like the next three."""
    benchmark: str = ""
    model: str
    arm: str
    seconds: float | None = None
    """From the first request for the answer to the last response. None: an older version measured it."""


Row = Question | Trace | ChatRow | Example | Evaluation | Timing


def arrow_schema(row_type: type) -> pa.Schema:
    """The Arrow schema of a row dataclass; a field typed `X | None` is nullable, the others are not."""
    import pyarrow as pa

    scalars = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    hints = typing.get_type_hints(row_type)
    fields = []
    for field in dataclasses.fields(row_type):
        hint, nullable = hints[field.name], False
        if isinstance(hint, types.UnionType):
            inner = [arg for arg in typing.get_args(hint) if arg is not type(None)]
            assert len(inner) == 1, f"{row_type.__name__}.{field.name}: only `X | None` unions have an Arrow type"
            hint, nullable = inner[0], True
        is_list = typing.get_origin(hint) is list
        element = scalars[typing.get_args(hint)[0]] if is_list else scalars[hint]
        fields.append(pa.field(field.name, pa.list_(element) if is_list else element, nullable=nullable))
    return pa.schema(fields)


def to_table(rows: Iterable[object], row_type: type) -> pa.Table:
    """An Arrow table of `row_type` from dataclass instances or mappings with the same keys.

    Raises:
        InputError: a row misses a required column or has a value of another type; the message names row and column.
    """
    import pyarrow as pa

    schema = arrow_schema(row_type)
    records = [
        {f.name: getattr(row, f.name) for f in dataclasses.fields(row_type)} if isinstance(row, row_type) else row
        for row in rows
    ]
    columns = []
    for column in schema:
        default = _default(row_type, column.name)
        values = []
        for index, record in enumerate(records):
            value = record.get(column.name, default) if isinstance(record, Mapping) else default
            if value is dataclasses.MISSING or (value is None and not column.nullable):
                raise InputError(
                    f"row {index} ({_name_of(record)}): column {column.name!r} of {row_type.__name__} is missing"
                )
            values.append(value)
        columns.append(_column(values, column, row_type, records))
    return pa.Table.from_arrays(columns, schema=schema)


MANIFEST = "manifest.json"
"""What a run folder has (`s1ray.runs`)."""
RESULTS = {"Question": "questions.parquet", "Trace": "traces.parquet"}
"""Row type -> the file in a run folder that holds a stage's result."""


def read_table(path: AnyPath, row_type: type, *, without: Collection[str] = ()) -> pa.Table:
    """Read a Parquet file, or a folder of them, and check it against `row_type`.

    Columns that `row_type` does not have are left out; columns that a file lacks get their default (nullable ones
    null), whatever other files of the folder have.

    Args:
        path: the file or folder.
        row_type: the dataclass of the rows.
        without: nullable columns that are not read, but filled with null.

    Raises:
        MissingError: nothing is there.
        InputError: it is no Parquet, or a column is missing, of another type, no text, or null where it may not be; the
            message names file and column.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds

    known = {field.name for field in dataclasses.fields(row_type)} - set(without)
    tables = []
    for file in table_files(path, row_type):
        try:
            place, filesystem = arrow_place(file)
            data = ds.dataset(place, format="parquet", filesystem=filesystem)
            table = data.to_table([name for name in data.schema.names if name in known])
        except (pa.ArrowException, OSError) as error:
            # pyarrow tells damaged pages, and files that may not be read, as errors of the system.
            raise InputError(f"{file}: cannot be read as Parquet: {error}") from error
        tables.append(conform(table, row_type, file))
    return pa.concat_tables(tables)


def table_files(path: AnyPath, row_type: type) -> list[Location]:
    """The Parquet files that hold the rows at `path`; in a run folder its result alone, not what it dropped.

    Raises:
        MissingError: there are none.
    """
    files = parquet_files(path)
    result = location(path) / RESULTS.get(row_type.__name__, "")
    return [result] if result in files and (location(path) / MANIFEST).is_file() else files


def conform(table: pa.Table, row_type: type, path: AnyPath) -> pa.Table:
    """A table with the columns of `row_type`, checked.

    Args:
        path: where it comes from, for messages.

    Raises:
        InputError: a column is missing, of another type, no text, or null where it may not be.
    """
    import pyarrow as pa

    schema = arrow_schema(row_type)
    columns = []
    for column in schema:
        if column.name not in table.column_names:
            default = _default(row_type, column.name)
            if default is dataclasses.MISSING:
                raise InputError(
                    f"{path}: column {column.name!r} is missing; {row_type.__name__} rows need {schema.names}"
                )
            columns.append(pa.array([default] * len(table), type=column.type))
            continue
        values = table.column(column.name)
        try:
            values = values.cast(column.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(
                f"{path}: column {column.name!r} is {values.type}, but {row_type.__name__} needs {column.type}: {error}"
            ) from error
        if values.null_count and not column.nullable:
            first = values.combine_chunks().is_null().index(True).as_py()
            raise InputError(
                f"{path}: column {column.name!r} is null in row {first}; {row_type.__name__} needs a value there"
            )
        try:
            # Whoever wrote a file may have called bytes a text.
            values.validate(full=True)
        except pa.ArrowInvalid as error:
            row = _first_unreadable(values)
            where = "" if row is None else f" in row {row}"
            raise InputError(f"{path}: column {column.name!r} is damaged{where}: {error}") from error
        columns.append(values)
    return pa.Table.from_arrays(columns, schema=schema)


def _first_unreadable(values: pa.ChunkedArray) -> int | None:
    """The row of the first value that is no UTF-8."""
    for row, value in enumerate(values):
        try:
            value.as_py()
        except UnicodeDecodeError:
            return row
    return None


def write_table(table: pa.Table, path: AnyPath) -> None:
    """Write a Parquet file whole or not at all (a temporary file beside it, then a rename)."""
    import pyarrow.parquet as pq

    with writing(path) as temporary:
        pq.write_table(table, temporary)


def parquet_files(path: AnyPath) -> list[Location]:
    """The Parquet files at `path` (a file, or a folder searched in sorted order).

    Raises:
        MissingError: there are none.
    """
    there = location(path)
    if is_file(there):
        return [there]
    try:
        if not isinstance(there, StorePath) and os.path.isdir(there):
            os.listdir(there)
        files = visible_files(there, ".parquet")
    except (OSError, ValueError) as error:
        # ValueError: no name of a file.
        why = error.strerror if isinstance(error, OSError) else error
        raise MissingError(f"{path}: cannot be read: {why}") from None
    if not files:
        raise MissingError(f"{path}: no Parquet file here; give a .parquet file or a folder that holds some")
    return files


def visible_files(folder: AnyPath, suffix: str = "") -> list[Location]:
    """The files in a folder and its subfolders whose names end so, in sorted order; none that are hidden."""
    files = location(folder).rglob(f"*{suffix}")
    return sorted(f for f in files if not f.is_dir() and not any(p.startswith(".") for p in inside(f, folder).parts))


def _default(row_type: type, name: str) -> object:
    field = next(f for f in dataclasses.fields(row_type) if f.name == name)
    return field.default


def _name_of(record: object) -> str:
    return f"id {record['id']!r}" if isinstance(record, Mapping) and "id" in record else "no id"


def _column(values: list[object], column: pa.Field, row_type: type, records: list[object]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values, type=column.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        for index, value in enumerate(values):
            try:
                pa.array([value], type=column.type)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise InputError(
                    f"row {index} ({_name_of(records[index])}): column {column.name!r} of {row_type.__name__} "
                    f"needs {column.type}, got {value!r:.200}"
                ) from error
        raise
