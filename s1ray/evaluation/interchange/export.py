"""Writes eval runs in the log format of another tool.

export(["runs/miniature/eval"], "inspect", "logs")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s1ray.errors import InputError
from s1ray.evaluation.interchange import inspect_ai, lm_eval
from s1ray.evaluation.interchange.measured import measurements
from s1ray.evaluation.loading import load_all_results
from s1ray.runs import check_folder
from s1ray.storage import AnyPath, Location, location
from s1ray.targets import check_target

KINDS = {"inspect": inspect_ai.write, "lm-eval": lm_eval.write}


@dataclass(frozen=True)
class Exported:
    """What was written."""

    files: list[Location]
    private: list[str]
    """Benchmarks whose texts were left out, since they are not to be published."""


def export(runs: Sequence[AnyPath], kind: str, folder: AnyPath) -> Exported:
    """Write the logs: one for each benchmark, model and arm.

    Args:
        runs: run folders of `s1ray eval`.
        kind: "inspect" or "lm-eval".
        folder: gets the files; those of the same names are replaced.

    Raises:
        InputError: there is no such format, or the folder is not one to write to.
        RunError: a run cannot be read.
    """
    if kind not in KINDS:
        raise InputError(f"--as {kind}: unknown format; the formats are {', '.join(KINDS)}")
    folder = location(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a folder for the logs")
    check_folder(folder.absolute())
    check_target(folder / "log", runs)
    found = load_all_results(runs)
    folder.mkdir(parents=True, exist_ok=True)
    files = [path for measurement in measurements(found) for path in KINDS[kind](measurement, folder)]
    return Exported(files, [results.benchmark for results in found if results.private_text])
