"""What one worker stages at a time: reads some pieces of a source, and writes their rows as parts.

A task's files are its parts, its bad rows, and last of all its record; where the record is, the task is done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
from typing import TYPE_CHECKING

from s1ray.curation.difficulty.rates import from_text
from s1ray.curation.parts import is_whole, write_part
from s1ray.curation.quarantine import QuarantineWriter, quarantine_writer
from s1ray.curation.records import SourceRow, sound
from s1ray.curation.sources import Reader, RecordSource, Source
from s1ray.errors import S1rayError
from s1ray.reading.items import Bad, BadFile, Unusable, beginning
from s1ray.reading.pieces import Piece
from s1ray.schemas import Question, arrow_schema
from s1ray.storage import Location, write_json

if TYPE_CHECKING:
    import pyarrow as pa

PART_CHARACTERS = 16 << 20
"""Of a part's texts; longer rows make shorter parts."""
TASK_ROWS = 1 << 32
"""More rows than any task has: the step of `order` from one task to the next."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StagedRow(SourceRow):
    """A row of a source, and its position."""

    order: int
    source_index: int


@dataclasses.dataclass(frozen=True)
class Task:
    """What one worker reads and writes at a time."""

    index: int
    source_index: int
    source: Source
    pieces: tuple[Piece, ...] | None
    """None: the source has `rows` alone, which are read by the driver."""
    needed: tuple[str, ...]
    part_rows: int

    @property
    def fingerprint(self) -> str:
        """Of everything that decides its parts but the content of the files, which identifies the run."""
        pieces = None if self.pieces is None else [dataclasses.asdict(piece) for piece in self.pieces]
        content = [
            self.index,
            self.source_index,
            self.source.model_dump(mode="json"),
            pieces,
            self.needed,
            self.part_rows,
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


@dataclasses.dataclass(frozen=True)
class TaskRecord:
    """What a finished task says of itself; JSON in its file."""

    fingerprint: str
    parts: list[int]
    """Rows of each part."""
    rows: int = 0
    """Rows that were read, those that `where` does not want among them."""
    bad: dict[str, int] = dataclasses.field(default_factory=dict)
    """Rows that cannot be used, by kind."""
    bad_files: dict[str, str] = dataclasses.field(default_factory=dict)
    """File -> why it cannot be read, or not to its end."""
    absent: list[str] = dataclasses.field(default_factory=list)
    """Columns that no row had."""
    names: list[str] = dataclasses.field(default_factory=list)
    """Columns that there are."""
    problem: str | None = None
    """Why the source cannot be read at all."""

    @property
    def has_bad(self) -> bool:
        """Whether something was put aside."""
        return bool(self.bad or self.bad_files)


def do(task: Task, folder: Location) -> TaskRecord:
    """Read a task's rows, and write its parts, its bad rows and its record."""
    reader = task.source.reader(task.needed) if isinstance(task.source, RecordSource) else None
    parts, bad_files, problem = _Parts(task, folder), dict[str, str](), None
    with quarantine_writer(bad_rows_file(folder, task.index), task.source.label) as quarantine:
        try:
            if reader is None:
                _copy_own_rows(task, parts, quarantine)
            else:
                bad_files = _copy_records(task, reader, parts, quarantine)
        except S1rayError as error:
            problem = str(error)
        parts.flush()
    record = TaskRecord(
        task.fingerprint,
        parts.rows,
        rows=parts.total + quarantine.counts.total() if reader is None else reader.read_rows,
        bad=dict(quarantine.counts),
        bad_files=bad_files,
        absent=[] if reader is None else sorted(reader.maker.absent),
        names=[] if reader is None else sorted(reader.maker.names),
        problem=problem,
    )
    write_json(record_file(folder, task.index), dataclasses.asdict(record))
    return record


def _copy_own_rows(task: Task, parts: _Parts, quarantine: QuarantineWriter) -> None:
    for place, row in enumerate(itertools.islice(task.source.rows(), task.source.limit), start=1):
        try:
            _check(row)
        except Unusable as error:
            quarantine.add(None, place, dataclasses.replace(error.bad, text=beginning(row.question)))
            continue
        parts.add(row)


def _check(row: Question) -> None:
    """Check a row that another package made.

    Raises:
        Unusable: a field is of another type than it says, or holds what no file can.
    """
    for field, (kind, optional) in _TYPES.items():
        value = getattr(row, field)
        if not isinstance(value, kind) and not (optional and value is None):
            raise Unusable("wrong type", f"{field} is a {type(value).__name__}, not {kind.__name__}")
        if isinstance(value, str):
            sound(value, field)
    if row.pass_rates is not None:
        try:
            from_text(row.pass_rates)
        except ValueError as error:
            raise Unusable("wrong type", f"pass_rates: {error}") from None


_TYPES: dict[str, tuple[type, bool]] = {
    "question": (str, False),
    "solution": (str, True),
    "answer": (str, True),
    "source": (str, False),
    "domain": (str, True),
    "metadata": (str, False),
    "length": (int, True),
    "solved_by": (list, True),
    "pass_rates": (str, True),
}
"""Of each field the type, and whether it may be None."""


def _copy_records(task: Task, reader: Reader, parts: _Parts, quarantine: QuarantineWriter) -> dict[str, str]:
    """Copy the pieces' rows; return the files that cannot be read, and why."""
    bad_files: dict[str, str] = {}
    limit = task.source.limit
    for piece in task.pieces or ():
        try:
            # Closed here, so that a file is not left open until the garbage is collected.
            with contextlib.closing(reader.read(piece)) as items:
                for place, item in items:
                    if isinstance(item, Bad):
                        quarantine.add(piece, place, item)
                        continue
                    parts.add(item)
                    if parts.total == limit:
                        return bad_files
        except BadFile as error:
            bad_files[piece.file.path] = str(error)
            quarantine.add_file(piece, str(error))
    return bad_files


class _Parts:
    """Writes a task's rows as parts of bounded size."""

    def __init__(self, task: Task, folder: Location) -> None:
        self._task, self._folder, self._schema = task, folder, arrow_schema(StagedRow)
        self._held: list[Question] = []
        self._characters = 0
        self.rows: list[int] = []
        self.total = 0

    def add(self, row: Question) -> None:
        self._held.append(row)
        self._characters += len(row.question) + len(row.solution or "") + len(row.metadata)
        self.total += 1
        if len(self._held) >= self._task.part_rows or self._characters >= PART_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        if self._held:
            write_part(self._table(), part_file(self._folder, self._task.index, len(self.rows)))
            self.rows.append(len(self._held))
            self._held, self._characters = [], 0

    def _table(self) -> pa.Table:
        import numpy as np
        import pyarrow as pa

        first = self._task.index * TASK_ROWS + self.total - len(self._held)
        columns = {
            "order": pa.array(np.arange(first, first + len(self._held))),
            "source_index": pa.array(np.full(len(self._held), self._task.source_index)),
        }
        for field in self._schema:
            if field.name not in columns:
                values = [getattr(row, field.name, None) for row in self._held]
                columns[field.name] = pa.array(values, field.type)
        return pa.Table.from_arrays([columns[name] for name in self._schema.names], schema=self._schema)


def part_file(folder: Location, task: int, number: int) -> Location:
    """Where a task's part is."""
    return folder / f"part-{task:06d}-{number:05d}.parquet"


def record_file(folder: Location, task: int) -> Location:
    """Where a finished task's record is."""
    return folder / f"task-{task:06d}.json"


def bad_rows_file(folder: Location, task: int) -> Location:
    """Where a task's bad rows are."""
    return folder / f"bad-{task:06d}.jsonl"


def finished(task: Task, folder: Location) -> TaskRecord | None:
    """The record of a task that an earlier call has finished, and whose files are all there."""
    try:
        record = TaskRecord(**json.loads(record_file(folder, task.index).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    # A source that could not be reached may be there again.
    if record.fingerprint != task.fingerprint or record.problem is not None:
        return None
    if record.has_bad and not bad_rows_file(folder, task.index).exists():
        return None
    parts = [(part_file(folder, task.index, number), rows) for number, rows in enumerate(record.parts)]
    return record if all(is_whole(*part) for part in parts) else None
