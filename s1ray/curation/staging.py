"""Staging: every row of every source, in one schema, in numbered Parquet parts, which Ray Data then reads.

    sources -> tasks (pieces of about the same size) -> parts, and what cannot be used beside them

The tasks run on Ray where it is connected, else one after another in this process. Each writes its own parts, and last
of all a record of itself, so a killed run does again what was not finished and nothing else. No row reaches the driver,
but for those of sources that only have `rows`.

A row's `order` is its task's number and its position in the task. It grows with source, file and line; it decides
which of two equal rows stays and in which order the results are. How sources are cut into tasks depends on the files
alone, so neither depends on how many workers there are.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from s1ray.config import ConfigError
from s1ray.curation.parts import cause_of, ray_is_connected
from s1ray.curation.quarantine import collect, excess
from s1ray.curation.sources import RecordSource, Source
from s1ray.curation.tasks import Task, TaskRecord, bad_rows_file, do, finished, part_file
from s1ray.errors import MissingError, S1rayError
from s1ray.logs import heartbeat
from s1ray.manifests import RunError
from s1ray.ray_data import task_options
from s1ray.reading.items import close_names
from s1ray.reading.pieces import PIECE_BYTES, Piece
from s1ray.storage import Location

log = logging.getLogger("s1ray")
PART_ROWS = 4096
"""Rows of a staged part: a block of Ray Data. With every tier of decontamination a worker takes some 340 MB for so
many; for four times as many 590 MB, and as long."""


@dataclasses.dataclass(frozen=True)
class Staged:
    """What staging gives."""

    parts: list[Location]
    """In the order of the rows."""
    read: dict[str, dict[str, Any]]
    """Source -> rows that were read, are staged, are not wanted by `where`, cannot be used (by kind), and bad files."""


def stage(sources: Sequence[Source], folder: Location, quarantine: Location, *, needed: Collection[str] = ()) -> Staged:
    """Write all rows of all sources as numbered parts, and those that cannot be used beside them.

    Args:
        sources: in order.
        folder: of the parts. What another call with the same sources and files has finished there is taken up.
        quarantine: file of what cannot be used (`s1ray.curation.quarantine`).
        needed: fields of the metadata that come along where there are some.

    Raises:
        S1rayError: a source cannot be read, holds something else than its config says, or has too many rows that
            cannot be used. The message has the problems of all sources.
        RunError: a worker died.
    """
    tasks, problems = _tasks(sources, sorted(needed))
    folder.mkdir(parents=True, exist_ok=True)
    done: dict[int, TaskRecord] = {}

    def told(seconds: float) -> str:
        rows = sum(record.rows for record in list(done.values()))
        return f"curate: reading sources, {rows:,} rows, {len(done)} of {len(tasks)} tasks in {seconds:.0f} s"

    with heartbeat(told):
        for index, record in _run(tasks, folder):
            done[index] = record
    pairs = [(task, done[task.index]) for task in tasks]
    aside = collect([bad_rows_file(folder, task.index) for task, record in pairs if record.has_bad], quarantine)
    by_source = [[record for task, record in pairs if task.source_index == index] for index in range(len(sources))]
    problems += [(index, problem) for index, own in enumerate(by_source) for problem in _problems(sources[index], own)]
    if problems:
        raise _error(sorted(problems), f"\n{aside:,} rows and files are in {quarantine}" if aside else "")
    parts = [part_file(folder, task.index, number) for task, record in pairs for number in range(len(record.parts))]
    if not parts:
        why = f"{aside:,} rows and files are in {quarantine}" if aside else "check their `where` and `limit`"
        raise ConfigError(f"sources: none of them has a row that can be used; {why}")
    read = {f"{index} ({sources[index].label})": _counts(own) for index, own in enumerate(by_source)}
    if aside:
        log.warning("curate: %d rows or files cannot be used; %s says which and why", aside, quarantine)
    for source, (name, counts) in zip(sources, read.items(), strict=True):
        # With a limit, rows that were read ahead are among them.
        if (unwanted := counts.get("not wanted")) and source.limit is None:
            log.info("curate: source %s: %d of %d rows do not fulfil its conditions", name, unwanted, counts["read"])
        if not counts["staged"]:
            log.warning("curate: source %s gives no row", name)
    return Staged(parts, read)


def check_sources(sources: Sequence[Source], require: Sequence[str]) -> list[str]:
    """Check every source, and say what each one is, one line per source.

    Raises:
        S1rayError: one cannot be read, or lacks a required field; the message has the problems of all.
    """
    lines, problems, missing = [], [], False
    for index, source in enumerate(sources):
        try:
            lines.append(source.check(require))
        except S1rayError as error:
            problems.append((index, str(error)))
            missing = missing or isinstance(error, MissingError)
    if problems:
        raise _error(problems, f"\nrelative paths start from {Path.cwd()}; --root says otherwise" if missing else "")
    return lines


def _error(problems: Sequence[tuple[int, str]], more: str = "") -> ConfigError:
    lines = [f"sources.{index}: {problem}" for index, problem in problems]
    if len(lines) == 1:
        return ConfigError(lines[0] + more)
    return ConfigError("\n  ".join([f"{len(lines)} problems in the sources:", *lines]) + more)


def _tasks(sources: Sequence[Source], needed: Sequence[str]) -> tuple[list[Task], list[tuple[int, str]]]:
    """The tasks of all sources in order, and why some sources cannot be read."""
    groups: list[tuple[int, Source, tuple[Piece, ...] | None]] = []
    problems = []
    for index, source in enumerate(sources):
        if not isinstance(source, RecordSource):
            groups.append((index, source, None))
            continue
        try:
            pieces = source.pieces()
        except S1rayError as error:
            problems.append((index, str(error)))
            continue
        # A limit counts rows from the first on, so one task reads them.
        whole = [tuple(pieces)] if source.limit is not None else _grouped(pieces)
        groups += [(index, source, group) for group in whole]
    tasks = [Task(n, *group, tuple(needed), PART_ROWS) for n, group in enumerate(groups)]
    return tasks, problems


def _grouped(pieces: Sequence[Piece]) -> Iterator[tuple[Piece, ...]]:
    """Consecutive pieces that together are about as large as one: small files share a task."""
    group: list[Piece] = []
    for piece in pieces:
        if group and sum(each.weight for each in group) + piece.weight > PIECE_BYTES:
            yield tuple(group)
            group = []
        group.append(piece)
    if group:
        yield tuple(group)


def _run(tasks: Sequence[Task], folder: Location) -> Iterator[tuple[int, TaskRecord]]:
    """Do what is not done; the records of all tasks, as they come."""
    pending = []
    for task in tasks:
        record = finished(task, folder)
        if record is None:
            pending.append(task)
        else:
            yield task.index, record
    remote = [task for task in pending if task.pieces is not None]
    if remote and ray_is_connected():
        yield from _on_ray(remote, folder, [task for task in pending if task.pieces is None])
        return
    for task in pending:
        yield task.index, do(task, folder)


def _on_ray(tasks: Sequence[Task], folder: Location, local: Sequence[Task]) -> Iterator[tuple[int, TaskRecord]]:
    """Run tasks on Ray, and those that only this process can do beside them."""
    import ray

    remote = ray.remote(**task_options())(do)
    running = {remote.remote(task, folder): task.index for task in tasks}
    try:
        for task in local:
            yield task.index, do(task, folder)
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            yield running.pop(done), ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise cause_of(error) from error
    except ray.exceptions.RayError as error:
        raise RunError(
            f"curate: a worker that read sources died ({type(error).__name__}: {error}); what is done is kept, run "
            "again to go on from there"
        ) from error
    finally:
        for task_ref in running:
            ray.cancel(task_ref)


def _problems(source: Source, records: Sequence[TaskRecord]) -> list[str]:
    """Why a source's rows cannot be used for a run."""
    problems = [record.problem for record in records if record.problem is not None]
    if getattr(source, "on_bad_file", "fail") == "fail":
        advice = "mend or remove it, or set `on_bad_file: skip` to go on with what could be read"
        bad_files = {file: why for record in records for file, why in record.bad_files.items()}
        problems += [f"{file}: {why}; {advice}" for file, why in bad_files.items()]
    rows, bad = sum(record.rows for record in records), _bad(records)
    names = {name for record in records for name in record.names}
    absent = set.intersection(*(set(record.absent) for record in records if record.names)) if names else set()
    # A limit may end the reading before a column comes.
    if rows and not source.limit:
        problems += [close_names(name, names) for name in sorted(absent)]
    if (much := excess(bad, rows, source.max_bad_share)) is not None and not (absent and not source.limit):
        problems.append(str(much))
    return problems


def _bad(records: Sequence[TaskRecord]) -> Counter[str]:
    return sum((Counter(record.bad) for record in records), Counter[str]())


def _counts(records: Sequence[TaskRecord]) -> dict[str, Any]:
    rows, staged, bad = sum(r.rows for r in records), sum(sum(r.parts) for r in records), _bad(records)
    counts: dict[str, Any] = {"read": rows, "staged": staged, "quarantined": dict(sorted(bad.items()))}
    if (not_wanted := rows - staged - bad.total()) > 0:
        counts["not wanted"] = not_wanted
    if bad_files := sorted({file for record in records for file in record.bad_files}):
        counts["bad files"] = bad_files
    return counts
