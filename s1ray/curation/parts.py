"""A pass over the rows of a run: one function on every part file, through Ray Data, resumable part by part.

Parts are numbered Parquet files of bounded size. Workers read one, and write one or several of the same number, each
whole or not at all; the driver sees neither, only how many rows there were. Ray starts a worker that died again; a part
over which several died ends the run.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from s1ray.curation.funnel import Rows
from s1ray.logs import heartbeat
from s1ray.manifests import RunError
from s1ray.ray_data import quiet_ray_data, task_options
from s1ray.secrets import redact
from s1ray.storage import TEMPORARY, Location, StorePath, location, readable, writing

if TYPE_CHECKING:
    import pyarrow as pa
    import ray
    from ray.exceptions import RayTaskError

log = logging.getLogger("s1ray")

BLOCKS, BLOCKS_PER_CPU = 256, 8
"""Blocks of Ray Data that a pass over many parts has at least; of each the driver keeps some ten kilobytes."""

TRIES, MAX_TRIES = ".tries", 4
"""Ending of the file beside a part's result that counts how often its work has begun, and how often it may. Ray tries
without end where the system ends a worker for its memory."""
DETAILS = ".error.txt"
"""Ending of the file beside a part's result that says how its work failed."""
KEPT = "what is done is kept, run again to go on"

T = TypeVar("T")
Function = Callable[..., "pa.Table"]
"""From the rows of a part, its name and keyword arguments to the rows of the result."""


def map_parts(
    what: str,
    function: Function,
    parts: Sequence[Location],
    folder: Location,
    **common: object,
) -> list[Location]:
    """Apply a function to every part that has no whole result yet. Ray is connected.

    Args:
        what: is done, for the progress log ("looking at every row").
        function: pure; called with the rows of a part, its file's name, and `common`.
        parts: Parquet files.
        folder: of the results, named as their parts.
        common: keyword arguments of every call; stored once in Ray's object store.

    Returns:
        The files of the results, in the order of the parts.

    Raises:
        RunError: a call raised, or workers died; what is done stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder)
    results = [folder / part.name for part in parts]
    tasks = []
    for part, result in zip(parts, results, strict=True):
        if not is_whole(result):
            result.unlink(missing_ok=True)
            tasks.append({"part": str(part), "result": str(result)})
    if tasks:
        _map(what, function, tasks, common)
        _clear(folder)
    return results


def _map(what: str, function: Function, tasks: Sequence[Mapping[str, str]], common: Mapping[str, object]) -> None:
    import ray

    blocks = max(BLOCKS, BLOCKS_PER_CPU * int(ray.cluster_resources().get("CPU", 0)))
    done = 0
    with quiet_ray_data(), heartbeat(lambda seconds: f"curate: {what}: {done:,} rows in {seconds:.0f} s"):
        shared = ray.put(common)
        rows = ray.data.from_items(tasks, override_num_blocks=min(len(tasks), blocks)).map_batches(
            _apply, fn_kwargs={"function": function, "common": [shared]}, batch_size=1, batch_format="pyarrow"
        )
        try:
            for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
                for task in batch.to_pylist():
                    if task["error"]:
                        raise RunError(f"curate: {what}: {task['error']}; {KEPT}")
                    done += task["rows"]
        except ray.exceptions.RayTaskError as error:
            raise cause_of(error) from error
        except ray.exceptions.RayError as error:
            raise RunError(f"curate: {what}: a worker died ({type(error).__name__}: {error}); {KEPT}") from error


def _clear(folder: Location) -> None:
    """Remove what processes left that were killed or failed."""
    for pattern in (f"*{TRIES}", f"*{DETAILS}", TEMPORARY):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


def _apply(batch: pa.Table, function: Function, common: Sequence[ray.ObjectRef]) -> pa.Table:
    import pyarrow as pa

    counts, errors = [], list[str]()
    for task in batch.to_pylist():
        rows, error = _do(location(task["part"]), location(task["result"]), function, _fetched(common[0]))
        counts.append(rows)
        errors.append(error)
    return pa.table({"rows": pa.array(counts, pa.int64()), "error": pa.array(errors, pa.string())})


def _do(part: Location, result: Location, function: Function, common: Mapping[str, object]) -> tuple[int, str]:
    import pyarrow.parquet as pq

    tries = result.with_suffix(TRIES)
    try:
        if result.exists():
            # Ray does a block again whose worker died.
            count = int(pq.read_metadata(readable(result)).num_rows)
        elif _begin(tries) > MAX_TRIES:
            return 0, f"{MAX_TRIES} workers died over {part}; see that there is memory enough"
        else:
            rows = pq.read_table(readable(part))
            count = len(rows)
            write_part(function(rows, part.name, **common), result)
        tries.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return 0, _failure(error, result)
        return 0, f"{result} cannot be written, as the disk is full; make room there"
    except Exception as error:
        return 0, _failure(error, result)
    return count, ""


def _begin(tries: Location) -> int:
    """Count the beginnings of a part's work."""
    if isinstance(tries, StorePath):
        return tries.write_bytes(b"." * (1 + (tries.stat().st_size if tries.is_file() else 0)))
    with tries.open("ab") as file:
        file.write(b".")
        return file.tell()


def _failure(error: Exception, result: Location) -> str:
    # A worker's standard error reaches the user's terminal; the way there belongs in a file.
    details = result.with_suffix(DETAILS)
    details.write_text(redact(traceback.format_exc()), encoding="utf-8", errors="backslashreplace")
    return f"{type(error).__name__}: {error} (details: {details})"


@lru_cache(maxsize=1)
def _fetched(common: ray.ObjectRef) -> Mapping[str, object]:
    # Once per worker process, not per part.
    import ray

    fetched: Mapping[str, object] = ray.get(common)
    return fetched


def run_tasks(what: str, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], **common: object) -> list[T]:
    """Call a function for each task: on Ray where it is connected, else one after another in this process.

    Args:
        what: is done, for the progress log.
        function: called with the arguments of a task, and `common`.
        tasks: the positional arguments of each call.
        common: keyword arguments of every call; stored once in Ray's object store.

    Returns:
        The results, in the order of the tasks.

    Raises:
        RunError: a worker died.
    """
    if not ray_is_connected():
        return [function(*task, **common) for task in tasks]
    import ray

    remote = ray.remote(**task_options())(function)
    shared = {name: ray.put(value) for name, value in common.items()}
    running, results = [remote.remote(*task, **shared) for task in tasks], list[T]()
    try:
        with heartbeat(lambda seconds: f"curate: {what}: {len(results)} of {len(tasks)} tasks in {seconds:.0f} s"):
            for task_ref in running:
                results.append(ray.get(task_ref))
    except ray.exceptions.RayTaskError as error:
        raise cause_of(error) from error
    except ray.exceptions.RayError as error:
        raise RunError(f"curate: {what}: a worker died ({type(error).__name__}: {error}); run again") from error
    finally:
        for task_ref in running[len(results) :]:
            ray.cancel(task_ref)
    return results


def cause_of(error: RayTaskError) -> Exception:
    """What a task on Ray raised. An OSError (a full disk) keeps its number, which Ray's form of it does not."""
    cause: Exception = error.cause if isinstance(error.cause, OSError) else error.as_instanceof_cause()
    return cause


def ray_is_connected() -> bool:
    """Whether this process is connected to Ray; Ray is not imported for that, which takes seconds."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def write_part(rows: pa.Table, path: Location) -> None:
    """Write a part, whole or not at all; quick to write and read rather than small."""
    import pyarrow.parquet as pq

    with writing(path) as temporary:
        pq.write_table(rows, os.fspath(temporary), compression="lz4", write_statistics=False)


def is_whole(part: Location, rows: int | None = None) -> bool:
    """Whether a part is there and not cut, as a machine's crash may leave it.

    Args:
        part: a Parquet file.
        rows: that it must have. None: any number.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        count = pq.read_metadata(readable(part)).num_rows
    except (FileNotFoundError, pa.ArrowException):
        return False
    return rows is None or count == rows


def read_rows(parts: Sequence[Location], starts: npt.NDArray[np.int64], rows: Rows, columns: Sequence[str]) -> pa.Table:
    """Some columns of some rows.

    Args:
        parts: of all rows.
        starts: position of each part's first row, and the number of rows.
        rows: positions, ascending.
        columns: their names.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    part_of = np.searchsorted(starts, rows, side="right") - 1
    found = [pq.read_schema(readable(parts[0])).empty_table().select(list(columns))]
    for number in np.unique(part_of).tolist():
        inside = rows[part_of == number] - starts[number]
        found.append(pq.read_table(readable(parts[number]), columns=list(columns)).take(pa.array(inside)))
    return pa.concat_tables(found)
