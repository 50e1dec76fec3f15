"""Files that a command writes where the user says: never over what it reads, nor over a run's own files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from s1ray.errors import InputError
from s1ray.runs import RunError, read_manifest


def check_target(
    target: str | os.PathLike[str], reads: Iterable[str | os.PathLike[str]] = (), *, in_runs: bool = False
) -> None:
    """Look whether a file may be written there; writes nothing.

    Links are followed, so that no other name of a file gets past.

    Args:
        target: the file.
        reads: files and folders that the command reads, or that belong to what it reads; nothing is written over or
            into them.
        in_runs: a run folder may get the file.

    Raises:
        InputError: it is one of these, or lies in a run folder.
    """
    path = Path(os.path.realpath(target))
    for source in reads:
        read = Path(os.path.realpath(source))
        if read == path or _is_same(read, path) or (read.is_dir() and read in path.parents):
            raise InputError(f"{target}: would be written over or into {source}, which is read; give another output")
    folder = None if in_runs else _run_folder_of(path)
    if folder is not None:
        raise InputError(f"{target}: lies in the run folder {folder}, whose files are its own; give another output")


def _run_folder_of(path: Path) -> Path | None:
    for folder in path.parents:
        try:
            manifest = read_manifest(folder)
        except RunError:
            continue
        if manifest is not None and "stage" in manifest:
            return folder
    return None


def _is_same(one: Path, other: Path) -> bool:
    """Whether both are there and are one file, by whatever names."""
    try:
        return one.samefile(other)
    except OSError:
        return False
