"""Batches are submitted within the provider's limits and once, whatever comes of the call that creates one."""

from __future__ import annotations

import itertools
import logging
import os
import time
from pathlib import Path

import pytest

from s1ray.schemas import Question
from s1ray.teachers.base import Ask, TeacherError
from s1ray.teachers.batches import running as running_batches
from s1ray.teachers.batches.openai import OpenAIBatches
from s1ray.teachers.batches.provider import Limits
from s1ray.teachers.ledger import TEACHER
from tests.support.batch_runs import asks, billed, run, teacher
from tests.support.batch_server import Answered, Batch, BatchServer, at_first

BROKEN: Answered = (0, {}, b'{"id": ')
ERROR: Answered = (500, {}, b"oh")


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("created", [False, True], ids=["before it", "after it"])
@pytest.mark.parametrize("answer", [BROKEN, ERROR, (200, {}, b"{}"), (200, {}, b"\xff")])
def test_a_creation_without_an_answer_is_looked_for_and_not_repeated(
    kind: str, created: bool, answer: Answered, server: BatchServer, tmp_path: Path
) -> None:
    script = at_first(server, "POST", "/batches", answer)
    if created:
        server.after = script
    else:
        server.before = script
    ledger = run(teacher(server, kind), asks(3), tmp_path)
    assert len(server.batches) == 1
    assert set(server.asked.values()) == {1}
    billed(server, ledger)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_batch_that_is_created_late_is_found(
    kind: str, server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_batches, "LISTED_S", 5)
    monkeypatch.setattr("s1ray.teachers.batches.client.TIMEOUT", 0.2)

    def slow(method: str, path: str) -> None:
        if method == "POST" and path.endswith("/batches"):
            time.sleep(1)

    server.before = slow
    ledger = run(teacher(server, kind), asks(3), tmp_path)
    assert len(server.batches) == 1
    billed(server, ledger)


def foreign(server: BatchServer, count: int) -> Batch:
    """A batch of somebody else, with so many requests."""
    body = {"messages": [{"content": "?"}], "thinking": {}, "max_tokens": 1}
    batch = Batch("batch_f0", [(f"theirs-{place}", body) for place in range(count)], looks=5)
    server.batches[batch.id] = batch
    return batch


def test_a_batch_of_others_with_as_many_requests_is_told_apart_when_it_has_ended(
    server: BatchServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign(server, 3)
    server.before = at_first(server, "POST", "/batches", ERROR)
    with caplog.at_level(logging.INFO, "s1ray"):
        ledger = run(teacher(server, "anthropic"), asks(3), tmp_path)
    assert "not certain yet whether it was created: batch batch_f0 has as many" in caplog.text
    assert "was not created: its questions are asked anew" in caplog.text
    assert set(server.asked.values()) == {1}
    assert len(ledger.answers) == 3


def test_a_batch_that_may_be_ours_and_cannot_be_read_ends_the_run_in_words(server: BatchServer, tmp_path: Path) -> None:
    foreign(server, 3).lines = []
    server.before = at_first(server, "POST", "/batches", ERROR)
    for _ in range(2):
        with pytest.raises(TeacherError, match=r"not certain whether it was created: batch batch_f0 .* delete that"):
            run(teacher(server, "anthropic"), asks(3), tmp_path)
    (record,) = (tmp_path / TEACHER).glob("*.json")
    record.unlink()
    billed(server, run(teacher(server, "anthropic"), asks(3), tmp_path))


def test_the_key_of_another_account_does_not_hide_a_batch(server: BatchServer, tmp_path: Path) -> None:
    broken = at_first(server, "POST", "/batches", BROKEN)
    server.after = broken

    def other(method: str, path: str) -> Answered | None:
        if method == "GET" and not path.endswith("/batches"):
            return 404, {}, b'{"error": "no such file"}'
        return (200, {}, b'{"data": [], "has_more": false}') if method == "GET" else None

    server.before = other
    for _ in range(2):
        with pytest.raises(TeacherError, match=r"not certain whether it was created: .* key may be of another account"):
            run(teacher(server), asks(3), tmp_path)
    server.before = lambda method, path: None
    ledger = run(teacher(server), asks(3), tmp_path)
    assert set(server.asked.values()) == {1}
    billed(server, ledger)


def test_a_server_without_a_list_ends_the_run_in_words(server: BatchServer, tmp_path: Path) -> None:
    unlisted: Answered = (404, {}, b"no list")

    def before(method: str, path: str) -> Answered | None:
        return (ERROR if method == "POST" else unlisted) if path.endswith("/batches") else None

    server.before = before
    with pytest.raises(TeacherError, match="lists no batches: status 404: no list"):
        run(teacher(server), asks(3), tmp_path)


def test_batches_keep_within_the_providers_bytes(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenAIBatches, "limits", Limits(requests=4, bytes=1500))
    long = Ask(Question(id="long", question="?" * 2000), 0)
    half = Ask(Question(id="half", question="half \ud83d"), 0)
    wanted = [*asks(10), long, half]
    ledger = run(teacher(server), wanted, tmp_path)
    assert all(len(content) <= 1500 for name, content in server.files.items() if "output" not in name)
    assert {len(batch.requests) for batch in server.batches.values()} <= {1, 2, 3, 4}
    assert set(ledger.answers) == {ask.id for ask in asks(10)}
    assert "more than 1,500 bytes" in ledger.failures["long-0"]
    assert "surrogate" in ledger.failures["half-0"]
    assert set(server.asked.values()) == {1}


def test_a_full_disk_ends_the_run_at_once_and_nothing_is_asked_twice(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced, times = os.replace, itertools.count()

    def full(source: str, target: str) -> None:
        if next(times) == 1:
            raise OSError(28, "No space left on device")
        replaced(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(TeacherError, match="No space left on device; make room"):
        run(teacher(server), asks(3), tmp_path)
    assert len(server.batches) == 1, "its id could not be noted"
    ledger = run(teacher(server), asks(3), tmp_path)
    assert set(server.asked.values()) == {1}
    billed(server, ledger)
