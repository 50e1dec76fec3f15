"""The checkpoint folder between two starts of a run: what is whole, what is left over, what Ray Train knows of.

Ray Train keeps a list of its checkpoints (`checkpoint_manager_snapshot.json`) and resumes from the newest on it. A run
that is killed leaves something else behind than that list says: a folder whose upload never ended, or ended before it
was listed, one that was about to be deleted, or the list itself cut off in the middle, which Ray Train takes for a
corrupt run. So before a run goes on, the folders decide: those that are not whole are deleted, and the list is written
anew if it names other ones than the rest.

Whole is a folder in which each worker's list of files is present (`files_<rank>.json`) and every file has the size that
it says.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from s1ray.runs import RunError, write_json

CHECKPOINTS_FOLDER = "checkpoints"
"""In the run folder; Ray Train's folder of the run."""
UNIVERSAL_FOLDER = "universal_checkpoint"
"""In the run folder, while a checkpoint is loaded by another number of workers than wrote it."""
SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Ray Train's list."""
STATE_FILE = "state.json"
"""In a checkpoint: how far the run was, and by how many workers it was written."""
PREFIX = "step_"
"""Checkpoint folders are called by the steps that were finished."""


@dataclasses.dataclass(frozen=True)
class Newest:
    """The checkpoint that a run goes on from."""

    finished_steps: int
    world_size: int
    """Workers that wrote it."""


def folder_name(finished_steps: int) -> str:
    """What a checkpoint's folder is called."""
    return f"{PREFIX}{finished_steps:06d}"


def write_file_list(folder: Path, rank: int, files: list[Path]) -> None:
    """Record the files of one worker in a checkpoint, which proves later that all of them arrived."""
    sizes = {str(file.relative_to(folder)): file.stat().st_size for file in files}
    (folder / f"files_{rank}.json").write_text(json.dumps(sizes), encoding="utf-8")


def is_whole(folder: Path) -> bool:
    """Whether all that the workers wrote into a checkpoint is there."""
    try:
        world_size = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))["world_size"]
        return all(
            (folder / name).stat().st_size == size
            for rank in range(world_size)
            for name, size in json.loads((folder / f"files_{rank}.json").read_text(encoding="utf-8")).items()
        )
    except (OSError, ValueError, KeyError):
        return False


def tidy(folder: Path) -> Newest | None:
    """Make a checkpoint folder fit to go on from; nothing may be writing to it.

    Args:
        folder: Ray Train's folder of the run; it need not exist.

    Returns:
        The checkpoint that the run will go on from, if any.

    Raises:
        RunError: there were checkpoints, and none is whole.
    """
    found = sorted(path for path in folder.glob(f"{PREFIX}*") if path.is_dir())
    whole = [path for path in found if is_whole(path)]
    if found and not whole and _listed(folder / SNAPSHOT):
        raise RunError(
            f"{folder}: of its {len(found)} checkpoint(s) none is whole any more; delete the folder to start the "
            "training again"
        )
    for path in found:
        if path not in whole:
            shutil.rmtree(path)
    if _listed(folder / SNAPSHOT) != {path.name for path in whole}:
        _write_snapshot(folder, whole)
    if not whole:
        return None
    state = json.loads((whole[-1] / STATE_FILE).read_text(encoding="utf-8"))
    return Newest(state["finished_steps"], state["world_size"])


def _listed(snapshot: Path) -> set[str] | None:
    """The checkpoints on Ray Train's list; None where it cannot be read, or does not go on from the last of them."""
    try:
        content = json.loads(snapshot.read_text(encoding="utf-8"))
        names = {str(result["checkpoint_dir_name"]) for result in content["checkpoint_results"]}
        newest = content["latest_checkpoint_result"]
        return names if (newest or {}).get("checkpoint_dir_name") == max(names, default=None) else None
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write_snapshot(folder: Path, whole: list[Path]) -> None:
    """Write Ray Train's list of some checkpoints, oldest first."""
    import ray

    results: list[dict[str, Any]] = []
    for path in whole:
        state = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
        results.append({"version": 0, "checkpoint_dir_name": path.name, "metrics": state["metrics"]})
    # Ray Train keeps the list ordered by score, best last, where it has one.
    ordered = sorted(results, key=lambda result: -result["metrics"]["validation_loss"])
    write_json(
        folder / SNAPSHOT,
        {
            "ray_version": ray.__version__,
            "checkpoint_results": ordered,
            "checkpoint_report_indices": [results.index(result) for result in ordered],
            "latest_checkpoint_result": results[-1] if results else None,
            "pending_training_results": [],
            "pending_validation_specs": [],
            "current_report_index": len(results),
            "validated_checkpoint_dir_names": [],
            "timed_out_validation_checkpoint_dir_names": [],
            "failed_validation_checkpoint_dir_names": [],
        },
    )
