"""Lines that are appended in a store."""

from __future__ import annotations

import time

import pytest

from s1ray.storage import Growing, PartFolder, StoreError, StorePath


def test_lines_come_back_in_order_over_several_starts(bucket: StorePath) -> None:
    folder = PartFolder(bucket / "journal.jsonl")
    assert list(folder.lines()) == []
    for start in range(2):
        parts = folder.appender()
        for number in range(3):
            parts.append(f"{start}.{number}\n".encode())
            parts.flush()
        parts.close()
        parts.close()
    assert list(folder.lines()) == [f"{start}.{number}\n".encode() for start in range(2) for number in range(3)]
    assert len(folder.files()) == 6


def test_a_process_that_has_lost_its_lock_writes_over_no_part(bucket: StorePath) -> None:
    folder = PartFolder(bucket / "journal.jsonl")
    (folder.folder / "00000000.part").write_bytes(b"of an earlier version\n")
    lost, holder = folder.appender(), folder.appender()
    lost.append(b"late\n")
    holder.append(b"new\n")
    holder.close()
    lost.close()
    first, *others = folder.lines()
    assert first == b"of an earlier version\n"
    assert sorted(others) == [b"late\n", b"new\n"]
    last = folder.appender()
    last.append(b"last\n")
    last.close()
    assert list(folder.lines()) == [first, *others, b"last\n"]


def test_a_line_is_in_the_store_soon_without_being_asked_for(
    bucket: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1ray.storage.appending.FLUSH_S", 0.2)
    folder = PartFolder(bucket / "journal.jsonl")
    parts = folder.appender()
    parts.append(b"one\n")
    until = time.monotonic() + 10
    while not folder.files() and time.monotonic() < until:
        time.sleep(0.1)
    assert list(folder.lines()) == [b"one\n"]
    parts.close()


def test_a_growing_object_has_every_line_once_it_was_flushed(
    bucket: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1ray.storage.appending.FLUSH_S", 60.0)
    growing = Growing(bucket / "metrics.jsonl")
    growing.append(b"one\n")
    with monkeypatch.context() as patch:

        def fails(path: StorePath, data: bytes) -> int:
            raise StoreError(path, "slow down")

        patch.setattr(StorePath, "write_bytes", fails)
        with pytest.raises(StoreError, match="slow down"):
            growing.flush()
    growing.flush()
    assert (bucket / "metrics.jsonl").read_bytes() == b"one\n"
    growing.append(b"two\n")
    growing.close()
    assert (bucket / "metrics.jsonl").read_bytes() == b"one\ntwo\n"


def test_what_cannot_be_written_is_told_to_the_next_that_appends_and_is_not_lost(
    bucket: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = PartFolder(bucket / "journal.jsonl")
    parts = folder.appender()
    with monkeypatch.context() as patch:

        def fails(path: StorePath, data: bytes) -> int:
            raise StoreError(path, "slow down")

        patch.setattr(StorePath, "write_bytes", fails)
        parts.append(b"one\n")
        with pytest.raises(StoreError, match="slow down"):
            parts.flush()
        with pytest.raises(OSError, match="slow down"):
            parts.append(b"two\n")
    parts.close()
    assert list(folder.lines()) == [b"one\n"]
