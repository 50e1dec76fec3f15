"""A ledger in an object store: what was answered is there after a kill, but for the last seconds."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from s1ray.manifests import RunError
from s1ray.storage import StoreError, StorePath
from s1ray.teachers.ledger import WRITERS, Ledger, Writer, read_answers
from tests.support.object_store import bucket, s3_environment, s3_server

__all__ = ["bucket", "s3_environment", "s3_server"]

ANSWER = {
    "thinking": "t",
    "attempt": "a",
    "finish_reason": "stop",
    "raw_finish_reason": None,
    "model_version": None,
    "usage": None,
}
WRITE = """
import sys, time
from s1ray.storage import appending
from s1ray.teachers.ledger import Writer
from tests.teachers.test_ledger_in_stores import ANSWER
appending.FLUSH_S = 0.5
from s1ray.storage import location
writer = Writer(location(sys.argv[1]))
for number in range(1000):
    writer.add("answered", f"ask-{number}", call=number, **ANSWER)
    print(number, flush=True)
    time.sleep(0.02)
"""


def test_answers_are_read_from_many_parts(bucket: StorePath) -> None:
    folder = bucket / "responses"
    writer = Writer(folder)
    for number in range(5):
        writer.add("answered", f"ask-{number}", call=number, **ANSWER | {"thinking": "ä" * number})
        writer._file._parts.flush()  # type: ignore[union-attr]
    ledger = Ledger(str(folder))
    ledger.read()
    assert list(ledger.answers) == [f"ask-{number}" for number in range(5)]
    writer.add("unanswered", "ask-9", reason="no luck")
    writer.close()
    ledger.read()
    assert ledger.failures == {"ask-9": "no luck"}
    places = [ledger.answers[f"ask-{number}"] for number in (3, 0, 4)]
    assert [answer.thinking for answer in read_answers(folder, places)] == ["äää", "", "ääää"]
    assert list((folder / WRITERS).glob("*.json")) == []
    ledger.wait_until_closed()


def test_a_call_that_begins_and_ends_in_two_parts_is_one(bucket: StorePath) -> None:
    writers = [Writer(bucket / "responses") for _ in range(2)]
    for writer in writers:
        writer.add("sent", "ask-1", call=1, prompt=10)
        writer._file._parts.flush()  # type: ignore[union-attr]
    writers[1].add("answered", "ask-1", call=1, **ANSWER)
    for writer in writers:
        writer.close()
    ledger = Ledger(bucket / "responses")
    ledger.read()
    tally = ledger.tally(closed=True)
    assert (tally.sent, tally.answered, tally.lost, tally.lost_prompt_tokens) == (2, 1, 1, 10)


def test_a_damaged_line_is_put_aside_in_the_store(bucket: StorePath) -> None:
    (bucket / "responses" / "0-a.jsonl").write_bytes(b"{broken\n")
    ledger = Ledger(bucket / "responses")
    ledger.read()
    assert ledger.damaged == 1
    assert [path.read_bytes() for path in (bucket / "responses" / "quarantine").glob("*")] == [b"{broken\n"]


def test_a_killed_process_loses_the_last_seconds_alone_and_is_not_waited_for(bucket: StorePath) -> None:
    folder = bucket / "responses"
    command = [sys.executable, "-c", WRITE, str(folder)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert child.stdout is not None
    said = [int(child.stdout.readline()) for _ in range(150)]
    child.kill()
    said += [int(line) for line in child.stdout.read().split()]
    child.wait()
    began = time.monotonic()
    ledger = Ledger(folder)
    ledger.wait_until_closed()
    assert time.monotonic() - began < 30
    ledger.read()
    answered = len(ledger.answers)
    assert list(ledger.answers) == [f"ask-{number}" for number in range(answered)], "nothing is missing in between"
    assert answered > 0


def test_a_store_that_takes_nothing_more_ends_the_run_in_words(
    bucket: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1ray.storage.appending.FLUSH_S", 0.1)
    writer = Writer(bucket / "responses")

    def fails(path: StorePath, data: bytes) -> int:
        raise StoreError(path, "slow down")

    monkeypatch.setattr(StorePath, "write_bytes", fails)
    with pytest.raises(RunError, match=r"cannot be written: .*slow down"):
        _write_on(writer)
    with pytest.raises(RunError, match="slow down"):
        writer.close()


def _write_on(writer: Writer) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        writer.add("answered", "ask", call=1, **ANSWER)
