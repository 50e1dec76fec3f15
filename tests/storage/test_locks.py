"""One writer at a time: locks of the system, and tickets in a store."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from s1ray.storage import LostError, NoLocksError, StoreError, StorePath, TakenError, location, take

HOLD = """
import sys, time
from s1ray.storage import location, take
lock = take(location(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"LIVE_S": 3.0, "RENEW_S": 0.3, "LOST_S": 2.0, "WATCH_S": 0.1}.items():
        monkeypatch.setattr(f"s1ray.storage.locks.{name}", seconds)


@pytest.mark.parametrize("kind", ["local", "store"])
def test_a_lock_is_one_process_s_until_it_is_released_or_dies(kind: str, tmp_path: Path, bucket: StorePath) -> None:
    place = (tmp_path if kind == "local" else bucket) / ".lock"
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(place)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    with pytest.raises(TakenError, match=f"process {child.pid} on "):
        take(place)
    child.kill()
    child.wait()
    # At once: a store's ticket names a process of this machine that is no more.
    lock = take(place)
    lock.check()
    lock.release()
    take(place).release()


def test_storage_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(NoLocksError, match="keeps no locks"):
        take(tmp_path / ".lock")


def test_of_many_that_come_at_once_at_most_one_gets_a_lock(bucket: StorePath) -> None:
    barrier, held = threading.Barrier(8), list[object]()

    def come(_: int) -> None:
        barrier.wait()
        with contextlib.suppress(TakenError):
            held.append(take(bucket / ".lock"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(come, range(8)))
    assert len(held) <= 1
    for lock in held:
        lock.release()  # type: ignore[attr-defined]
    take(bucket / ".lock").release()


def test_a_holder_s_ticket_lives_on_and_a_dead_one_is_taken_over(bucket: StorePath, quick: None) -> None:
    place = bucket / ".lock"
    (place / "0-dead.json").write_text(json.dumps({"who": "process 1 on gone", "process": 1, "boot": "other"}))
    with pytest.raises(TakenError, match="process 1 on gone"):
        take(place)
    time.sleep(4)
    lock = take(place)
    assert [path.name for path in place.glob("*dead*")] == []
    time.sleep(4)
    lock.check()
    with pytest.raises(TakenError):
        take(place)
    lock.release()


def test_a_holder_whose_ticket_was_deleted_stops(bucket: StorePath, quick: None) -> None:
    told = threading.Event()
    lock = take(bucket / ".lock", told.set)
    until = time.monotonic() + 10
    while not told.is_set():
        assert time.monotonic() < until
        # Again and again: a renewal that is under way writes it anew.
        for ticket in (bucket / ".lock").glob("*.json"):
            ticket.unlink(missing_ok=True)
    with pytest.raises(LostError, match="taken for dead"):
        lock.check()


def test_a_holder_that_cannot_reach_the_store_stops_in_time(
    bucket: StorePath, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, began = threading.Event(), time.monotonic()
    lock = take(bucket / ".lock", told.set)

    def hangs(path: StorePath) -> bool:
        time.sleep(10)
        raise StoreError(path, "unreachable")

    monkeypatch.setattr(StorePath, "is_file", hangs)
    assert told.wait(5)
    assert time.monotonic() - began < 5
    with pytest.raises(LostError, match="could not be renewed"):
        lock.check()


def test_machines_that_do_not_know_their_start_are_not_taken_for_one(
    bucket: StorePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1ray.storage.locks._BOOT", tmp_path / "none")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    about = {"who": "process 1 on another", "process": ended.pid, "boot": None, "began": "1"}
    (bucket / ".lock" / "0.json").write_text(json.dumps(about))
    with pytest.raises(TakenError, match="process 1 on another"):
        take(bucket / ".lock")


def test_a_ticket_that_nobody_can_read_counts_as_live(bucket: StorePath) -> None:
    ((bucket / ".lock") / "0.json").write_text("{")
    with pytest.raises(TakenError, match="another process"):
        take(location(str(bucket / ".lock")))
