"""`s1ray traces export`: the traces of a run with the columns of s1's own sets, or of ours, as Parquet or JSON Lines.

`solution` is the reference working, or the reference answer where the source has no working; `metadata` is JSON. What
s1's sets have and a run does not know is null: `cot` (as in s1K), `cot_type` unless a question's metadata has it, and
in s1K-1.1 Gemini's columns. The grades' reasons are the rules that gave them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s1ray.curation.export import cot_type, s1k_schema
from s1ray.errors import InputError
from s1ray.manifests import InputEntry, digest, read_complete
from s1ray.schemas import MANIFEST, Question, Trace, arrow_schema, conform, read_table
from s1ray.sinks import GROUP_ROWS, SINKS
from s1ray.storage import Location, location, readable, writing
from s1ray.targets import check_target
from s1ray.traces.finishing import MAJORITY
from s1ray.traces.outputs import TRACES

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
GRADES = {True: "Yes", False: "No", None: None}
"""s1K-1.1's words for `correct`."""


@dataclass(frozen=True)
class Source:
    """What a question has that a trace does not."""

    solution: str | None = None
    source: str | None = None
    metadata: str | None = None

    @property
    def cot_type(self) -> str | None:
        """s1's word for the kind of question, where the source had it."""
        return cot_type(self.metadata)


def _common(trace: Row, source: Source) -> Row:
    # Older versions knew reference answers only, and do not say so.
    reference = None if (trace["answer_source"] or "").startswith(MAJORITY) else trace["answer"]
    return {
        "solution": source.solution or reference,
        "question": trace["question"],
        "cot_type": source.cot_type,
        "source_type": source.source,
        "metadata": source.metadata,
    }


def _s1k(trace: Row, source: Source) -> Row:
    found = {"cot": None, "thinking_trajectories": [trace["thinking"]], "attempt": trace["attempt"]}
    return _common(trace, source) | found


def _s1k_1_1(trace: Row, source: Source) -> Row:
    """The trace is in the columns of DeepSeek R1, whoever the teacher was: they are the ones that are read first."""
    return _common(trace, source) | {
        "deepseek_thinking_trajectory": trace["thinking"],
        "deepseek_attempt": trace["attempt"],
        "deepseek_grade": GRADES[trace["correct"]],
        "deepseek_grade_reason": trace["graded_by"],
    }


def _s1k_1_1_schema() -> pa.Schema:
    import pyarrow as pa

    first = ("solution", "question", "cot_type", "source_type", "metadata")
    texts = [f"{who}_{what}" for who in ("gemini", "deepseek") for what in ("thinking_trajectory", "attempt")]
    grades = [f"{who}_{what}" for who in ("gemini", "deepseek") for what in ("grade", "grade_reason")]
    return pa.schema([(name, pa.string()) for name in (*first, *texts, *grades)])


@dataclass(frozen=True)
class Layout:
    """How rows are written."""

    schema: Callable[[], pa.Schema]
    row: Callable[[Row, Source], Row]
    """From a trace's row; columns that it leaves out are null."""
    needs_questions: bool = True


LAYOUTS = {
    "s1k": Layout(s1k_schema, _s1k),
    "s1k-1.1": Layout(_s1k_1_1_schema, _s1k_1_1),
    "rows": Layout(lambda: arrow_schema(Trace), lambda trace, source: trace, needs_questions=False),
}


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    rows: int
    unknown: list[str]
    """Columns that are null in every row."""
    lost_questions: Location | None
    """Where the run's questions were, if they are not there any more; what only they know is null."""


def export(run: Location, layout: str, output: Location) -> Exported:
    """Write the traces of a complete run, whole or not at all.

    Args:
        run: the run folder.
        layout: one of `LAYOUTS`.
        output: the file; its ending says the format.

    Raises:
        InputError: there is no such layout or format, this is no complete run of `s1ray traces`, or the output would
            be written over what a run reads or holds.
        MissingError: there is no such run.
    """
    if layout not in LAYOUTS:
        raise InputError(f"--as {layout}: give one of {', '.join(LAYOUTS)}")
    if output.suffix not in SINKS:
        raise InputError(f"{output}: must end in {' or '.join(SINKS)}")
    chosen, read = LAYOUTS[layout], _inputs_of(run)
    questions = read["questions"]
    check_target(output, (run, *(entry["path"] for entry in read.values())))
    sources = _sources(location(questions["path"]), questions["digest"]) if chosen.needs_questions else {}
    schema, rows, known = chosen.schema(), 0, Counter[str]()
    try:
        with writing(output) as temporary, SINKS[output.suffix](temporary, schema) as write:
            for batch in _batches(run / TRACES):
                made = [chosen.row(trace, (sources or {}).get(trace["question_id"], Source())) for trace in batch]
                write([{name: row.get(name) for name in schema.names} for row in made])
                rows += len(made)
                known.update(name for row in made for name, value in row.items() if value is not None)
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror or error}") from error
    lost = location(questions["path"]) if sources is None else None
    return Exported(rows, [name for name in schema.names if not known[name]], lost)


def _inputs_of(run: Location) -> dict[str, InputEntry]:
    """Where the inputs of a run were; its questions are among them."""
    if "questions" not in (entries := read_complete(run, "traces").get("inputs", {})):
        raise InputError(f"{run}: its {MANIFEST} does not say where its questions are; it is damaged")
    return entries


def _sources(questions: Location, known_digest: str) -> dict[str, Source] | None:
    """By question id; None where the questions are not there any more."""
    if not questions.exists() or digest(questions) != known_digest:
        return None
    unread = ("answer", "domain", "length", "solved_by", "pass_rates", "selected_by")
    table = read_table(questions, Question, without=unread)
    columns = (table.column(name).to_pylist() for name in ("id", "solution", "source", "metadata"))
    return {key: Source(*values) for key, *values in zip(*columns, strict=True)}


def _batches(file: Location) -> Iterator[list[Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(readable(file)).iter_batches(GROUP_ROWS):
            yield conform(pa.Table.from_batches([batch]), Trace, file).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: damaged, or cannot be read: {error}") from error
