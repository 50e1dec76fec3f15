"""Files that a command writes where the user says: never over what it reads, nor over a run's own files."""

from __future__ import annotations

import os
from collections.abc import Iterable

from s1ray.errors import InputError
from s1ray.manifests import RunError, read_manifest
from s1ray.runs import check_folder
from s1ray.storage import AnyPath, Location, StorePath, is_dir, location, real_place

PAGES = (".html", ".htm")
"""Endings of a page's name."""
MOST_BYTES = 120
"""Of a page's name: those of the pictures beside it are longer, and a file system takes 255."""


def check_target(target: AnyPath, reads: Iterable[AnyPath] = (), *, in_runs: bool = False) -> None:
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
    path = real_place(target)
    for source in reads:
        read = real_place(source)
        if read == path or _is_same(read, path) or (read.is_dir() and read in path.parents):
            raise InputError(f"{target}: would be written over or into {source}, which is read; give another output")
    folder = None if in_runs else _run_folder_of(path)
    if folder is not None:
        raise InputError(f"{target}: lies in the run folder {folder}, whose files are its own; give another output")


def check_page(target: AnyPath, runs: Iterable[AnyPath]) -> None:
    """Look whether a page may be written there, beside the other files of a run as well; writes nothing.

    Args:
        target: the page.
        runs: the run folders that it is made from. Nothing of theirs is written over but a page.

    Raises:
        InputError: the name is no page's, or the file of a run has it.
        RunError: a folder is there, or the folder around it is none to write to.
    """
    path = location(target)
    if "\0" in str(path) or len(os.fsencode(path.name)) > MOST_BYTES:
        raise InputError(f"{str(target)[:80]!r}...: is no name of a file; give one of at most {MOST_BYTES} bytes")
    if is_dir(path):
        raise RunError(f"{target}: is a folder; give the HTML file to write")
    if any(name.suffix.lower() not in PAGES for name in (path, real_place(path))):
        raise InputError(f"{target}: a page is written there, so its name must end in {PAGES[0]}")
    check_folder(path.absolute().parent)
    files = [file for run in runs for file in location(run).glob("*") if file.suffix.lower() not in PAGES]
    check_target(target, files, in_runs=True)


def _run_folder_of(path: Location) -> Location | None:
    for folder in path.parents:
        try:
            manifest = read_manifest(folder)
        except RunError:
            continue
        if manifest is not None and "stage" in manifest:
            return folder
    return None


def _is_same(one: Location, other: Location) -> bool:
    """Whether both are there and are one file, by whatever names."""
    if isinstance(one, StorePath) or isinstance(other, StorePath):
        return one == other
    try:
        return one.samefile(other)
    except OSError:
        return False
