"""Long work on many rows that a killed job takes up where it was: written in shards, each whole or not at all.

Rows are cut into shards in a fixed order. A shard's key is the SHA-256 of its rows' ids and of everything else that
decides its result (the `fingerprint`), and its result is one Parquet file of that name. A job that is started again
finds the files that are there, does the rest, and ends with the same table: no row is lost, and none is done twice. A
changed config changes every key, so results of another config are never mixed in.

The work itself runs in an actor pool of Ray Data, one shard a call; the actors write the files, so the folder must be
on storage that every node sees.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypedDict

from s1ray.errors import UnreachableError
from s1ray.logs import heartbeat, without_lines
from s1ray.runs import RunError
from s1ray.schemas import write_table

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("s1ray")
HOPELESS = 16
"""Rows of a shard from which on it ends the run if all of them failed: a wrong key, an empty account, a dead server."""
RESTARTS = "has constructor arguments in the object store and max_restarts > 0"
"""What Ray prints about every actor of Ray Data; harmless, because the driver holds the arguments."""
PARTIAL = ".partial"
"""Ending of a shard's result that still has failed rows; those alone are done again."""


class ShardWorker(Protocol):
    """What runs in an actor: built once (an engine, a client), called with one shard's rows at a time."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The results of a shard, in a schema that does not depend on the rows."""

    def close(self) -> None:
        """Release what the worker holds."""


def shard_key(ids: list[str], fingerprint: Mapping[str, object]) -> str:
    """The name of a shard's result, 32 hex digits."""
    content = json.dumps([fingerprint, ids], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def map_shards(
    rows: pa.Table,
    folder: str | os.PathLike[str],
    make_worker: Callable[[], ShardWorker],
    *,
    fingerprint: Mapping[str, object],
    shard_rows: int,
    actors: int = 1,
    actor_options: Mapping[str, object] | None = None,
    what: str = "rows",
) -> list[Path]:
    """Run a worker over all rows, in shards, resuming from the shards that `folder` already holds.

    Args:
        rows: a table with a unique column "id"; its order decides the shards.
        folder: where the shards' files are.
        make_worker: makes the worker, in the actor; must pickle.
        fingerprint: what decides the results besides the rows; must be JSON.
        shard_rows: rows a shard.
        actors: workers side by side.
        actor_options: Ray options of an actor (`num_cpus`, `num_gpus`, ...).
        what: what a row is, for the progress log.

    Returns:
        The files of all shards, in the order of the rows.

    Raises:
        RunError: a worker raised or died for good; the shards that are done stay.
    """
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    shards = [rows.slice(start, shard_rows) for start in range(0, len(rows), shard_rows)]
    files = [folder / f"{shard_key(shard.column('id').to_pylist(), fingerprint)}.parquet" for shard in shards]
    pending = [(shard, file) for shard, file in zip(shards, files, strict=True) if not file.exists()]
    if len(pending) < len(shards):
        log.info("%s: %d of %d shards are done already", what, len(shards) - len(pending), len(shards))
    if pending:
        _run(pending, folder, make_worker, actors, dict(actor_options or {}), what)
    return files


def check_failures(files: Sequence[Path], max_failed_share: float, what: str) -> None:
    """Fail where too many rows have an `error`; the next run does those rows again, and no others.

    Args:
        files: what `map_shards` gave; their tables have a column "error".
        max_failed_share: share of rows that may have one.
        what: what a row is, for the message.

    Raises:
        UnreachableError: there are more.
    """
    import pyarrow.parquet as pq

    errors = {file: pq.read_table(file, columns=["error"]).column("error").drop_null().to_pylist() for file in files}
    rows, failed = sum(pq.read_metadata(file).num_rows for file in files), sum(map(len, errors.values()))
    if failed <= max_failed_share * rows:
        return
    for file in files:
        if errors[file]:
            os.replace(file, file.with_suffix(PARTIAL))
    raise UnreachableError(
        f"{what}: {failed} of {rows} requests failed, more than max_failed_share ({max_failed_share:g}) allows; the "
        f"first: {next(filter(None, errors.values()))[0]}. What came is kept: run again to ask for the rest"
    )


def _run(
    pending: list[tuple[pa.Table, Path]],
    folder: Path,
    make_worker: Callable[[], ShardWorker],
    actors: int,
    actor_options: Mapping[str, object],
    what: str,
) -> None:
    import ray

    inputs = folder / "inputs"
    tasks: list[_Task] = []
    for shard, file in pending:
        # Beside the results rather than in the object store: a shard that waits must not hold memory.
        write_table(shard, inputs / file.name)
        tasks.append({"input": str(inputs / file.name), "output": str(file), "rows": len(shard)})
    options = {"num_cpus": 1, **actor_options}
    done, total = 0, sum(len(shard) for shard, _ in pending)
    with (
        quiet_ray_data(),
        without_lines(RESTARTS),
        heartbeat(lambda seconds: f"{what}: {done:,} of {total:,} after {seconds:.0f} s"),
    ):
        results = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
            _Shards,
            fn_constructor_args=(make_worker,),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(tasks)), max_tasks_in_flight_per_actor=2),
            **options,
        )
        batches = iter(results.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0))
        try:
            # Closed, the iterator stops the actors; left to the garbage collector, they would write on after a failure.
            with contextlib.closing(batches):
                for batch in batches:
                    for task in batch.to_pylist():
                        if task["error"] is not None:
                            raise _failed(what, done, total, task["error"], folder)
                        done += task["rows"]
        except ray.exceptions.RayError as error:
            raise _failed(what, done, total, f"{type(error).__name__}: {error}", folder) from error
    shutil.rmtree(inputs)


class _Task(TypedDict):
    """One shard to do: a row of the data set that Ray Data maps over."""

    input: str
    output: str
    rows: int


def _failed(what: str, done: int, total: int, problem: str, folder: Path) -> RunError:
    return RunError(
        f"{what}: a worker failed after {done} of {total}: {problem}; what is done is kept in {folder}, "
        "run again to go on from there"
    )


class _Shards:
    """The actor: reads a shard, works, writes the result whole.

    An exception comes back as text: raised, it would reach the user wrapped in Ray's and Ray Data's own.
    """

    def __init__(self, make_worker: Callable[[], ShardWorker]):
        self._make_worker = make_worker
        self._worker: ShardWorker | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        import pyarrow as pa

        done = [{"rows": task["rows"], "error": self._do(task)} for task in batch.to_pylist()]
        return pa.Table.from_pylist(done, schema=pa.schema([("rows", pa.int64()), ("error", pa.string())]))

    def __del__(self) -> None:
        # Ray Data drops its reference when the actor is done; an engine's processes must not outlive it.
        if self._worker is not None:
            self._worker.close()

    def _do(self, task: _Task) -> str | None:
        import pyarrow.parquet as pq

        # After the loss of an actor Ray runs its tasks again, also those that had just been written.
        if Path(task["output"]).exists():
            return None
        try:
            if self._worker is None:
                self._worker = self._make_worker()
            rows, partial = pq.read_table(task["input"]), Path(task["output"]).with_suffix(PARTIAL)
            earlier = pq.read_table(partial) if partial.exists() else None
            result = _complete(rows, earlier, self._worker)
            if (problem := _hopeless(result)) is not None:
                return problem
            write_table(result, task["output"])
            partial.unlink(missing_ok=True)
        except Exception as error:
            # A worker's standard error reaches the user's terminal; the way there belongs in a file.
            details = Path(task["output"]).with_suffix(".error.txt")
            details.write_text(traceback.format_exc(), encoding="utf-8")
            return f"{type(error).__name__}: {error} (details: {details})"
        return None


def _complete(rows: pa.Table, earlier: pa.Table | None, worker: ShardWorker) -> pa.Table:
    """A worker's result for rows; what it had before stays but for rows with an error."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if earlier is None:
        return worker(rows)
    failed = earlier.filter(pc.is_valid(earlier.column("error"))).column("id").unique()
    again = worker(rows.filter(pc.is_in(rows.column("id"), failed)))
    result = pa.concat_tables([earlier.filter(pc.invert(pc.is_in(earlier.column("id"), failed))), again])
    place = {row_id: place for place, row_id in enumerate(rows.column("id").to_pylist())}
    places = [place[row_id] for row_id in result.column("id").to_pylist()]
    return result.take(sorted(range(len(places)), key=places.__getitem__))


def _hopeless(result: pa.Table) -> str | None:
    """Why there is no use in going on: every request of a shard failed."""
    if "error" not in result.column_names or len(result) < HOPELESS or result.column("error").null_count:
        return None
    return f"all {len(result)} requests of a shard failed; the first: {result.column('error')[0].as_py()}"


@contextlib.contextmanager
def quiet_ray_data() -> Iterator[None]:
    """Ray Data as a stage uses it: without its progress bars and notes, and no limit on the time between two blocks."""
    import ray

    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    settings = {
        "enable_progress_bars": False,
        # A block that thinks for half an hour is not stuck.
        "execution_no_progress_timeout_s": -1,
        # The second reader starts an actor per file, up to 32, to read footers; our own parts are few and alike.
        "use_datasource_v2": False,
    }
    before, level = {name: getattr(context, name) for name in settings}, logger.level
    try:
        logger.setLevel(logging.ERROR)
        for name, value in settings.items():
            setattr(context, name, value)
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)
