"""Files that are there whole or not at all.

A killed process, a full disk or a failing writer leaves the old file, or none, never half of a new one. In a store an
object appears when all of it is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from s1ray.storage.addresses import location
from s1ray.storage.paths import AnyPath, Location, StorePath

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import fs

TEMPORARY = ".*.tmp"
"""Pattern of the names of files that are being written, or that a killed process left."""
UPLOAD_BYTES = 8 << 20
"""Of a file that are read at once."""


@contextlib.contextmanager
def writing(path: AnyPath, *, last: Collection[str] = ()) -> Iterator[Path]:
    """A temporary path on this machine; what was written there takes the place of `path` when the block ends well.

    The block may write a file or create a folder. Parent folders are created. A folder makes room for a folder, never
    for a file: that is an `IsADirectoryError`. The temporary one lies beside a local `path`; where `path` is in a
    store, in this machine's folder for temporary files.

    Args:
        path: the file or folder.
        last: files of a folder that say it is whole. A store, which has no folders, gets them last, and loses those of
            an older folder first.
    """
    path = location(path)
    if isinstance(path, StorePath):
        with tempfile.TemporaryDirectory(prefix="s1ray-upload-") as folder:
            temporary = Path(folder) / path.name
            yield temporary
            upload(temporary, path, last=last)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    remove(temporary)
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        remove(temporary)


def private_mode(folder: Path) -> int:
    """The mode of a new file there that its owner reads and writes, and nobody else.

    A folder that a group shares (its setgid bit is set) says that the group may read it.
    """
    return 0o640 if os.stat(folder).st_mode & stat.S_ISGID else 0o600


def private(path: str, flags: int) -> int:
    """For `open(..., opener=private)`: a new file has `private_mode`."""
    return os.open(path, flags, private_mode(Path(path).parent))


def write_text(path: AnyPath, text: str, *, is_private: bool = False) -> None:
    """Write a text file (UTF-8) whole or not at all; on this machine for its owner alone, if it is private."""
    with writing(path) as temporary:
        if is_private:
            temporary.touch(mode=private_mode(temporary.parent))
        temporary.write_text(text, encoding="utf-8")


def write_json(path: AnyPath, data: object, *, is_private: bool = False) -> None:
    """Write a JSON file whole or not at all; on this machine for its owner alone, if it is private."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n", is_private=is_private)


def remove(path: Location) -> None:
    """Delete a file, a link or a folder, if it is there."""
    if isinstance(path, StorePath):
        if path.is_file():
            path.unlink(missing_ok=True)
        with path._told(), contextlib.suppress(FileNotFoundError):
            path.filesystem.delete_dir(path.place)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def upload(source: Path, target: StorePath, *, last: Collection[str] = ()) -> None:
    """Copy a file, or a folder with all its files, into a store; the older folder there goes.

    Args:
        source: on this machine.
        target: where it is then.
        last: as in `writing`.

    Raises:
        IsADirectoryError: a folder is where a file is to be.
    """
    if not source.is_dir():
        if target.is_dir():
            raise IsADirectoryError(f"{target}: is a folder")
        _upload_file(source, target)
        return
    for name in last:
        (target / name).unlink(missing_ok=True)
    files = {file.relative_to(source).as_posix(): file for file in source.rglob("*") if file.is_file()}
    older = [path for path in target.rglob("*") if path.is_file()]
    for path in older:
        if str(path.relative_to(target)) not in files:
            path.unlink(missing_ok=True)
    for name in sorted(files, key=lambda name: (name in last, name)):
        _upload_file(files[name], target / name)


def download(source: StorePath, target: Path) -> None:
    """Copy an object, or all below a folder, to this machine.

    Raises:
        FileNotFoundError: nothing is there.
    """
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as content, target.open("wb") as file:
            shutil.copyfileobj(content, file, UPLOAD_BYTES)
        return
    target.mkdir(parents=True, exist_ok=True)
    inner = [path for path in source.rglob("*") if path.is_file()]
    if not inner:
        raise source._missing()
    for path in inner:
        download(path, target / path.relative_to(source))


def move(source: Location, target: Location) -> None:
    """Move a file or folder; both are local, or in one store. In a store that copies, and a kill leaves both."""
    if isinstance(source, StorePath) and isinstance(target, StorePath):
        files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
        for path in files:
            there = target if path == source else target / path.relative_to(source)
            with path._told():
                path.filesystem.copy_file(path.place, there.place)
        remove(source)
    else:
        assert not isinstance(source, StorePath), "both are of one kind"
        assert not isinstance(target, StorePath), "both are of one kind"
        source.rename(target)


def inside(path: Location, folder: AnyPath) -> PurePath:
    """The path from a folder around it.

    Raises:
        ValueError: it does not lie there.
    """
    folder = location(folder)
    if isinstance(path, StorePath) or isinstance(folder, StorePath):
        return path.relative_to(folder)  # type: ignore[arg-type]
    return path.relative_to(folder)


def arrow_place(path: AnyPath) -> tuple[str, fs.FileSystem | None]:
    """A path and the file system that it is of, as pyarrow's data sets and Ray Data take them; None: this machine's."""
    path = location(path)
    return (path.place, path.filesystem) if isinstance(path, StorePath) else (os.fspath(path), None)


def readable(path: AnyPath) -> Any:
    """What pyarrow and numpy read a file from: a local file's name, or an object that is open."""
    path = location(path)
    return path.open("rb") if isinstance(path, StorePath) else os.fspath(path)


def random_access(path: AnyPath, *, mapped: bool = False) -> pa.NativeFile:
    """A file that pyarrow reads at any place; `mapped`: a local one is not read but mapped into memory."""
    import pyarrow as pa

    path = location(path)
    if isinstance(path, StorePath):
        return pa.PythonFile(path.open("rb"), "r")
    return pa.memory_map(os.fspath(path)) if mapped else pa.OSFile(os.fspath(path))


def _upload_file(source: Path, target: StorePath) -> None:
    with source.open("rb") as content, target.writing() as stream:
        while chunk := content.read(UPLOAD_BYTES):
            stream.write(chunk)
