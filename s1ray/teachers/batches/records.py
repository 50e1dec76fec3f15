"""What a run has asked of a provider's batch API, on disk: one JSON file a batch, each whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

from s1ray.manifests import RunError
from s1ray.storage import Location, Lock, LostError, StorePath, TakenError, entries, take, writing
from s1ray.teachers.base import TeacherError
from s1ray.teachers.ledger import telling


@dataclass
class Record:
    """A batch that was created, or perhaps created."""

    key: str
    """16 hex digits, drawn for this batch."""
    address: str
    """The API's base address."""
    asks: list[str]
    """Ids of its asks, in the order of the requests."""
    sent: float
    """Unix time just before the request that creates it."""
    file: str | None = None
    """The provider's id of the file that holds the requests, where the API wants one."""
    batch: str | None = None
    """The provider's id. None: whether it was created is not known."""
    failed: list[str] | None = None
    """Asks without an answer, once everything that came of it is in the ledger."""

    def custom_id(self, place: int) -> str:
        """Of the request for the ask at a place."""
        return f"{self.key}-{place}"

    @property
    def name(self) -> str:
        """For messages."""
        return f"batch {self.batch or self.key} ({len(self.asks):,} requests)"


class Records:
    """The records of a run."""

    def __init__(self, folder: Location) -> None:
        """Read them, and keep other processes from writing.

        Raises:
            TeacherError: another process has them, or nothing can be written.
            RunError: one cannot be read.
        """
        self.folder = folder
        self._lock: Lock | None = None
        with _told(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._take()
            for left in folder.glob(".*.tmp"):
                left.unlink()
        self._records = {record.key: record for record in read_records(folder)}

    def all(self) -> list[Record]:
        """The first first."""
        return sorted(self._records.values(), key=lambda record: (record.sent, record.key))

    def check(self) -> None:
        """Look whether no other process has them by now.

        Raises:
            TeacherError: one may have.
        """
        if self._lock is not None:
            try:
                self._lock.check()
            except LostError as error:
                raise TeacherError(str(error)) from None

    def save(self, record: Record) -> None:
        """Write a record to the disk.

        Raises:
            TeacherError: it cannot be written, or another process may have the records by now.
        """
        self.check()
        with _told(self.folder):
            with writing(self.path(record)) as temporary, temporary.open("w", encoding="utf-8") as stream:
                json.dump(asdict(record), stream)
                stream.flush()
                os.fsync(stream.fileno())
            self._sync()
        self._records[record.key] = record

    def delete(self, record: Record) -> None:
        """Forget a batch that does not exist, or of which nothing was asked.

        Raises:
            TeacherError: the file cannot be deleted, or another process may have the records by now.
        """
        self.check()
        with _told(self.folder):
            self.path(record).unlink(missing_ok=True)
            self._sync()
        self._records.pop(record.key, None)

    def path(self, record: Record) -> Location:
        """The record's file."""
        return self.folder / f"{record.key}.json"

    def results(self, record: Record) -> Location:
        """Where the results lie from their download until they are in the ledger."""
        return self.folder / f"{record.key}.results"

    def close(self) -> None:
        """Let other processes write."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _take(self) -> None:
        try:
            self._lock = take(self.folder / ".lock")
        except TakenError as who:
            raise TeacherError(f"{self.folder}: {who} waits for these batches; stop it") from None

    def _sync(self) -> None:
        if isinstance(self.folder, StorePath):
            return
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_records(folder: Location) -> list[Record]:
    """The records in a folder, which need not exist.

    Raises:
        RunError: one cannot be read, or the folder cannot.
    """
    with telling(folder):
        files = [path for path in entries(folder) if path.suffix == ".json"]
    return [_record(path) for path in files]


def refuse_open_batches(folder: Location) -> None:
    """Look whether batches are under way, before asking in another way.

    Raises:
        TeacherError: some are.
        RunError: a record cannot be read.
    """
    under_way = [record for record in read_records(folder) if record.failed is None]
    if under_way:
        raise TeacherError(
            f"{len(under_way)} batches of an earlier start are under way at {under_way[0].address}, the first: "
            f"{under_way[0].name}; give teacher.batch again to take their answers, or delete {folder} to pay twice"
        )


def _record(path: Location) -> Record:
    try:
        with telling(path):
            content = path.read_bytes()
        record = Record(**json.loads(content))
        asks = [*record.asks, *(record.failed or ())]
        if {type(ask) for ask in asks} - {str} or not isinstance(record.sent, float):
            raise TypeError("a field has the wrong type")
    except (ValueError, TypeError) as error:
        raise RunError(
            f"{path}: the record of a batch cannot be read: {error}; mend it (fields: "
            f"{', '.join(field.name for field in fields(Record))}), or delete it to ask its questions again, which may "
            "be paid twice"
        ) from None
    return record


@contextlib.contextmanager
def _told(folder: Location) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TeacherError(
            f"{folder}: cannot be written: {error.strerror or error}; make room, then run again"
        ) from None
