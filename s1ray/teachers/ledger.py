"""What a teacher was asked and what came of it: one JSON line an event, written as it happens.

Each process that asks appends to a file of its own in the run's folder. A line is handed to the operating system before
anything else is done, so that killing the process loses none, and to the disk once a second. Nothing is ever rewritten.
In a store, lines are gathered for some seconds into a file of their own (`s1ray.storage.appending`): a killed process
loses what came in these seconds, too.
A run that is started again reads all files and asks for what has no answer: only what was in flight is asked twice.

Events, each with the `id` of its ask:

    sent         a call went out; `call` is its number, `prompt` the most tokens that its prompt can have
    answered     the whole response, with the provider's count of tokens in `usage`
    retried      the call's answer was of no use, and the ask was sent again; `reason`, and `usage` where there was one
    failed       the same, and the ask was not sent again
    lost         no answer came: the provider may have billed the call, and nobody knows
    unanswered   the ask was given up; `reason`

A call that nobody told of as sent (one of a provider's batch) is one event without a number. Where it failed or was
lost it has a `key`, as it may be told of again after a kill, and counts once.

A last line that a kill cut short is no event. A damaged line anywhere else is put aside in `quarantine/`, with a
warning; if it was an answer, the ask is asked again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from s1ray.generation.base import Call, Usage
from s1ray.manifests import RunError
from s1ray.storage import (
    AnyPath,
    Location,
    Parts,
    StorePath,
    Ticket,
    is_file,
    location,
    private_mode,
    still_open,
    writing,
)
from s1ray.storage.locks import LIVE_S
from s1ray.teachers.events import event_of
from s1ray.teachers.tally import CallCount, Tally

log = logging.getLogger("s1ray")

SYNC_S = 1.0
"""Seconds that a line may be in the operating system's memory alone."""
CLOSING_S = 60.0
"""Seconds that a killed run's processes may take to end before a new run gives up."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""Errors of a disk that takes nothing more."""
QUARANTINE = "quarantine"
WRITERS = "writers"
"""Folder within a ledger in a store: a ticket of each process that writes."""
PART = re.compile(r"(\d{20}-[0-9a-f]{8})-\d{8}\.jsonl")
"""Name of one of a writer's files in a store; the group is the writer's, and the rest counts them."""
TEACHER = "teacher"
"""Folder within the ledger's: what the teacher keeps for its next start."""


class Writer:
    """Appends events to a new file, and counts its calls; may be used from several threads."""

    def __init__(self, folder: AnyPath) -> None:
        """Open the file, which is locked until this process ends or closes it."""
        self.path = location(folder) / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.jsonl"
        self._lock, self._problem, self._closed = threading.Lock(), "", False
        self._calls = CallCount()
        self._file = _StoreFile(self.path) if isinstance(self.path, StorePath) else _DiskFile(self.path)

    def add(self, event: str, ask: str, **fields: object) -> None:
        """Append one event.

        Raises:
            RunError: nothing can be written (the disk is full, say); the file ends in a line that is cut short.
        """
        # ASCII: a lone surrogate, which UTF-8 cannot write, must not end the run here.
        content = {"event": event, "id": ask, **fields}
        line = json.dumps(content, ensure_ascii=True).encode() + b"\n"
        with self._lock:
            if self._closed:
                raise RunError(f"{self.path}: is closed already")
            # After a line that was cut short no further one may follow: both would be lost.
            self._raise_problem()
            try:
                self._file.append(line)
            except OSError as error:
                self._problem = error.strerror or str(error)
            self._raise_problem()
            self._calls.take(content)

    def tally(self) -> Tally:
        """Calls and tokens of this file; those that have not ended are counted as lost."""
        with self._lock:
            return self._calls.tally(closed=True)

    def call(self, call: Call, **fields: object) -> None:
        """Append what happened to a call."""
        if call.outcome != "sent":
            fields |= {"usage": None if call.usage is None else dataclasses.asdict(call.usage), "reason": call.reason}
        if call.key is not None:
            fields["key"] = call.key
        self.add(call.outcome, call.request_id, call=call.number if call.key is None else None, **fields)

    def close(self) -> None:
        """Write everything to the disk and close the file.

        Raises:
            RunError: something could not be written.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        try:
            self._file.close()
        except OSError as error:
            self._problem = self._problem or error.strerror or str(error)
        self._raise_problem()

    def _raise_problem(self) -> None:
        problem = self._problem or self._file.problem
        if problem:
            raise RunError(f"{self.path}: cannot be written: {problem}; make room there")


class _DiskFile:
    """A file that is appended to: each line is handed to the system at once, and to the disk once a second."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._file = os.open(path, flags, private_mode(path.parent))
        with contextlib.suppress(OSError):  # the run has the folder's lock; this one tells of its killed processes
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.problem = ""
        self._dirty, self._closed = threading.Event(), threading.Event()
        self._syncing = threading.Thread(target=self._sync, name="ledger", daemon=True)
        self._syncing.start()

    def append(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._file, line) :]
        self._dirty.set()

    def close(self) -> None:
        self._closed.set()
        self._dirty.set()
        self._syncing.join()
        os.close(self._file)

    def _sync(self) -> None:
        while not self._closed.is_set():
            self._dirty.wait()
            self._dirty.clear()
            self._to_disk()
            self._closed.wait(SYNC_S)
        self._to_disk()

    def _to_disk(self) -> None:
        try:
            os.fsync(self._file)
        except OSError as error:
            # Some file systems find out only here that they are full.
            if error.errno in FULL:
                self.problem = error.strerror or str(error)


class _StoreFile:
    """The same in a store, which cannot append: numbered files of some seconds each, and a ticket of its process."""

    def __init__(self, path: StorePath) -> None:
        self.problem = ""
        self._ticket = Ticket(path.parent / WRITERS / f"{path.stem}.json")
        self._parts = Parts(lambda number: path.with_name(f"{path.stem}-{number:08d}{path.suffix}"))

    def append(self, line: bytes) -> None:
        self._parts.append(line)

    def close(self) -> None:
        try:
            self._parts.close()
        finally:
            self._ticket.close()


class Place(NamedTuple):
    """Where in the ledger an answer is."""

    file: str
    offset: int
    """In bytes."""
    length: int
    """In bytes, without the line's end."""


class Ledger:
    """What the files of a folder say so far; `read` reads on.

    Attributes:
        answers: ask -> where its answer is. Of several the first is taken.
        failures: ask without an answer -> why it was given up last.
        damaged: lines in quarantine.
    """

    def __init__(self, folder: AnyPath, ignored: Collection[str] = (), asks: Collection[str] | None = None) -> None:
        """Read nothing yet.

        Args:
            folder: of the files.
            ignored: names of files that are never read.
            asks: events of others are not counted. None: all are.
        """
        self.folder = location(folder)
        self._ignored = frozenset(ignored)
        self._asks = asks
        self.answers: dict[str, Place] = {}
        self.failures: dict[str, str] = {}
        self.damaged = 0
        self._calls = CallCount()
        self._positions: dict[str, int] = {}
        """File -> bytes that have been read."""
        self._lock = threading.Lock()

    def read(self) -> None:
        """Read what has been appended since the last time.

        Raises:
            RunError: a file cannot be read, or a damaged line cannot be put aside.
        """
        with self._lock:
            for path in files_of(self.folder):
                if path.name not in self._ignored:
                    with telling(path):
                        self._read(path)

    def tally(self, *, closed: bool) -> Tally:
        """Calls and tokens so far.

        Args:
            closed: nobody is writing, so that calls which have not ended are lost.
        """
        with self._lock:
            return self._calls.tally(closed=closed)

    def wait_until_closed(self) -> None:
        """Wait until the processes of an earlier run have ended.

        Raises:
            RunError: one goes on, or a file cannot be read.
        """
        if isinstance(self.folder, StorePath):
            self._wait_for_tickets(self.folder / WRITERS)
            return
        until = time.monotonic() + CLOSING_S
        for path in files_of(self.folder):
            while isinstance(path, Path) and _is_locked(path):
                if time.monotonic() > until:
                    raise RunError(f"{path}: an earlier run's process still writes there; stop it, then run again")
                time.sleep(0.2)

    def _wait_for_tickets(self, folder: StorePath) -> None:
        until = time.monotonic() + CLOSING_S + LIVE_S
        with telling(folder):
            while folder.exists() and (tickets := still_open(folder)):
                if time.monotonic() > until:
                    raise RunError(f"{tickets[0]}: an earlier run's process still writes; stop it, then run again")
                time.sleep(2)

    def _read(self, path: Location) -> None:
        position = self._positions.get(path.name, 0)
        if position and isinstance(path, StorePath):
            return  # nothing is ever appended to an object
        with path.open("rb") as stream:
            stream.seek(position)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                try:
                    event = event_of(line)
                except ValueError:
                    self._put_aside(path, position, line)
                else:
                    self._take(event, Place(path.name, position, len(line) - 1))
                position += len(line)
                self._positions[path.name] = position

    def _take(self, event: dict[str, Any], place: Place) -> None:
        name, ask = event["event"], event["id"]
        if self._asks is not None and ask not in self._asks:
            return
        part = PART.fullmatch(place.file)
        self._calls.take(event, place.file if part is None else part[1])
        if name == "answered":
            self.answers.setdefault(ask, place)
            self.failures.pop(ask, None)
        elif name == "unanswered" and ask not in self.answers:
            self.failures[ask] = event["reason"]

    def _put_aside(self, path: Location, offset: int, line: bytes) -> None:
        self.damaged += 1
        aside = self.folder / QUARANTINE / f"{path.stem}-{offset}.txt"
        try:
            with writing(aside) as temporary:
                temporary.write_bytes(line)
        except OSError as error:
            raise RunError(f"{aside}: cannot be written: {error.strerror}; make room there") from None
        log.warning("%s: the line at byte %d is damaged and was copied to %s", path, offset, aside)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it is in the ledger."""

    thinking: str
    attempt: str
    finish_reason: str
    raw_finish_reason: str | None
    model_version: str | None
    usage: Usage | None
    seconds: float | None = None
    """That the call took. None: not known."""


def answer_of(event: Mapping[str, Any]) -> Answer:
    """The answer that an event of `event_of` holds."""
    usage = event["usage"]
    return Answer(
        thinking=event["thinking"],
        attempt=event["attempt"],
        finish_reason=event["finish_reason"],
        raw_finish_reason=event["raw_finish_reason"],
        model_version=event["model_version"],
        usage=None if usage is None else Usage(**usage),
        seconds=event.get("seconds"),
    )


def read_answers(folder: AnyPath, places: Iterable[Place]) -> list[Answer]:
    """The answers at some places, in order."""
    there = location(folder)
    if isinstance(there, StorePath):
        return [answer_of(json.loads((there / at.file).read_range(at.offset, at.length))) for at in places]
    with contextlib.ExitStack() as stack:
        streams: dict[str, Any] = {}
        answers = []
        for place in places:
            if place.file not in streams:
                streams[place.file] = stack.enter_context((there / place.file).open("rb"))
            stream = streams[place.file]
            stream.seek(place.offset)
            answers.append(answer_of(json.loads(stream.read(place.length))))
    return answers


def files_of(folder: Location) -> list[Location]:
    """The files of a ledger, in order; none where its folder is not there.

    Raises:
        RunError: something that is no folder is in its place, or something that is no file in a file's.
    """
    if isinstance(folder, StorePath):
        with telling(folder):
            return sorted(folder.glob("*.jsonl"))
    with telling(folder):
        if os.path.lexists(folder) and not folder.is_dir():
            raise RunError(f"{folder}: must be a folder, with the run's answers; move it away")
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
    paths: list[Location] = [folder / name for name in names if name.endswith(".jsonl")]
    for path in paths:
        if not is_file(path):
            raise RunError(f"{path}: is no file, or a link to none; move it away")
    return paths


@contextlib.contextmanager
def telling(path: Location) -> Iterator[None]:
    """Turns what the system says of a file into words."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from None


def _is_locked(path: Path) -> bool:
    with telling(path), path.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
        return False
