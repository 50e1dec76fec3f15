"""`s1ray curate export`: the questions of a run as a file, or as a data set with a card that `load_dataset` reads.

The rows are s1ray's own, or with `s1k` have the columns of s1K: `solution` is the reference working, or the reference
answer where the source has no working; `cot_type` comes from a question's metadata; what only traces have is null.

Right before they are written, the rows are looked at for benchmark questions once more (`last_check`). An export that
would hold some is refused, or goes on without them where that is asked.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1ray.curation.card import write_card
from s1ray.curation.last_check import LastCheck, last_check
from s1ray.curation.names import NameCounts
from s1ray.curation.outcome import QUESTIONS
from s1ray.curation.publishing import check_push
from s1ray.errors import InputError
from s1ray.manifests import Manifest, read_complete
from s1ray.schemas import Question, arrow_schema, conform
from s1ray.sinks import GROUP_ROWS, SINKS
from s1ray.storage import Location, full_text, location, readable, writing
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
    leaks: int = 0
    """Rows that were left out because they hold benchmark questions."""
    checked: str = "not made, as was asked"
    """What the last look for benchmark questions was, in words."""

    def add(self, questions: list[Row], rows: list[Row]) -> None:
        """Count some questions, and the rows that they became."""
        self.rows += len(rows)
        self.known.update(name for row in rows for name, value in row.items() if value is not None)
        self.sources.add((question["source"], 1) for question in questions)
        self.domains.add((question["domain"], 1) for question in questions)


def export(
    run: Location,
    kind: str,
    output: Location,
    *,
    benchmarks: Sequence[str] = (),
    drop_leaks: bool = False,
    unchecked: bool = False,
) -> Exported:
    """Write the questions of a complete run, whole or not at all.

    Args:
        run: the run folder.
        kind: one of `FORMATS`.
        output: a .parquet or .jsonl file, or the folder of a data set: one that is not there yet, or empty.
        benchmarks: to look for in the rows beside the run's own: "PATH" or "PATH:COLUMN".
        drop_leaks: leave rows with benchmark questions out.
        unchecked: do not look.

    Raises:
        InputError: there is no such format, the output's name does not fit it, the folder holds something, this is no
            complete run of `s1ray curate`, the output would be written over what a run reads or holds, or rows hold
            benchmark questions.
        MissingError: there is no such run, or a benchmark is not there.
    """
    if unchecked and (benchmarks or drop_leaks):
        raise InputError("--unchecked looks at nothing, so it goes with neither --benchmark nor --drop-leaks")
    if kind not in FORMATS:
        raise InputError(f"--as {kind}: give one of {', '.join(FORMATS)}")
    # "." has no name that a temporary one could be made of; a folder's name may have a point in it.
    output = location(full_text(output))
    ending = output.suffix if output.suffix in SINKS else ""
    if ending not in FORMATS[kind]:
        wanted = " or ".join(end or "be a folder" for end in FORMATS[kind])
        raise InputError(f"{output}: as {kind} it must {'end in ' if FORMATS[kind][0] else ''}{wanted}")
    manifest = read_complete(run, "curate")
    check_target(output, (run, *(entry["path"] for entry in manifest.get("inputs", {}).values())))
    _check_room(output, folder=not ending)
    layout = LAYOUTS["s1k" if kind == "s1k" else "rows"]
    check = None if unchecked else last_check(manifest, benchmarks, run)
    checked = _Checked(run / QUESTIONS, check, drop_leaks)
    try:
        with writing(output) as temporary:
            if ending:
                return _write_file(checked, layout, temporary, ending)
            return _write_data_set(checked, layout, temporary, manifest)
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror or error}") from error


class _Checked:
    """The questions of a file that may be exported."""

    def __init__(self, file: Location, check: LastCheck | None, drop_leaks: bool) -> None:
        self.file, self.check, self.drop_leaks = file, check, drop_leaks

    def batches(self) -> Iterator[list[Row]]:
        """Some rows at a time, in pieces of up to `GROUP_ROWS`.

        Raises:
            InputError: after all of them, where some hold benchmark questions and were not to be left out.
        """
        for questions in _batches(self.file):
            yield questions if self.check is None else self.check.clean(questions)
        if self.check is not None and not self.drop_leaks:
            self.check.refuse_leaks()

    def finished(self, exported: Exported, schema: pa.Schema) -> Exported:
        """What an export wrote, when all rows are written.

        Raises:
            InputError: there are none.
        """
        if not exported.rows:
            why = "" if self.check is None else f" (last look for benchmark questions: {self.check.summary()})"
            raise InputError(f"{self.file}: no row would be exported{why}; nothing was written")
        exported.unknown = [name for name in schema.names if not exported.known[name]]
        if self.check is not None:
            exported.leaks, exported.checked = len(self.check.leaks), self.check.summary()
        return exported


def check_pushed(kind: str, output: Location, repository: str | None, *, public: bool) -> None:
    """Find out before an export whether it can be published; does nothing where that is not asked.

    Args:
        kind: what to export as.
        output: where to.
        repository: of the Hub, "owner/name". None: it is not to be published.
        public: whether everybody may read it.

    Raises:
        InputError: it is no folder with a card, or the name is none, or there is no token.
        S1rayError: as `publishing.check_push`.
    """
    if repository is None:
        if public:
            raise InputError("--public says who may read what --push uploads; give --push OWNER/NAME, or leave it out")
        return
    if "" not in FORMATS.get(kind, ()) or output.suffix in SINKS:
        raise InputError(f"--push {repository}: a data set is a folder with a card; export --as datasets or s1k to one")
    check_push(repository, public=public)


def _check_room(output: Location, *, folder: bool) -> None:
    try:
        full = folder and output.exists() and (not output.is_dir() or any(output.iterdir()))
        taken = not folder and output.is_dir()
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror or error}") from None
    if full:
        raise InputError(f"{output}: holds something; give a folder that is not there yet, or empty")
    if taken:
        raise InputError(f"{output}: is a folder; give the file to write")


def _write_file(checked: _Checked, layout: Layout, path: Path, ending: str) -> Exported:
    exported, schema = Exported(), layout.schema()
    with SINKS[ending](path, schema) as write:
        for questions in checked.batches():
            rows = [layout.row(question) for question in questions]
            write(rows)
            exported.add(questions, rows)
    return checked.finished(exported, schema)


def _write_data_set(checked: _Checked, layout: Layout, folder: Path, manifest: Manifest) -> Exported:
    exported, schema = Exported(), layout.schema()
    (folder / "data").mkdir(parents=True)
    with contextlib.ExitStack() as last:
        for number, questions in enumerate(checked.batches()):
            if number % (SHARD_ROWS // GROUP_ROWS) == 0:
                last.close()
                name = f"train-{number // (SHARD_ROWS // GROUP_ROWS):05}.parquet"
                write = last.enter_context(SINKS[".parquet"](folder / "data" / name, schema))
            rows = [layout.row(question) for question in questions]
            write(rows)
            exported.add(questions, rows)
    exported = checked.finished(exported, schema)
    composition = {"source": exported.sources, "domain": exported.domains}
    write_card(folder / "README.md", manifest, composition, exported.rows, exported.checked)
    return exported


def _batches(file: Location) -> Iterator[list[Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(readable(file)) as opened:
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
