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
finished yet. A stage that loses its lock (a store could not be reached for long) is interrupted. A job waits for the
lock for a while: the one that has it may be the same job's earlier attempt, whose node was lost.
"""

from __future__ import annotations

import _thread
import hashlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Any

from s1ray.aside import Kept
from s1ray.cluster import in_job
from s1ray.config import StageConfig
from s1ray.errors import S1rayError
from s1ray.manifests import Manifest, RunError, difference, digest, read_manifest, versions, without
from s1ray.schemas import MANIFEST
from s1ray.storage import (
    RENEW_S,
    TEMPORARY,
    AnyPath,
    Location,
    Lock,
    StoreError,
    StorePath,
    TakenError,
    location,
    remove,
    take,
    write_json,
)

log = logging.getLogger("s1ray")

LOCK = ".lock"
"""In the run folder: locked by the process that writes there; in a store a folder of tickets."""
LOST_NODE_S = 180.0
"""Seconds that a job waits for a lock. On a lost node, processes may go on for a minute until Ray ends them. Then their
ticket in a store lives for another minute; a network file system keeps their locks for a minute and a half."""
LOOK_S = 5.0
"""Seconds between two tries."""
LOST_SIGNAL = signal.SIGUSR2
"""Of this process to itself, when it has lost a store's lock; a shell's background jobs ignore SIGINT."""


class OtherRunError(RunError):
    """The folder holds a run of another config or input."""


def check_folder(path: AnyPath) -> None:
    """Look whether a folder is there, or can be created; creates nothing.

    Raises:
        RunError: a file is in the way, the name is no name of a folder, or nothing may be written there.
    """
    folder = location(path).absolute()
    if isinstance(folder, StorePath):
        if folder.is_file():
            raise RunError(f"{folder}: cannot be a folder, as an object is there; choose another")
        if not _may_have_bucket(folder):
            raise RunError(f"{folder}: there is no bucket {folder.root}; create it, or choose another")
        return
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


def _may_have_bucket(folder: StorePath) -> bool:
    try:
        return folder.bucket.exists()
    except StoreError:
        return True  # Whoever may only use a part of a bucket may not ask.


class Run:
    """One stage's run folder, open for writing; use it as a context manager.

    Attributes:
        path: the folder (absolute).
        skipped: True if the folder already holds this very run, complete; then write nothing.
        resumed: True if the folder holds this very run, unfinished, or complete but for some of its results.
        missing: results that a complete run has lost.
        rows: row counts to record, for example {"in": 20000, "out": 1000}.
        drops: rows dropped, by reason.
        figures: anything else worth recording that is not a row (numbers, file names).
        unfinished: set, it leaves a run that the next start resumes, as one that was killed.
    """

    def __init__(
        self,
        stage: str,
        config: StageConfig,
        inputs: Mapping[str, AnyPath] | None = None,
        *,
        force: bool = False,
        results: Collection[str] = (),
        kept: Callable[[Location], Kept | None] | None = None,
    ):
        """Open (or create) the run folder `config.output`.

        Args:
            stage: the stage's name.
            config: its resolved config; everything in it but its incidental fields decides the digest.
            inputs: name -> file or folder whose content decides the result.
            force: delete what the folder holds and start again.
            results: files without which a complete run is taken for an unfinished one.
            kept: what of a folder is set aside by `force`, and not deleted.

        Raises:
            OtherRunError: the folder holds a run of another config or input.
            RunError: the folder holds something that is no run, cannot be created, or (under `force`) is being written
                by another process.
            MissingError: an input does not exist.
        """
        self.stage = stage
        self.path = location(config.output).absolute()
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
            "inputs": {name: {"path": str(path), "digest": digest(path)} for name, path in (inputs or {}).items()},
            "seed": config.seed,
            "versions": versions(),
        }
        entries = self._manifest["inputs"]
        digests = {name: entry["digest"] for name, entry in entries.items()}
        # An input counts by its content, wherever it lies: a run folder stays valid when it is moved.
        decisive = _replaced(decisive, {entry["path"]: entry["digest"] for entry in entries.values()})
        self.digest = hashlib.sha256(json.dumps([stage, decisive, digests], sort_keys=True).encode()).hexdigest()[:16]
        self._manifest["digest"] = self.digest
        self._lock: Lock | None = None
        self._handler: Any = None
        self._find_kept, self._results, self._incidental = kept, results, config.incidental_fields()
        check_folder(self.path)
        if force and self.path.exists():
            self._clear()
        self._look()

    def _look(self) -> None:
        """Find out what the folder holds.

        Raises:
            OtherRunError: a run of another config or input.
            RunError: something that is no run.
        """
        previous = read_manifest(self.path)
        if previous is None:
            if self.path.exists() and _holds_anything(self.path):
                raise RunError(
                    f"{self.path}: holds files but no {MANIFEST}, so it is no run folder; choose another `output`"
                )
        elif previous.get("digest") != self.digest:
            raise self._other(previous, self._incidental)
        was_complete = previous is not None and previous.get("status") == "complete"
        self.missing = [name for name in self._results if was_complete and not (self.path / name).is_file()]
        self.skipped = was_complete and not self.missing
        self.resumed = previous is not None and not self.skipped
        if self.skipped and previous is not None:
            self._manifest = previous
            self.rows, self.drops = previous.get("rows", {}), previous.get("drops", {})
            self.figures = previous.get("figures", {})

    def __enter__(self) -> Run:
        self._started = time.time()
        if not self.skipped:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RunError(f"{self.path}: cannot be created: {error.strerror}; choose another `output`") from error
            self._take()
            try:
                self._begin()
            except BaseException:
                self._release()
                raise
            if self.skipped:
                self._release()
        return self

    def _begin(self) -> None:
        # Until now another process may have had the lock.
        self._look()
        if not self.skipped:
            for left in self.path.glob(TEMPORARY):
                remove(left)
            self._write()

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
        try:
            self._lock = self._take_from_lost()
        except TakenError as who:
            wait = " (one that was killed elsewhere counts as at work for a minute)"
            raise RunError(
                f"{self.path}: {who} is at work there; wait for it{wait if isinstance(self.path, StorePath) else ''}, "
                "or stop it, or choose another `output`"
            ) from None
        except S1rayError:
            raise
        except OSError as error:
            raise RunError(f"{self.path / LOCK}: cannot be opened ({error.strerror}); remove it") from None
        if isinstance(self.path, StorePath) and threading.current_thread() is threading.main_thread():
            lock = self._lock
            self._handler = signal.signal(LOST_SIGNAL, lambda number, frame: lock.check())

    def _take_from_lost(self) -> Lock:
        """The lock; in a job, also from a process whose node was lost."""
        until, is_told = time.monotonic() + (LOST_NODE_S if in_job() else 0.0), False
        while True:
            try:
                lock = take(self.path / LOCK, _interrupt)
                break
            except TakenError as who:
                if time.monotonic() >= until:
                    raise
                if not is_told:
                    log.warning(
                        "%s: %s is at work there, or was on a node that is lost; waiting for at most %.0f s",
                        self.path,
                        who,
                        LOST_NODE_S,
                    )
                    is_told = True
                time.sleep(LOOK_S)
        if is_told and isinstance(self.path, StorePath):
            # What else that process held in the store may have been renewed so much later.
            time.sleep(RENEW_S)
        return lock

    def _release(self) -> None:
        if self._handler is not None:
            signal.signal(LOST_SIGNAL, self._handler)
            self._handler = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _other(self, previous: Manifest, incidental: Collection[str]) -> OtherRunError:
        kept = None if self._find_kept is None else self._find_kept(self.path)
        take, then = "", ""
        if kept is not None:
            take = f" and {kept.field}={self.path} to take over its {kept.what}"
            then = f" ({kept.what} are then set aside in {kept.place(self.path)})"
        return OtherRunError(
            f"{self.path}: holds a {previous.get('status')} {previous.get('stage')!r} run of other config or input"
            f"{difference(previous, self._manifest, incidental)}; choose another `output`{take}, or pass --force to "
            f"replace it{then}"
        )

    def _write(self) -> None:
        if self._lock is not None:
            self._lock.check()
        self._manifest |= Manifest(rows=self.rows, drops=self.drops, figures=self.figures)
        write_json(self.path / MANIFEST, self._manifest, is_private=True)

    def _clear(self) -> None:
        check_replaceable(self.path)
        self._take()
        try:
            kept = None if self._find_kept is None else self._find_kept(self.path)
            if kept is not None:
                self._set_aside(kept)
            manifest = self.path / MANIFEST
            if manifest.is_file():
                # Killed from here on, the folder is complete for nobody, and --force may still replace it.
                write_json(manifest, Manifest(stage=self.stage, status="running", digest=""), is_private=True)
            # The lock stays: on network storage a file that is open cannot be deleted from its folder.
            for name in sorted(
                {entry.name for entry in self.path.iterdir()} - {LOCK}, key=lambda name: name == MANIFEST
            ):
                remove(self.path / name)
        finally:
            self._release()

    def _set_aside(self, kept: Kept) -> None:
        try:
            place = kept.set_aside(self.path)
        except OSError as error:
            raise RunError(
                f"{self.path}: its {kept.what} cannot be set aside ({error.strerror}), and --force deletes none; "
                "choose another `output`"
            ) from None
        log.info("%s: its %s are kept in %s; %s takes them over", self.path, kept.what, place, kept.field)


def _interrupt() -> None:
    # What this process would write now, another may be writing.
    _thread.interrupt_main(LOST_SIGNAL)


def _holds_anything(folder: Location) -> bool:
    return any(entry.name != LOCK for entry in folder.iterdir())


def check_replaceable(path: AnyPath) -> None:
    """Look whether `force` may replace what a folder holds: only what is recognisably a run folder is ever deleted.

    Raises:
        RunError: it holds something else.
    """
    folder = location(path).absolute()
    if folder.exists() and _holds_anything(folder) and not (folder / MANIFEST).is_file():
        raise RunError(
            f"{folder}: holds files but no {MANIFEST}; --force deletes run folders only. Choose another `output`"
        )


def _replaced(node: object, values: Mapping[str, str]) -> object:
    """A config with some of its text values replaced."""
    if isinstance(node, dict):
        return {key: _replaced(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_replaced(value, values) for value in node]
    return values.get(node, node) if isinstance(node, str) else node
