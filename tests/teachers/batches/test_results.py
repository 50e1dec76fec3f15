"""Results of batches: what comes of each request, of one that failed, and of odd, missing or broken lines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from s1ray.teachers.asking import PASSES
from s1ray.teachers.ledger import TEACHER, read_answers
from tests.support.batch_runs import KINDS, asks, billed, run, teacher
from tests.support.batch_server import Batch, BatchServer, at_first


@pytest.mark.parametrize("kind", KINDS)
def test_every_ask_is_submitted_once_and_answered_once(kind: str, server: BatchServer, tmp_path: Path) -> None:
    wanted = asks(25)
    ledger = run(teacher(server, kind, {"requests": 10}), wanted, tmp_path)
    assert [len(batch.requests) for batch in server.batches.values()] == [10, 10, 5]
    assert server.asked == Counter(ask.question.question for ask in wanted)
    answers = read_answers(tmp_path, [ledger.answers[ask.id] for ask in wanted])
    assert [answer.thinking for answer in answers] == [f"thinking of {ask.question.question}" for ask in wanted]
    assert {answer.attempt for answer in answers} == {"4"}
    billed(server, ledger)
    assert not list((tmp_path / TEACHER).glob("*.results"))


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_no_answer_is_asked_again_in_another_batch(kind: str, server: BatchServer, tmp_path: Path) -> None:
    wanted = asks(12)
    script = {0: "error", 3: "unusable", 5: "expired", 7: "error"}
    places = {ask.question.question: place for place, ask in enumerate(wanted)}
    server.result = lambda question, times: script.get(places[question], "4") if times == 1 else "4"
    ledger = run(teacher(server, kind), wanted, tmp_path)
    assert set(ledger.answers) == {ask.id for ask in wanted}
    assert [len(batch.requests) for batch in server.batches.values()] == [12, 4]
    tally = ledger.tally(closed=True)
    assert (tally.answered, tally.failed) == (12, 4)
    billed(server, ledger)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_filter_stops_is_a_refusal_and_not_asked_again(kind: str, server: BatchServer, tmp_path: Path) -> None:
    wanted = asks(3)
    server.result = lambda question, times: "filtered" if question == wanted[1].question.question else "4"
    ledger = run(teacher(server, kind), wanted, tmp_path)
    answers = read_answers(tmp_path, [ledger.answers[ask.id] for ask in wanted])
    assert [answer.finish_reason for answer in answers] == ["stop", "content_filter", "stop"]
    assert "content filtering policy" in str(answers[1].raw_finish_reason)
    assert ledger.tally(closed=True).unmetered == 0
    billed(server, ledger)


@pytest.mark.parametrize("kind", KINDS)
def test_results_that_are_missing_or_damaged_are_lost_calls(kind: str, server: BatchServer, tmp_path: Path) -> None:
    wanted = asks(6)
    script = {1: "missing", 4: "damaged"}
    places = {ask.question.question: place for place, ask in enumerate(wanted)}
    server.result = lambda question, times: script.get(places[question], "4") if times == 1 else "4"

    def strange(batch: Batch) -> None:
        assert batch.lines is not None
        line = batch.lines[0].replace(batch.requests[-1][0].encode(), b"of-another")
        batch.lines[:0] = [line, b"\n", b"[]\n", b"[" * 100_000 + b"\n", batch.lines[0]]

    server.ended = strange
    ledger = run(teacher(server, kind), wanted, tmp_path)
    assert set(ledger.answers) == {ask.id for ask in wanted}
    assert server.asked.total() == 8
    billed(server, ledger, lost=2)


def test_a_batch_that_expired_with_nothing_but_an_error_file_costs_nothing(server: BatchServer, tmp_path: Path) -> None:
    server.result = lambda question, times: "expired"
    server.ended = lambda batch: setattr(batch, "status", "expired")
    ledger = run(teacher(server), asks(40), tmp_path)
    assert len(ledger.failures) == 40, "all are told as failed, however many there are"
    assert "could not be executed in time" in next(iter(ledger.failures.values()))
    tally = ledger.tally(closed=True)
    assert (tally.failed, tally.lost, tally.completion_tokens) == (40, 0, 0)
    assert len(server.batches) == 1, "a pass without an answer is the last one"


def test_what_a_cancelled_batch_did_not_ask_is_no_lost_call(server: BatchServer, tmp_path: Path) -> None:
    def cancel(batch: Batch) -> None:
        if len(server.batches) == 1:
            assert batch.lines is not None
            batch.status, batch.lines = "cancelled", batch.lines[:1]
            server.answered.clear()

    server.ended = cancel
    ledger = run(teacher(server), asks(3), tmp_path)
    assert len(ledger.answers) == 3
    tally = ledger.tally(closed=True)
    assert (tally.answered, tally.failed, tally.lost) == (3, 2, 0)


def test_requests_that_fail_for_good_fail_after_all_passes(server: BatchServer, tmp_path: Path) -> None:
    wanted = asks(5)
    bad = wanted[2].question.question
    good = {ask.question.question: place for place, ask in enumerate(wanted)}
    server.result = lambda question, times: "error" if question == bad or times <= good[question] % 2 else "4"
    ledger = run(teacher(server), wanted, tmp_path)
    assert list(ledger.failures) == [wanted[2].id]
    assert "the server had an error" in ledger.failures[wanted[2].id]
    assert server.asked[bad] == PASSES
    again = run(teacher(server), wanted, tmp_path)
    assert server.asked[bad] == PASSES + 1, "the next run asks again; no answer in the first pass is enough"
    billed(server, again)


def test_results_that_break_off_are_fetched_again(server: BatchServer, tmp_path: Path) -> None:
    server.before = at_first(server, "GET", "/content", (0, {}, b'{"custom_id": "x"}\n'))
    ledger = run(teacher(server), asks(3), tmp_path)
    assert server.calls["GET /v1/files/file_output_*/content"] == 2
    billed(server, ledger)


def test_an_answer_whose_line_in_the_ledger_is_damaged_is_fetched_again(server: BatchServer, tmp_path: Path) -> None:
    wanted = asks(4)
    run(teacher(server), wanted, tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], b"{\xff\n", *lines[2:]]))
    ledger = run(teacher(server), wanted, tmp_path)
    assert len(ledger.answers) == 4
    assert set(server.asked.values()) == {1}
    billed(server, ledger)
