"""The checkpoint folder between two starts of a run: which checkpoints are whole, and which of them Ray Train knows.

Ray Train keeps a list of its checkpoints (`checkpoint_manager_snapshot.json`) and resumes from the newest on it. After
a kill, folders and list may differ: a folder's upload never ended, or ended before the folder was listed, or the folder
was about to be deleted, or the list itself was cut off while it was written, which Ray Train takes for a corrupt run.
So before a run resumes, the folders decide: those that are not whole are deleted, and if the list differs from the
rest, it is rewritten.

A folder is whole if each worker's list of files is present (`files_<rank>.json`) and every file has the listed size.
What cannot be read, as the storage does not answer, is neither whole nor not: nothing is deleted then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from s1ray.manifests import RunError
from s1ray.storage import Location, entries, remove, write_json

CHECKPOINTS_FOLDER = "checkpoints"
"""In the run folder; Ray Train's folder of the run."""
UNIVERSAL_FOLDER = "universal_checkpoint"
"""In the run folder, while a checkpoint is loaded by another number of workers than wrote it."""
RAY_TRAIN_LIST = "checkpoint_manager_snapshot.json"
"""Ray Train's list of its checkpoints."""
STATE_FILE = "state.json"
"""In a checkpoint: the steps that were finished, and the number of workers that wrote it."""
PREFIX = "step_"
"""Checkpoint folders are named after the number of finished steps."""


class CheckpointMetrics(TypedDict):
    """What Ray Train is told of a checkpoint."""

    step: int
    validation_loss: float
    """Its score; `manager.NOT_MEASURED` without a measurement."""


@dataclasses.dataclass(frozen=True)
class Newest:
    """The checkpoint that a run resumes from."""

    finished_steps: int
    world_size: int
    """Workers that wrote it."""


def folder_name(finished_steps: int) -> str:
    """The name of a checkpoint's folder."""
    return f"{PREFIX}{finished_steps:06d}"


def write_file_list(folder: Path, rank: int, files: list[Path]) -> None:
    """Record the files of one worker in a checkpoint, which later proves that all of them arrived."""
    sizes = {str(file.relative_to(folder)): file.stat().st_size for file in files}
    (folder / f"files_{rank}.json").write_text(json.dumps(sizes), encoding="utf-8")


def is_whole(folder: Location) -> bool:
    """Whether a checkpoint has everything that the workers wrote.

    Raises:
        OSError: it cannot be read, which says nothing about it.
    """
    try:
        world_size = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))["world_size"]
        return all(
            (folder / name).stat().st_size == size
            for rank in range(world_size)
            for name, size in json.loads((folder / f"files_{rank}.json").read_text(encoding="utf-8")).items()
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError):
        return False


def newest(folder: Location) -> Newest | None:
    """The newest whole checkpoint in a folder, if any; changes nothing.

    Raises:
        RunError: the folder cannot be read.
    """
    with _reading(folder):
        whole = [path for path in _checkpoints(folder) if is_whole(path)]
    return _newest(whole)


def repair(folder: Location) -> Newest | None:
    """Bring a checkpoint folder into a state to resume from; nothing else may be writing to it.

    Args:
        folder: Ray Train's folder of the run; it may not exist yet.

    Returns:
        The checkpoint that the run will resume from, if any.

    Raises:
        RunError: there were checkpoints, and none is whole; or the folder cannot be read.
    """
    with _reading(folder):
        found = _checkpoints(folder)
        whole = [path for path in found if is_whole(path)]
        listed = _listed(folder / RAY_TRAIN_LIST)
    if found and not whole and listed != set():
        raise RunError(
            f"{folder}: none of its {len(found)} checkpoint(s) is whole any more; delete the folder to start the "
            "training again"
        )
    for path in found:
        if path not in whole:
            remove(path)
    if listed != {path.name for path in whole}:
        _write_list(folder, whole)
    return _newest(whole)


@contextlib.contextmanager
def _reading(folder: Location) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"{folder}: its checkpoints cannot be read, and all are kept: {error}; run again") from error


def _checkpoints(folder: Location) -> list[Location]:
    """The folders of checkpoints, oldest first."""
    return [path for path in entries(folder) if path.name.startswith(PREFIX) and path.is_dir()]


def _state(checkpoint: Location) -> dict[str, Any]:
    with _reading(checkpoint.parent):
        state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
        return state


def _newest(whole: list[Location]) -> Newest | None:
    if not whole:
        return None
    state = _state(whole[-1])
    return Newest(state["finished_steps"], state["world_size"])


def _listed(file: Location) -> set[str] | None:
    """The checkpoints on Ray Train's list; None where it is damaged, or does not resume from the last of them.

    Raises:
        OSError: it cannot be read.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        names = {str(result["checkpoint_dir_name"]) for result in content["checkpoint_results"]}
        newest = content["latest_checkpoint_result"]
        return names if (newest or {}).get("checkpoint_dir_name") == max(names, default=None) else None
    except FileNotFoundError:
        return set()
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _write_list(folder: Location, whole: list[Location]) -> None:
    """Write Ray Train's list of some checkpoints, oldest first."""
    import ray

    metrics = [_state(path)["metrics"] for path in whole]
    results = [
        {"version": 0, "checkpoint_dir_name": path.name, "metrics": reported}
        for path, reported in zip(whole, metrics, strict=True)
    ]
    # Ray Train keeps scored checkpoints in the order of their scores, the best last.
    order = sorted(range(len(whole)), key=lambda index: -metrics[index]["validation_loss"])
    write_json(
        folder / RAY_TRAIN_LIST,
        {
            "ray_version": ray.__version__,
            "checkpoint_results": [results[index] for index in order],
            "checkpoint_report_indices": order,
            "latest_checkpoint_result": results[-1] if results else None,
            "pending_training_results": [],
            "pending_validation_specs": [],
            "current_report_index": len(results),
            "validated_checkpoint_dir_names": [],
            "timed_out_validation_checkpoint_dir_names": [],
            "failed_validation_checkpoint_dir_names": [],
        },
    )
