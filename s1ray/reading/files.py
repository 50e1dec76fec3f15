"""Which files of rows there are at a path, each with its format, and what lies beside them and is not read."""

from __future__ import annotations

import dataclasses
import fnmatch
import glob
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from s1ray.config import ConfigError
from s1ray.errors import MissingError
from s1ray.schemas import MANIFEST, RESULTS, visible_files
from s1ray.storage import Location, exists, full_text, inside, is_address, is_dir, is_file, location

Format = Literal["parquet", "arrow", "json lines", "json", "csv", "tsv"]

FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".jsonl": "json lines",
    ".ndjson": "json lines",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
READABLE = f"rows are read from {', '.join(FORMATS)}, text also with {' or '.join(COMPRESSIONS)}"
DATASET, DATASET_DICT = "state.json", "dataset_dict.json"
"""What `datasets` writes into the folder of a data set, and of one with several splits (`save_to_disk`)."""
_NOT_ROWS = {DATASET, DATASET_DICT, "dataset_info.json", "dataset_infos.json", MANIFEST}
_NAMED = 5


@dataclasses.dataclass(frozen=True)
class DataFile:
    """A file of rows."""

    path: str
    """As the config leads to it."""
    format: Format
    compression: str | None = None
    """A codec of pyarrow's, or None."""
    absolute: str = ""
    """Where it is, also for a worker with another working directory."""

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return location(self.absolute).stat().st_size


@dataclasses.dataclass(frozen=True)
class Found:
    """What is at a path."""

    files: list[DataFile]
    """In the order in which they are read."""
    ignored: list[str]
    """Paths that are no files of rows."""

    def describe(self) -> str:
        """One line: how many files of which formats, and what is not read."""
        formats = Counter(file.format for file in self.files)
        kinds = ", ".join(f"{count} {name}" for name, count in sorted(formats.items()))
        line = f"{len(self.files)} file(s) ({kinds})"
        if self.ignored:
            names = ", ".join(os.path.basename(path) for path in self.ignored[:_NAMED])
            more = ", ..." if len(self.ignored) > _NAMED else ""
            line += f"; {len(self.ignored)} file(s) not read: {names}{more}"
        return line


def find_files(paths: str | Sequence[str]) -> Found:
    """The files of rows at paths, globs and folders, each once; of a folder in the order of their names.

    Args:
        paths: one or several. A folder is searched with its subfolders; what is hidden is left out. A folder that
            `datasets` has saved gives its Arrow files.

    Raises:
        MissingError: nothing is there.
        ConfigError: a file is of no known format, a folder has no file of rows, or holds several splits.
    """
    files: dict[str, DataFile] = {}
    ignored: dict[str, str] = {}
    for path in [paths] if isinstance(paths, str) else paths:
        found = _at(path)
        # One file may be written in two ways ("./a" and "a"), or be a link to another one.
        for file in found.files:
            files.setdefault(os.path.realpath(file.absolute), file)
        for each in found.ignored:
            ignored.setdefault(os.path.realpath(each), each)
    return Found(list(files.values()), [each for absolute, each in ignored.items() if absolute not in files])


def input_paths(path: str) -> list[str]:
    """The inputs that a path stands for: itself, or the files of a glob.

    Raises:
        MissingError: nothing is there.
    """
    there = os.path.expanduser(path)
    return [there] if exists(there) else [file.path for file in find_files(path).files]


def label_of(path: str) -> str:
    """What a source at a path is called: the name of the file or folder without its endings; of a glob the folder's."""
    there = location(path)
    while glob.has_magic(str(there)) and not there.exists() and there.name:
        there = there.parent
    name = there.name
    for suffix in (*COMPRESSIONS, *FORMATS):
        if name.lower().endswith(suffix) and not there.is_dir():
            name = name[: -len(suffix)]
    return name or there.absolute().name


def _at(path: str) -> Found:
    path = os.path.expanduser(path)
    if is_dir(path):
        return _in_folder(location(path))
    if is_file(path):
        if (file := _data_file(path) or _by_content(path)) is None:
            raise ConfigError(f"{path}: not a file of rows; {READABLE}")
        return Found([file], [])
    if not glob.has_magic(path):
        raise MissingError(f"{path}: no such file or folder")
    matches = sorted(_matches(path))
    if not matches:
        raise MissingError(f"{path}: no file matches")
    parts = [_in_folder(location(match), needed=False) for match in matches if is_dir(match)]
    singles = [match for match in matches if not is_dir(match)]
    files = [file for match in singles if is_file(match) and (file := _data_file(match)) is not None]
    read = {file.path for file in files}
    ignored = [match for match in singles if match not in read]
    found = Found(
        [*files, *(f for part in parts for f in part.files)], [*ignored, *(i for p in parts for i in p.ignored)]
    )
    if not found.files:
        raise MissingError(f"{path}: none of the {len(matches)} matches holds a file of rows; {READABLE}")
    return Found(sorted(found.files, key=lambda file: file.path), found.ignored)


def _matches(pattern: str) -> list[str]:
    if not is_address(pattern):
        return _below(pattern) if "**" in pattern else glob.glob(pattern)
    if "**" in pattern:
        raise ConfigError(f"{pattern}: '**' is not looked for in an object store; give the folder")
    folder = location(pattern)
    while glob.has_magic(str(folder)):
        folder = folder.parent
    return [str(path) for path in folder.glob(str(inside(location(pattern), folder))) if path.name[:1] != "."]


def _below(pattern: str) -> list[str]:
    """What matches a glob with `**`. Links to folders are not followed: they may lead back to where they are."""
    segments = pattern.split("/")
    fixed = next(place for place, segment in enumerate(segments) if glob.has_magic(segment))
    base = "/".join(segments[:fixed]) or ("/" if pattern.startswith("/") else ".")
    parts = [
        "(?:[^/.][^/]*/)*" if segment == "**" and place < len(segments) - 1 else _segment(segment)
        for place, segment in enumerate(segments[fixed:], start=fixed)
    ]
    wanted = re.compile("".join(part if part.endswith(")*") else f"{part}/" for part in parts).removesuffix("/"))
    found = []
    for folder, folders, files in os.walk(base):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = os.path.relpath(folder, base)
        for name in [*folders, *files]:
            relative = name if inside == "." else f"{inside}/{name}"
            if not name.startswith(".") and wanted.fullmatch(relative):
                found.append(os.path.join(folder, name))
    return found if base != "." or pattern.startswith("./") else [os.path.relpath(each) for each in found]


def _segment(segment: str) -> str:
    """One segment of a glob as a regular expression."""
    if segment == "**":
        return ".*"
    pattern = re.fullmatch(r"\(\?s:(.*)\)\\[zZ]", fnmatch.translate(segment), re.DOTALL)
    assert pattern is not None, "fnmatch writes patterns so"
    return pattern[1].replace(".*", "[^/]*")


def _in_folder(folder: Location, *, needed: bool = True) -> Found:
    there = visible_files(folder)
    result = folder / RESULTS["Question"]
    if (folder / MANIFEST).is_file() and result in there:
        # A run folder of ours: what it dropped is no part of its result.
        return Found([DataFile(str(result), "parquet", absolute=full_text(result))], [])
    for marker in (path for path in there if path.name == DATASET_DICT):
        splits = _json_object(marker).get("splits", [])
        if len(splits) > 1:
            raise ConfigError(
                f"{marker.parent}: a data set with the splits {', '.join(splits)}; give the path of one, for example "
                f"{marker.parent / splits[0]}"
            )
    saved = {path.parent: names for path in there if path.name == DATASET and (names := _saved(path)) is not None}
    files, ignored = [], [str(path) for path in folder.rglob("*") if path.is_symlink() and path.is_dir()]
    for path in there:
        if not path.exists():
            # A link that leads nowhere.
            ignored.append(str(path))
            continue
        about_rows = path.name in _NOT_ROWS and (path.name != DATASET or path.parent in saved)
        if about_rows or (path.parent in saved and path not in saved[path.parent]):
            continue
        file = _data_file(str(path))
        files.append(file) if file is not None else ignored.append(str(path))
    if needed and not files:
        raise MissingError(f"{folder}: no file of rows here ({len(ignored)} others); {READABLE}")
    return Found(files, ignored)


def _saved(state: Location) -> set[Location] | None:
    """The files of rows of a folder that `datasets` has saved, which may hold caches as well; None: it has not."""
    entries = _json_object(state).get("_data_files")
    if not isinstance(entries, list):
        return None
    return {
        state.parent / str(entry["filename"]) for entry in entries if isinstance(entry, dict) and "filename" in entry
    }


def _json_object(path: Location) -> dict[str, Any]:
    """What a small JSON file says; empty where it is none, or a link that leads nowhere."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _data_file(path: str) -> DataFile | None:
    stem, suffix = os.path.splitext(path.lower())
    compression = COMPRESSIONS.get(suffix)
    if compression is not None:
        suffix = os.path.splitext(stem)[1]
    format_ = FORMATS.get(suffix)
    if format_ is None or (compression is not None and format_ in ("parquet", "arrow")):
        return None
    return DataFile(path, format_, compression, full_text(path))


def _by_content(path: str) -> DataFile | None:
    kinds: dict[bytes, Format] = {b"PAR1": "parquet", b"ARROW1": "arrow"}
    with location(path).open("rb") as stream:
        begin = stream.read(6)
    found = next((kind for mark, kind in kinds.items() if begin.startswith(mark)), None)
    return None if found is None else DataFile(path, found, absolute=full_text(path))
