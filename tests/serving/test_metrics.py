from __future__ import annotations

import json

import pytest

from s1ray.serving import metrics
from s1ray.serving.config import Budgets
from s1ray.serving.metrics import OUTCOMES, ResponseMeter, outcome_of
from s1ray.serving.replica.accounting import RequestRecord, StreamAccountant
from s1ray.thinking import ThinkingBudget
from tests.support.plans import ANSWER, EOS, NEWLINE, PLAN, THINK, TURN, X

SHORT = PLAN.model_copy(update={"max_tokens": 3, "waits": 0, "wait_texts": ()})


class Counted:
    """A stand-in for Ray's metrics that records their values."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.values: list[tuple[str, float, dict[str, str]]] = []
        for kind in ("_counter", "_histogram", "_gauge"):
            monkeypatch.setattr(metrics, kind, self._metric)

    def _metric(self, name: str, description: str, *labels: str) -> object:
        assert description

        def record(number: float, tags: dict[str, str]) -> None:
            assert set(tags) == set(labels)
            self.values.append((name, number, tags))

        return type(
            "Metric", (), {"inc": staticmethod(record), "observe": staticmethod(record), "set": staticmethod(record)}
        )

    @property
    def names(self) -> list[str]:
        return [name.removeprefix("s1ray_") for name, _, _ in self.values]


def stream(accountant: StreamAccountant, *ids: int, finish: str | None = None) -> None:
    choice = {"index": 0, "token_ids": list(ids), "delta": {"content": "x"}, "finish_reason": finish}
    accountant.rewrite(f"data: {json.dumps({'choices': [choice]})}\n\n")


def test_a_stream_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    record = RequestRecord(plan=SHORT, budget=ThinkingBudget(max_tokens=3), meter=ResponseMeter("m", "alice", None))
    accountant = StreamAccountant(record)
    stream(accountant, TURN, THINK)
    stream(accountant, X)
    stream(accountant, X, X, NEWLINE, TURN)
    assert counted.names == ["time_to_first_token_seconds"]
    stream(accountant, ANSWER, X)
    stream(accountant, X, EOS, finish="stop")
    assert counted.names == ["time_to_first_token_seconds", "time_to_first_answer_token_seconds"]
    assert all(seconds > 0 for _, seconds, _ in counted.values)
    del counted.values[:]
    record.measure()
    numbers = {name: number for name, number, _ in counted.values}
    accounting = record.choices[0].forcer.accounting()
    assert numbers == {
        "s1ray_thinking_tokens_total": 3,
        "s1ray_answer_tokens_total": accounting.answer_tokens,
        "s1ray_forced_ends_total": 1,
    }
    assert {"model": "m", "client": "alice", "reason": "budget"} in [tags for _, _, tags in counted.values]


def test_a_stream_that_the_client_left_is_counted_up_to_there(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    record = RequestRecord(plan=SHORT, budget=ThinkingBudget(max_tokens=3), meter=ResponseMeter("m", "", None))
    stream(StreamAccountant(record), TURN, THINK, X, X)
    record.measure()
    assert ("s1ray_thinking_tokens_total", 2, {"model": "m", "client": ""}) in counted.values


def test_every_status_has_an_outcome() -> None:
    assert {outcome_of(status) for status in range(200, 600)} <= OUTCOMES.keys()
    assert [outcome_of(s) for s in (200, 400, 401, 404, 413, 429, 500, 503, 504)] == (
        ["ok", "invalid", "denied", "invalid", "invalid", "limited", "failed", "overloaded", "late"]
    )


def test_a_clients_own_maximum_narrows_every_budget() -> None:
    budgets = Budgets(default=50, maximum=100, effort={"none": 0, "low": 10, "high": 80, "max": "auto"})
    assert budgets.within(None) is budgets
    assert budgets.within(100) is budgets
    narrow = budgets.within(20)
    assert (narrow.default, narrow.maximum) == (20, 20)
    assert {name: narrow.effort[name] for name in ("none", "low", "medium", "high", "max")} == {
        "none": 0,
        "low": 10,
        "medium": 10,
        "high": 20,
        "max": "auto",
    }
    assert Budgets().within(20).maximum == 20
    assert Budgets(over_maximum="refuse").within(20).over_maximum == "refuse"
