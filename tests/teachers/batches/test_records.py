"""The records of batches."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from s1ray.runs import RunError
from s1ray.teachers.batches.records import Record, Records, read_records


def record(key: str) -> Record:
    return Record(key=key, address="https://api.provider/v1", asks=["a-0"], sent=1.0)


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
