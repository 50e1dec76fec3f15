"""The records of batches, and the lock on them."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from s1ray.manifests import RunError
from s1ray.storage import StorePath
from s1ray.teachers.base import TeacherError
from s1ray.teachers.batches.records import Record, Records, read_records
from tests.support.object_store import bucket, objects, s3_environment, s3_server

__all__ = ["bucket", "s3_environment", "s3_server"]


def record(key: str) -> Record:
    return Record(key=key, address="https://api.provider/v1", asks=["a-0"], sent=1.0)


def test_a_process_that_has_lost_the_records_changes_none(bucket: StorePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s1ray.storage.locks.RENEW_S", 0.1)
    folder = bucket / "teacher"
    lost = Records(folder)
    lost.save(record("0"))
    before = objects(folder).keys()
    with pytest.raises(TeacherError, match="taken for dead and deleted"):
        _check_without_a_ticket(lost, folder / ".lock")
    with pytest.raises(TeacherError, match="run again to go on"):
        lost.save(record("1"))
    with pytest.raises(TeacherError, match="run again to go on"):
        lost.delete(record("0"))
    lost.close()
    assert objects(folder).keys() == {name for name in before if not name.startswith(".lock")}


def _check_without_a_ticket(records: Records, lock: StorePath) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        # Again and again: a renewal that is under way writes it anew.
        for ticket in lock.glob("*.json"):
            ticket.unlink(missing_ok=True)
        records.check()


def test_what_cannot_be_read_now_is_neither_no_record_nor_one_to_delete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Records(tmp_path)
    records.save(record("0"))
    records.close()

    def fails(*args: object, **options: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(tmp_path))

    def denied(*args: object) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fails)
        with pytest.raises(RunError, match=r"0\.json: cannot be read: Input/output error$"):
            read_records(tmp_path)
    monkeypatch.setattr(os, "listdir", denied)
    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(RunError, match="cannot be read: Permission denied"):
        read_records(tmp_path)
