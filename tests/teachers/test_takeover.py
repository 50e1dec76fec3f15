"""Counting what was paid for, before something is deleted."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from s1ray.manifests import RunError
from s1ray.storage import StoreError, location
from s1ray.teachers.ledger import Writer
from s1ray.teachers.takeover import count_answers

ANSWER = {"thinking": "t", "attempt": "a", "finish_reason": "stop", "usage": None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for _ in range(2):
        writer = Writer(tmp_path)
        for number in range(3):
            writer.add("answered", f"ask-{number}", call=number, **ANSWER)
        writer.close()
    return tmp_path


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), 3),
        (OSError(errno.EIO, os.strerror(errno.EIO)), 4),
        (StoreError(location("s3://bucket/a.jsonl"), "503"), 4),  # type: ignore[arg-type]
    ],
)
def test_a_file_that_cannot_be_read_may_hold_answers(
    folder: Path, error: OSError, counted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert count_answers(folder) == 6
    real, unreadable = Path.open, min(folder.glob("*.jsonl"))

    def open_(path: Path, *args: Any, **options: Any) -> Any:
        if path == unreadable:
            raise error
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "open", open_)
    assert count_answers(folder) == counted


def test_a_folder_that_cannot_be_listed_is_not_empty(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*args: object) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(os, "listdir", denied)
    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(RunError, match="cannot be read: Permission denied"):
        count_answers(folder)


def test_without_a_folder_there_are_none(tmp_path: Path) -> None:
    assert count_answers(tmp_path / "none") == 0
    (tmp_path / "file").touch()
    assert count_answers(tmp_path / "file") == 0
