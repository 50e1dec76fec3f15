"""`s1ray curate export`: the questions of a run as a file, or as a data set with a card that `load_dataset` reads.

The rows are s1ray's own, or with `s1k` have the columns of s1K: `solution` is the reference working, or the reference
answer where the source has no working; `cot_type` comes from a question's metadata; what only traces have is null.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1ray.curation.card import write_card
from s1ray.curation.names import NameCounts
from s1ray.curation.outcome import QUESTIONS
from s1ray.errors import InputError
from s1ray.runs import Manifest, read_complete
from s1ray.schemas import Question, arrow_schema, conform
from s1ray.sinks import GROUP_ROWS, SINKS
from s1ray.storage import writing
from s1ray.targets import check_target

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
SHARD_ROWS = 100_000
"""Rows of a data set's file."""
FORMATS = {"parquet": (".parquet",), "jsonl": (".jsonl",), "datasets": ("",), "s1k": ("", *SINKS)}
"""What to export as -> how the output's name may end; "": it is the folder of a data set."""


@dataclass
class Exported:
    """What an export wrote."""

    rows: int = 0
    known: Counter[str] = field(default_factory=Counter)
    """Column -> rows that have a value in it."""
    sources: NameCounts = field(default_factory=NameCounts)
    domains: NameCounts = field(default_factory=NameCounts)
    unknown: list[str] = field(default_factory=list)
    """Columns that are null in every row."""

    def add(self, questions: list[Row], rows: list[Row]) -> None:
        """Count some questions, and the rows that they became."""
        self.rows += len(rows)
        self.known.update(name for row in rows for name, value in row.items() if value is not None)
        self.sources.add((question["source"], 1) for question in questions)
        self.domains.add((question["domain"], 1) for question in questions)


def export(run: Path, kind: str, output: Path) -> Exported:
    """Write the questions of a complete run, whole or not at all.

    Args:
        run: the run folder.
        kind: one of `FORMATS`.
        output: a .parquet or .jsonl file, or the folder of a data set: one that is not there yet, or empty.

    Raises:
        InputError: there is no such format, the output's name does not fit it, the folder holds something, this is no
            complete run of `s1ray curate`, or the output would be written over what a run reads or holds.
        MissingError: there is no such run.
    """
    if kind not in FORMATS:
        raise InputError(f"--as {kind}: give one of {', '.join(FORMATS)}")
    # "." has no name that a temporary one could be made of; a folder's name may have a point in it.
    output = Path(os.path.abspath(output))
    ending = output.suffix if output.suffix in SINKS else ""
    if ending not in FORMATS[kind]:
        wanted = " or ".join(end or "be a folder" for end in FORMATS[kind])
        raise InputError(f"{output}: as {kind} it must {'end in ' if FORMATS[kind][0] else ''}{wanted}")
    manifest = read_complete(run, "curate")
    check_target(output, (run, *(entry["path"] for entry in manifest.get("inputs", {}).values())))
    _check_room(output, folder=not ending)
    layout = LAYOUTS["s1k" if kind == "s1k" else "rows"]
    try:
        with writing(output) as temporary:
            if ending:
                return _write_file(run, layout, temporary, ending)
            return _write_data_set(run, layout, temporary, manifest)
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror or error}") from error


def _check_room(output: Path, *, folder: bool) -> None:
    if folder and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: holds something; give a folder that is not there yet, or empty")
    if not folder and output.is_dir():
        raise InputError(f"{output}: is a folder; give the file to write")


def _write_file(run: Path, layout: Layout, path: Path, ending: str) -> Exported:
    exported, schema = Exported(), layout.schema()
    with SINKS[ending](path, schema) as write:
        for questions in _batches(run / QUESTIONS):
            rows = [layout.row(question) for question in questions]
            write(rows)
            exported.add(questions, rows)
    return _finished(exported, schema)


def _write_data_set(run: Path, layout: Layout, folder: Path, manifest: Manifest) -> Exported:
    exported, schema = Exported(), layout.schema()
    (folder / "data").mkdir(parents=True)
    with contextlib.ExitStack() as last:
        for number, questions in enumerate(_batches(run / QUESTIONS)):
            if number % (SHARD_ROWS // GROUP_ROWS) == 0:
                last.close()
                name = f"train-{number // (SHARD_ROWS // GROUP_ROWS):05}.parquet"
                write = last.enter_context(SINKS[".parquet"](folder / "data" / name, schema))
            rows = [layout.row(question) for question in questions]
            write(rows)
            exported.add(questions, rows)
    write_card(folder / "README.md", manifest, exported.sources, exported.domains)
    return _finished(exported, schema)


def _finished(exported: Exported, schema: pa.Schema) -> Exported:
    exported.unknown = [name for name in schema.names if not exported.known[name]]
    return exported


def _batches(file: Path) -> Iterator[list[Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(GROUP_ROWS):
                yield conform(pa.Table.from_batches([batch]), Question, file).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: damaged, or cannot be read: {error}") from error


def s1k_schema() -> pa.Schema:
    """The columns of s1K."""
    import pyarrow as pa

    first = ("solution", "question", "cot_type", "source_type", "metadata")
    trajectories = ("thinking_trajectories", pa.list_(pa.string()))
    return pa.schema(
        [*((name, pa.string()) for name in first), ("cot", pa.null()), trajectories, ("attempt", pa.string())]
    )


def cot_type(metadata: str | None) -> str | None:
    """s1's word for the kind of question, where its source had it.

    Args:
        metadata: of the question, as JSON.
    """
    if not metadata or "cot_type" not in metadata:
        return None
    try:
        found = json.loads(metadata)["cot_type"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _s1k(question: Row) -> Row:
    return {
        "solution": question["solution"] or question["answer"],
        "question": question["question"],
        "cot_type": cot_type(question["metadata"]),
        "source_type": question["source"],
        "metadata": question["metadata"],
        "cot": None,
        "thinking_trajectories": None,
        "attempt": None,
    }


@dataclass(frozen=True)
class Layout:
    """How rows are written."""

    schema: Callable[[], pa.Schema]
    row: Callable[[Row], Row]
    """From a question's row; it has every column of the schema."""


LAYOUTS = {"rows": Layout(lambda: arrow_schema(Question), lambda question: question), "s1k": Layout(s1k_schema, _s1k)}
