"""Asking in batches: what comes of each result, of odd files, and of providers that refuse, forget or are busy."""

from __future__ import annotations

import itertools
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import JsonValue, TypeAdapter

from s1ray.schemas import Question, question_id
from s1ray.secrets import Secret
from s1ray.teachers.asking import PASSES, ask_all
from s1ray.teachers.base import Ask, TeacherError
from s1ray.teachers.batches import running as running_batches
from s1ray.teachers.batches.openai import OpenAIBatches
from s1ray.teachers.batches.provider import Limits
from s1ray.teachers.endpoints import AnthropicTeacher, EndpointTeacher, OpenAITeacher, ResponsesTeacher
from s1ray.teachers.ledger import TEACHER, Ledger, read_answers
from s1ray.teachers.spending import allowance
from tests.support.batch_server import Answered, Batch, BatchServer, batch_server

KINDS = ("openai", "responses", "anthropic")
CLASSES: dict[str, type[EndpointTeacher]] = {
    "openai": OpenAITeacher,
    "responses": ResponsesTeacher,
    "anthropic": AnthropicTeacher,
}


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with batch_server() as found:
        yield found


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_batches, "LISTED_S", 0.2)


def asks(count: int) -> list[Ask]:
    texts = [f"What is {number} + {number}?" for number in range(count)]
    return [Ask(Question(id=question_id(text), question=text), 0) for text in texts]


def teacher(server: BatchServer, kind: str = "openai", batch: dict[str, JsonValue] | None = None) -> EndpointTeacher:
    """Looks at its batches every 20 ms."""
    fields: dict[str, JsonValue] = {"kind": kind, "base_url": server.url, "model": "m"}
    fields["batch"] = {"poll": 0.02, **(batch or {})}
    if kind == "anthropic":
        fields["thinking"] = {"max_tokens": 2048}
    return CLASSES[kind].model_validate(fields)


def run(config: EndpointTeacher, wanted: list[Ask], folder: Path) -> Ledger:
    """What the collector does in an actor, and the ledger afterwards."""
    running = config.start(0, folder / TEACHER)
    try:
        ask_all(running, config, wanted, folder)
    finally:
        running.close()
    return read(folder)


def read(folder: Path) -> Ledger:
    ledger = Ledger(folder)
    ledger.read()
    return ledger


def billed(server: BatchServer, ledger: Ledger, lost: int = 0) -> None:
    """The ledger's count of calls and tokens is the server's."""
    tally = ledger.tally(closed=True)
    assert (tally.sent, tally.lost) == (server.asked.total(), lost)
    if not lost:
        assert (tally.prompt_tokens, tally.completion_tokens) == (server.prompt_tokens, server.completion_tokens)


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


def test_busy_servers_are_asked_on(
    server: BatchServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles = iter([429, 503, 500, 0, 429, 0] + [502] * 3)
    monkeypatch.setattr("s1ray.teachers.batches.client.MAX_PAUSE", 0.01)
    busy = {"error": {"message": "try later"}}

    def trouble(method: str, path: str) -> Answered | None:
        status = next(troubles, 0)
        return (status, {"Retry-After": "1e300"}, json.dumps(busy).encode()) if status else None

    server.before = trouble
    with caplog.at_level(logging.INFO, "s1ray"):
        ledger = run(teacher(server), asks(3), tmp_path)
    assert len(ledger.answers) == 3
    assert set(server.asked.values()) == {1}
    billed(server, ledger)
    assert any("no batch could be submitted: status 429: try later" in line for line in caplog.messages)


def at_first(server: BatchServer, method: str, end: str, answer: Answered) -> Callable[[str, str], Answered | None]:
    """An answer for the first request of its kind."""
    times = iter([answer])
    return lambda asked, path: next(times, None) if asked == method and path.endswith(end) else None


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


def test_results_that_break_off_are_fetched_again(server: BatchServer, tmp_path: Path) -> None:
    server.before = at_first(server, "GET", "/content", (0, {}, b'{"custom_id": "x"}\n'))
    ledger = run(teacher(server), asks(3), tmp_path)
    assert server.calls["GET /v1/files/file_output_*/content"] == 2
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


@pytest.mark.parametrize("kind", KINDS)
def test_the_log_says_what_becomes_of_a_batch(
    kind: str, server: BatchServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "s1ray"):
        run(teacher(server, kind), asks(3), tmp_path)
    (batch,) = server.batches
    lines = [line.replace(batch, "B") for line in caplog.messages]
    assert lines[0] == f"traces: batch B (3 requests) was submitted to {server.url}"
    assert lines[-1] == "traces: batch B (3 requests) gave 3 answers and 0 failures"
    assert len(lines) == 4, "each change once, however often it is looked at"


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("when", ["create", "look"])
def test_a_key_that_is_refused_ends_the_run_in_words(
    kind: str, when: str, server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_KEY", "sk-123")
    refused: Answered = 401, {}, b'{"error": {"message": "no such key: sk-123"}}'
    server.before = lambda method, path: refused if (method == "GET") == (when == "look") else None
    config = teacher(server, kind).model_copy(update={"api_key": Secret.parse("env:BATCH_KEY")})
    with pytest.raises(TeacherError, match=r"status 401: no such key: \(key\); .*run again"):
        run(config, asks(2), tmp_path)
    assert server.keys == {"Bearer sk-123" if kind == "openai" else "sk-123"}
    server.before = lambda method, path: None
    ledger = run(config, asks(2), tmp_path)
    assert set(server.asked.values()) == {1}
    billed(server, ledger)
    assert not any(b"sk-123" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_batch_that_is_gone_is_paid_twice_only_when_that_is_wanted(
    kind: str, server: BatchServer, tmp_path: Path
) -> None:
    wanted = asks(3)

    def forget(method: str, path: str) -> Answered | None:
        if method == "POST" and path.endswith("/batches") and len(server.batches) == 1:
            server.batches["forgotten"] = server.batches.pop(next(iter(server.batches)))
        return None

    server.after = forget
    for _ in range(2):
        with pytest.raises(TeacherError, match=r"status 404.*teacher\.batch\.lost=ask_again.*may be paid twice"):
            run(teacher(server, kind), wanted, tmp_path)
    assert set(server.asked.values()) == {1}
    ledger = run(teacher(server, kind, {"lost": "ask_again"}), wanted, tmp_path)
    assert len(ledger.answers) == 3
    tally = ledger.tally(closed=True)
    assert (tally.sent, tally.answered, tally.lost) == (6, 3, 3)
    assert tally.lost_prompt_tokens > 0


def test_a_batch_that_fails_its_validation_ends_the_run_in_words(server: BatchServer, tmp_path: Path) -> None:
    server.refuse = lambda batch: [{"code": "invalid_model", "line": 3, "message": "no such model"}]
    with pytest.raises(TeacherError, match=r"nothing of it was asked: line 3: no such model \(invalid_model\)"):
        run(teacher(server), asks(3), tmp_path)
    server.refuse = lambda batch: []
    ledger = run(teacher(server), asks(3), tmp_path)
    billed(server, ledger)


def test_batches_that_the_account_has_no_room_for_wait_for_the_others(server: BatchServer, tmp_path: Path) -> None:
    def crowded(batch: Batch) -> list[dict[str, str]]:
        others = [other for other in server.batches.values() if not other.ended]
        return [{"code": "token_limit_exceeded", "message": "enqueued"}] if len(others) > 1 else []

    server.refuse = crowded
    wanted = asks(20)
    ledger = run(teacher(server, batch={"requests": 4}), wanted, tmp_path)
    assert set(server.asked.values()) == {1}
    assert len(ledger.answers) == 20
    billed(server, ledger)
    server.refuse = lambda batch: [{"code": "token_limit_exceeded", "message": "enqueued"}]
    with pytest.raises(TeacherError, match=r"make teacher\.batch\.requests smaller"):
        run(teacher(server), asks(21), tmp_path)


def test_a_batch_that_takes_too_long_ends_the_run_and_the_next_one_waits_on(
    server: BatchServer, tmp_path: Path
) -> None:
    server.looks = 10**6
    with pytest.raises(TeacherError, match="has not ended after 1e-05 hours"):
        run(teacher(server, batch={"hours": 1e-5}), asks(2), tmp_path)
    next(iter(server.batches.values())).looks = 0
    ledger = run(teacher(server), asks(2), tmp_path)
    assert len(server.batches) == 1
    billed(server, ledger)


def test_batches_under_way_are_not_forgotten_when_one_asks_one_by_one(server: BatchServer, tmp_path: Path) -> None:
    server.looks = 10**6
    with pytest.raises(TeacherError):
        run(teacher(server, batch={"hours": 1e-5}), asks(2), tmp_path)
    alone = teacher(server).model_copy(update={"batch": None})
    with pytest.raises(TeacherError, match=r"1 batches .* under way .*give teacher\.batch again"):
        alone.start(0, tmp_path / TEACHER)


def test_a_second_process_does_not_wait_for_the_same_batches(server: BatchServer, tmp_path: Path) -> None:
    running = teacher(server).start(0, tmp_path)
    with pytest.raises(TeacherError, match=r"process \d+ on .* waits for these batches"):
        teacher(server).start(0, tmp_path)
    running.close()
    teacher(server).start(0, tmp_path).close()


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


def test_a_record_that_cannot_be_read_is_not_passed_over(server: BatchServer, tmp_path: Path) -> None:
    (tmp_path / TEACHER).mkdir()
    (tmp_path / TEACHER / "0123456789abcdef.json").write_text('{"key": "0123')
    with pytest.raises(Exception, match="the record of a batch cannot be read"):
        run(teacher(server), asks(1), tmp_path)
    assert not server.asked


def test_what_a_batch_costs_is_a_share_of_the_prices(server: BatchServer) -> None:
    config = teacher(server).model_dump(mode="json") | {"prices": {"prompt": 2, "completion": 8}}
    prices = TypeAdapter(OpenAITeacher).validate_python(config).price_list
    assert prices is not None
    assert (prices.prompt, prices.completion, prices.share) == (1, 4, 0.5)


def test_max_spend_holds_whatever_an_earlier_start_has_under_way(server: BatchServer, tmp_path: Path) -> None:
    fields = {"prices": {"prompt": 1000, "completion": 10_000}, "max_tokens": 100, "max_spend": 2.0}
    config = OpenAITeacher.model_validate(teacher(server).model_dump(mode="json") | fields)
    allowed, wanted = allowance(config), asks(40)
    assert allowed is not None
    most = [allowed.at_most(config.prompt_tokens_at_most(ask.question.question)) for ask in wanted]
    fit = sum(sum(most[: place + 1]) <= 2 for place in range(len(wanted)))
    assert 1 < fit < 10
    broken = wanted[1].question.question
    server.result = lambda question, times: "unusable" if question == broken and times < 3 else "4"

    def after(method: str, path: str) -> None:
        # Open requests at their most, and what the others have cost, at half the price.
        if method == "POST" and path.endswith("/batches"):
            spent = (server.prompt_tokens * 1000 + server.completion_tokens * 10_000) / 2e6
            under_way = sum(len(batch.requests) for batch in server.batches.values() if not batch.ended)
            assert spent + under_way * min(most) <= 2.0

    server.after = after
    server.looks = 10**6
    hasty = OpenAITeacher.model_validate(config.model_dump(mode="json") | {"batch": {"poll": 0.02, "hours": 1e-6}})
    running = hasty.start(0, tmp_path / TEACHER)
    with pytest.raises(TeacherError, match="has not ended"):
        ask_all(running, hasty, wanted, tmp_path, allowance=allowed)
    running.close()
    assert len(server.asked) == fit
    server.looks = 1
    for batch in server.batches.values():
        batch.looks = 0
    running = config.start(0, tmp_path / TEACHER)
    held_back = ask_all(running, config, wanted, tmp_path, allowance=allowed)
    running.close()
    ledger = read(tmp_path)
    assert len(held_back) == len(wanted) - len(ledger.answers) > 0
    assert len(ledger.answers) > fit
    assert server.asked.total() == len(server.asked) + server.asked[broken] - 1
    billed(server, ledger)


def test_settings_of_calls_one_by_one_have_no_effect_and_are_named(
    server: BatchServer, caplog: pytest.LogCaptureFixture
) -> None:
    config = teacher(server).model_copy(update={"concurrency": 7, "attempts": 2})
    config.check()
    teacher(server).check()
    config.model_copy(update={"batch": None}).check()
    assert caplog.messages == ["teacher.concurrency, attempts: no effect in batches"]


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
