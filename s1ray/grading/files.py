"""Grades a file: the same rows with a verdict, what was read off, and the rule that decided (`s1ray grade`).

    summary = grade_file(Job(Path("answers.jsonl"), Path("answers.graded.jsonl")), workers=8)

The file is read in parts (`rows.py`). Each part's result lies beside the output until all are there, whole or not at
all, so that a killed run goes on where it was; then they become the output, in one step. With a Ray cluster the parts
are spread over it by Ray Data; source and output must be on storage that every node sees.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import glob
import hashlib
import json
import logging
import os
import shutil
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s1ray import __version__
from s1ray.errors import InputError, S1rayError
from s1ray.grading.grade import Grade, find_grader
from s1ray.grading.many import Answer, Pool
from s1ray.grading.rows import Job, Record, check, part_count, read_part
from s1ray.grading.sinks import concatenate, open_sink
from s1ray.grading.summary import Summary
from s1ray.logs import heartbeat, without_lines
from s1ray.manifests import RunError
from s1ray.runs import check_folder
from s1ray.storage import remove, write_json, writing
from s1ray.targets import check_target

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("s1ray")

NOT_ENDED = "thinking not ended"
"""The rule where a response never ended its thinking, so that it has no answer."""


def output_of(source: Path) -> Path:
    """Where a file's grades go if nothing else is said: a.jsonl.gz becomes a.graded.jsonl.gz."""
    ending = "".join(source.suffixes[-2:]) if source.suffix.lower() == ".gz" else source.suffix
    return source.with_name(source.name.removesuffix(ending) + ".graded" + ending)


def quarantine_of(output: Path) -> Path:
    """Where rows go that cannot be graded."""
    return output.with_name(output.name + ".quarantine.jsonl")


def grade_file(job: Job, workers: int | None = None, *, on_ray: bool = False) -> Summary:
    """Grade a file's rows into another file, and those that cannot be graded into a third.

    Args:
        job: the file, its columns, and where the result goes.
        workers: processes; on Ray, actors. None: one for each core.
        on_ray: spread the parts over the cluster that is connected.

    Raises:
        MissingError: there is no such file.
        InputError: it cannot be read, lacks a column, has no row that can be graded, there is no such grader, or the
            output would be written over the file or into a run folder.
        RunError: the output cannot be written there, or another process is at it.
        GradingError: a worker does not start, or the grader fails in one.
    """
    find_grader(job.grader)
    check(job)
    job = dataclasses.replace(job, source=job.source.absolute(), output=job.output.absolute())
    if job.output.is_dir():
        raise RunError(f"{job.output}: is a folder; give the file to write")
    # Beside its source the result has a name of its own, also in a run folder.
    for target in (job.output, quarantine_of(job.output)):
        check_target(target, [job.source], in_runs=job.output == output_of(job.source))
    check_folder(job.output.parent)
    with _room_for(job.output), _parts_folder(job) as parts:
        missing = [index for index in range(part_count(job.source)) if not parts.is_done(index)]
        if on_ray:
            _on_cluster(parts, missing, workers)
        else:
            _here(parts, missing, workers or len(os.sched_getaffinity(0)))
        summary = parts.merge()
    return summary


@contextlib.contextmanager
def _room_for(output: Path) -> Iterator[None]:
    """Turns what a full or failing disk raises into words."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS):
            raise
        raise RunError(
            f"{output}: cannot be written: {os.strerror(error.errno)}; what is done is kept: make room and run again"
        ) from error


@dataclasses.dataclass(frozen=True)
class _Parts:
    """The parts of a job, and the folder of their results."""

    job: Job
    folder: Path

    def rows(self, index: int) -> Path:
        return self.folder / f"{index:06d}.rows"

    def quarantine(self, index: int) -> Path:
        return self.folder / f"{index:06d}.quarantine"

    def summary(self, index: int) -> Path:
        """Written last: where it is, the part is done."""
        return self.folder / f"{index:06d}.json"

    def is_done(self, index: int) -> bool:
        return self.summary(index).exists()

    def grade(self, index: int, pool: Pool, seen: Counter[str]) -> None:
        """Grade a part; `seen["rows"]` counts its rows as they come."""
        summary, waiting = Summary(), deque[Record]()

        def answers() -> Iterator[Answer]:
            for record in read_part(self.job, index):
                waiting.append(record)
                summary.lines = record.number
                if record.answer is not None:
                    yield record.answer

        with (
            writing(self.rows(index)) as rows,
            writing(self.quarantine(index)) as bad,
            bad.open("w", encoding="utf-8") as bad_stream,
            open_sink(self.job, rows) as sink,
        ):

            def set_aside(record: Record, problem: str | None) -> None:
                if problem is None:
                    return
                summary.quarantined += 1
                if len(summary.problems) < 3:
                    summary.problems.append(f"{record.number}: {problem}")
                print(json.dumps({"line": record.number, "problem": problem}), file=bad_stream)

            for found in pool.map(answers()):
                while (record := waiting.popleft()).answer is None:
                    set_aside(record, record.problem)
                seen["rows"] += 1
                if isinstance(found, str):
                    set_aside(record, found)
                    continue
                grade = (
                    Grade("unparsable", None, NOT_ENDED) if record.unfinished and found.verdict != "no gold" else found
                )
                sink.add(record, grade)
                summary.rows += 1
                summary.verdicts[grade.verdict] += 1
                summary.rules[grade.graded_by, grade.verdict] += 1
                summary.delimited += record.delimited
            for record in waiting:
                set_aside(record, record.problem)
        write_json(self.summary(index), summary.to_json())

    def merge(self) -> Summary:
        """All parts' results as one file, in order."""
        total = Summary()
        for leftover in self.job.output.parent.glob(f".{glob.escape(self.job.output.name)}.*.tmp"):
            # Of a process that was killed right here; this one has the lock.
            remove(leftover)
        count = part_count(self.job.source)
        with contextlib.ExitStack() as stack:
            rows = stack.enter_context(writing(self.job.output))
            concatenate([self.rows(index) for index in range(count)], rows, self.job)
            bad = stack.enter_context(writing(quarantine_of(self.job.output)))
            with bad.open("w", encoding="utf-8") as stream:
                for index in range(count):
                    for line in self.quarantine(index).read_text(encoding="utf-8").splitlines():
                        entry = json.loads(line)
                        place = {"file": str(self.job.source), "line": total.lines + entry["line"]}
                        print(json.dumps(place | {"problem": entry["problem"]}, ensure_ascii=False), file=stream)
                    total.add(Summary.from_json(json.loads(self.summary(index).read_text())), self.job.source)
            if total.quarantined and not total.rows:
                raise InputError(f"no row can be graded; {'; '.join(total.problems)}")
        if not total.quarantined:
            remove(quarantine_of(self.job.output))
        return total


@contextlib.contextmanager
def _parts_folder(job: Job) -> Iterator[_Parts]:
    """The folder of the parts' results beside the output: kept until all is done, and begun anew for another job."""
    folder = job.output.with_name(f".{job.output.name}.parts")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be created: {error.strerror}; choose another output") from None
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{job.output}: another process is writing it; wait for it, or choose another output"
            ) from None
        except OSError:
            log.debug("grade: %s cannot be locked", folder)
        fingerprint, known = _fingerprint(job), folder / "job"
        if not known.exists() or known.read_text() != fingerprint:
            for entry in folder.iterdir():
                if entry.name != "lock":
                    remove(entry)
            known.write_text(fingerprint)
        yield _Parts(job, folder)
        shutil.rmtree(folder)


def _fingerprint(job: Job) -> str:
    """What decides a part's result: an unfinished job is taken up only if all of it is as it was."""
    there = job.source.stat()
    decisive = [repr(job), there.st_size, there.st_mtime_ns, __version__]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def _here(parts: _Parts, missing: Sequence[int], workers: int) -> None:
    seen, total = Counter[str](), part_count(parts.job.source)

    def line(seconds: float) -> str:
        done = total - len(missing) + seen["parts"]
        return f"grade: {seen['rows']:,} rows in {seconds:.0f} s; {done} of {total} parts are done"

    with heartbeat(line), Pool(workers, parts.job.grader) as pool:
        for index in missing:
            parts.grade(index, pool, seen)
            seen["parts"] += 1


def _on_cluster(parts: _Parts, missing: Sequence[int], workers: int | None) -> None:
    import ray

    from s1ray.ray_data import RESTARTS, quiet_ray_data

    if not missing:
        return
    done, total = 0, len(missing)
    actors = min(total, workers or int(ray.cluster_resources().get("CPU", 1)))
    with (
        quiet_ray_data(),
        without_lines(RESTARTS),
        heartbeat(lambda seconds: f"grade: {done} of {total} parts after {seconds:.0f} s on {actors} actors"),
    ):
        results = ray.data.from_items([{"part": index} for index in missing], override_num_blocks=total).map_batches(
            _Grading,
            fn_constructor_args=(parts,),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
            num_cpus=1,
        )
        batches = iter(results.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0))
        try:
            with contextlib.closing(batches):
                for batch in batches:
                    for problem in batch.column("problem").to_pylist():
                        if problem is not None:
                            raise RunError(f"{problem}; what is done is kept: run again to go on")
                        done += 1
        except ray.exceptions.RayError as error:
            raise RunError(
                f"{parts.job.source}: {type(error).__name__}: {error}; what is done is kept: run again to go on"
            ) from error


class _Grading:
    """The actor: grades one part a call, in its own process."""

    def __init__(self, parts: _Parts) -> None:
        self._parts = parts
        self._pool = Pool(1, parts.job.grader)

    def __call__(self, batch: pa.Table) -> pa.Table:
        import pyarrow as pa

        problems = [self._do(index) for index in batch.column("part").to_pylist()]
        return pa.table({"problem": pa.array(problems, pa.string())})

    def _do(self, index: int) -> str | None:
        # After the loss of an actor Ray runs its tasks again, also those that had just been written.
        if self._parts.is_done(index):
            return None
        try:
            self._parts.grade(index, self._pool, Counter())
        except S1rayError as error:
            return str(error)
        except Exception as error:
            # With its traceback it would reach the user wrapped in Ray's and Ray Data's own.
            log.exception("grade: part %d failed", index)
            return f"{self._parts.job.source}: part {index}: {type(error).__name__}: {error}"
        return None
