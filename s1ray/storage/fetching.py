"""What lies in a store, as files of this machine: fetched once, whole, and shared by all of its processes.

Libraries read models from folders, and map data into memory. The cache is `s1ray/fetched` in the user's cache folder
(`XDG_CACHE_HOME`), for that user alone: the store may give it to nobody else. What is there is named after the names,
sizes and times of the objects that it is of, so a model that was written anew is fetched anew. Nothing is ever deleted
from it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

from s1ray.errors import InputError, MissingError
from s1ray.storage.addresses import is_address, location
from s1ray.storage.files import download, remove
from s1ray.storage.paths import AnyPath, StoreError, StorePath

TRIES = 3
"""How often a model is fetched that changes meanwhile."""


def local_model(name: str) -> str:
    """A model's folder on this machine where it lies in a store; any other name as it is.

    Raises:
        MissingError: nothing is there.
        InputError: it changes while it is fetched, or there is no room.
    """
    return str(local_copy(name)) if is_address(name) else name


def local_copy(path: AnyPath) -> Path:
    """A file or folder of this machine as it is, and one of a store as a copy.

    Raises:
        MissingError: nothing is there.
        InputError: it changes while it is fetched, or there is no room.
        StoreError: the store does not give it.
    """
    source = location(path)
    if not isinstance(source, StorePath):
        return source
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "s1ray" / "fetched"
    for _ in range(TRIES):
        about = _about(source)
        folder = cache / f"{source.name}-{hashlib.sha256(repr((str(source), about)).encode()).hexdigest()[:16]}"
        if folder.exists():
            return folder
        try:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            with folder.with_name(f"{folder.name}.lock").open("a") as lock:
                # The others of this machine wait here, and find it.
                fcntl.flock(lock, fcntl.LOCK_EX)
                if folder.exists() or _fetch(source, about, folder):
                    return folder
        except FileNotFoundError:
            continue  # An object went meanwhile.
        except StoreError:
            raise
        except OSError as error:
            raise InputError(
                f"{source}: cannot be fetched to {folder}: {error}; make room there, or set XDG_CACHE_HOME"
            ) from None
    raise InputError(f"{source}: changes while it is fetched; wait until it is written whole")


def _about(source: StorePath) -> list[tuple[str, int, float]]:
    if source.is_file():
        return [("", *source.stat())]
    files = [path for path in source.rglob("*") if path.is_file()]
    if not files:
        raise MissingError(f"{source}: nothing is there")
    return [(str(path.relative_to(source)), *path.stat()) for path in sorted(files)]


def _fetch(source: StorePath, about: list[tuple[str, int, float]], folder: Path) -> bool:
    temporary = folder.with_name(f".{folder.name}.tmp")
    remove(temporary)
    try:
        download(source, temporary)
        whole = all((temporary / name).stat().st_size == size for name, size, _ in about) and _about(source) == about
        if whole:
            temporary.rename(folder)
        return whole
    finally:
        remove(temporary)
