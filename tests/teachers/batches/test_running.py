"""Runs in batches: providers that are busy, refuse or forget, batches of an earlier start, and what batches cost."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from s1ray.secrets import Secret
from s1ray.teachers.asking import ask_all
from s1ray.teachers.base import TeacherError
from s1ray.teachers.endpoints import OpenAITeacher
from s1ray.teachers.ledger import TEACHER
from s1ray.teachers.spending import allowance
from tests.support.batch_runs import KINDS, asks, billed, read, run, teacher
from tests.support.batch_server import Answered, Batch, BatchServer


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
