"""What became of each row: the chosen ones in `questions.parquet`, the others in `dropped/`, each with its reason."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from s1ray.curation.difficulty.measuring import Measured
from s1ray.curation.features import Features, as_words, hit_type, question_name
from s1ray.curation.funnel import NOBODY, Funnel, Rows
from s1ray.curation.parts import map_parts, read_rows, write_part
from s1ray.curation.records import SourceRow
from s1ray.curation.selection import HOW, Chosen
from s1ray.schemas import Question, arrow_schema, write_table
from s1ray.sinks import RowGroups
from s1ray.storage import Location, readable, writing

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("s1ray")

QUESTIONS, CONFLICTS = "questions.parquet", "conflicts.parquet"
DROPPED, REVIEW = "dropped", "review"
"""Folders of parts in the run folder."""
FEATURES, DECISIONS, TAKEN = "features", "decisions", "taken"
"""Folders of parts that a finished run does not keep."""
KEPT = "kept "
"""Begins the detail of a copy; the id of the row that it repeats follows."""
GROUP_ROWS = 4096
"""Rows of a row group of the questions."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DroppedRow(SourceRow):
    """A row that is not in the result: which stage dropped it, and why."""

    stage: str
    reason: str
    detail: str
    """The evidence: the benchmark question, the row that was kept instead, the models that solved it, the domain that
    the source gives."""


def write_conflicts(folder: Location, parts: Sequence[Location], features: Features, conflicts: Rows) -> None:
    """Write the pairs of rows that look equal and have different answers, where there are some, for people to look at.

    Args:
        folder: of the run.
        parts: of the rows.
        features: of the rows.
        conflicts: as in `Funnel.conflicts`.
    """
    import pyarrow as pa

    if not len(conflicts):
        return
    columns: dict[str, pa.ChunkedArray] = {}
    for place, prefix in enumerate(("", "other_")):
        rows, back = np.unique(conflicts[:, place], return_inverse=True)
        found = read_rows(parts, features.starts, rows, ["id", "source", "question", "answer"])
        columns |= {f"{prefix}{name}": found.column(name).take(pa.array(back)) for name in found.column_names}
    write_table(pa.table(columns), folder / CONFLICTS)
    log.warning(
        "curate: %d pairs of questions look equal and have different answers; %s lists them",
        len(conflicts),
        folder / CONFLICTS,
    )


def write_outcome(
    folder: Location,
    work: Location,
    parts: Sequence[Location],
    features: Features,
    funnel: Funnel,
    chosen: Chosen,
    measured: Measured | None,
) -> None:
    """Write both results from the parts. Ray is connected.

    Args:
        folder: of the run.
        work: for what the finished run does not keep.
        parts: of the rows.
        features: of the rows.
        funnel: with a cause for every row that is not in `chosen`.
        chosen: positions are those of all rows.
        measured: difficulty; rows that are not there keep what their source says. None: none was.
    """
    import pyarrow.parquet as pq

    _write_decisions(work / DECISIONS, features, funnel, chosen, measured)
    beside = {"features": work / FEATURES, "decisions": work / DECISIONS}
    map_parts("writing dropped rows", dropped_rows, parts, folder / DROPPED, causes=funnel.causes, **beside)
    map_parts("writing likenesses to benchmarks", review_rows, parts, folder / REVIEW, causes=funnel.causes, **beside)
    holding = np.unique(np.searchsorted(features.starts, chosen.rows, side="right") - 1).tolist()
    taken = map_parts("writing chosen rows", taken_rows, [parts[number] for number in holding], work / TAKEN, **beside)
    with (
        writing(folder / QUESTIONS) as temporary,
        RowGroups(temporary, arrow_schema(Question), GROUP_ROWS) as questions,
    ):
        for part in taken:
            questions.add(pq.read_table(readable(part)))


def dropped_rows(
    rows: pa.Table, part: str, *, features: Location, decisions: Location, causes: Sequence[tuple[str, str]]
) -> pa.Table:
    """A part's rows that are not chosen, as `DroppedRow`."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    decided = pq.read_table(readable(decisions / part))
    gone = pc.greater(decided.column("cause"), 0)
    labels = pq.read_table(readable(features / part), columns=["leak_label"]).column(0).filter(gone).to_pylist()
    said = rows.column("domain").filter(gone).to_pylist()
    rows, decided = _annotated(rows, features / part, decided).filter(gone), decided.filter(gone)
    cause = pc.subtract(decided.column("cause").cast(pa.int32()), 1)
    kept, solved_by = decided.column("kept").to_pylist(), rows.column("solved_by").to_pylist()
    columns = {
        "stage": pa.array([stage for stage, _ in causes], pa.string()).take(cause),
        "reason": pa.array([reason for _, reason in causes], pa.string()).take(cause),
    }
    columns["detail"] = pa.array(
        [_detail(*found) for found in zip(columns["stage"].to_pylist(), kept, labels, solved_by, said, strict=True)],
        pa.string(),
    )
    return _in_schema(rows, DroppedRow, columns)


def review_rows(
    rows: pa.Table, part: str, *, features: Location, decisions: Location, causes: Sequence[tuple[str, str]]
) -> pa.Table:
    """What a part's rows have of benchmark questions: a row for each likeness, with the texts of both sides.

    stage is the one that dropped the row; null: the row is among the questions.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    hits = pq.read_table(readable(features / part), columns=["hits"]).column(0).combine_chunks()
    of_row, found = pc.list_parent_indices(hits), pc.list_flatten(hits)
    cause = pq.read_table(readable(decisions / part), columns=["cause"]).column(0)
    stages = pa.array([None, *(stage for stage, _ in causes)], pa.string()).take(cause.combine_chunks())
    columns = {name: rows.column(name).take(of_row) for name in ("id", "source", "question")}
    columns |= {name: pc.struct_field(found, name) for name in (field.name for field in hit_type())}
    return pa.table(columns | {"stage": stages.take(of_row)})


def taken_rows(rows: pa.Table, part: str, *, features: Location, decisions: Location) -> pa.Table:
    """A part's chosen rows, as `Question`."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    decided = pq.read_table(readable(decisions / part))
    chosen = pc.equal(decided.column("cause"), 0)
    return _in_schema(_annotated(rows, features / part, decided).filter(chosen), Question, {})


def _annotated(rows: pa.Table, features: Location, decided: pa.Table) -> pa.Table:
    """The rows with what curation found out: domain, length, who solved it, what chose it."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    lengths = pq.read_table(readable(features), columns=["length"]).column(0)
    columns = {
        "domain": decided.column("domain").cast(pa.string()),
        "length": lengths.cast(pa.int64()),
        "selected_by": decided.column("how"),
    }
    if "measured" in decided.column_names:
        for name in ("solved_by", "pass_rates"):
            columns[name] = pc.if_else(decided.column("measured"), decided.column(name), rows.column(name))
    for name, column in columns.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows


def _in_schema(rows: pa.Table, row_type: type, further: Mapping[str, pa.Array]) -> pa.Table:
    import pyarrow as pa

    schema = arrow_schema(row_type)
    columns = [further[name] if name in further else rows.column(name) for name in schema.names]
    return pa.table(columns, schema=schema)


def _detail(
    stage: str, kept: int | None, label: str | None, solved_by: Sequence[str] | None, domain: str | None
) -> str:
    if kept is not None:
        return KEPT + question_name(kept)
    if stage == "decontamination":
        return label or ""
    if stage == "domains":
        return domain or ""
    return ", ".join(solved_by or ()) if stage == "difficulty" else ""


def _write_decisions(
    folder: Location, features: Features, funnel: Funnel, chosen: Chosen, measured: Measured | None
) -> None:
    """For each part what was decided of its rows.

    cause: as in the funnel. kept: id of the row that is to blame, or null. how: what chose the row, or null. measured,
    solved_by, pass_rates: whether difficulty was measured, and its result; only where models were asked. domain: in the
    end.
    """
    import pyarrow as pa

    domains, names = features.codes("domain")
    how = np.full(len(features), -1, np.int8)
    how[chosen.rows] = chosen.how
    to_blame = np.unique(funnel.because_of[funnel.because_of != NOBODY]).astype(np.int64)
    ids = np.append(features.column("id", to_blame), np.uint64(0))
    for number, file in enumerate(features.files):
        begin, end = features.starts[number : number + 2].tolist()
        blamed, chose = funnel.because_of[begin:end], how[begin:end]
        columns = {
            "domain": as_words(domains[begin:end], names),
            "cause": pa.array(funnel.cause[begin:end]),
            "kept": pa.array(ids[np.searchsorted(to_blame, blamed)], mask=blamed == NOBODY),
            "how": pa.array(HOW).take(pa.array(chose, mask=chose < 0)),
        }
        if measured is not None:
            columns |= _measured_columns(measured, begin, end)
        write_part(pa.table(columns), folder / file.name)


def _measured_columns(measured: Measured, begin: int, end: int) -> dict[str, pa.Array]:
    """What was measured of the rows from `begin` to `end`."""
    import pyarrow as pa

    first, last = np.searchsorted(measured.rows, [begin, end]).tolist()
    place = np.full(end - begin, -1)
    place[measured.rows[first:last] - begin] = np.arange(last - first)
    places = pa.array(place, mask=place < 0)
    return {
        "measured": pa.array(place >= 0),
        "solved_by": pa.array(measured.rates.solved_by(first, last), pa.list_(pa.string())).take(places),
        "pass_rates": pa.array(measured.rates.texts(first, last), pa.string()).take(places),
    }
