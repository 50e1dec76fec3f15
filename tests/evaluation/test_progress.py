"""What a run says of itself while it goes on: accuracies so far, money, and what calls of no use took."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from s1ray.evaluation.benchmarks import load_benchmarks
from s1ray.evaluation.config import Endpoint
from s1ray.evaluation.count import ArmCount, Verdicts
from s1ray.evaluation.progress import Progress
from s1ray.evaluation.strategies.cost import Cost
from s1ray.evaluation.tasks import Cell, all_cells, failure, missing_tasks
from s1ray.evaluation.traffic import Record, Traffic
from s1ray.generation.base import Call, Usage
from s1ray.grading.interval import clustered_interval, wilson_interval
from s1ray.manifests import RunError
from s1ray.schemas import Evaluation
from s1ray.teachers.bill import Prices
from tests.evaluation.test_runner import benchmark_file, config

__all__ = ["benchmark_file"]


def rows_of(cells: list[Cell], right: int) -> list[Evaluation]:
    """A row of every task; of each cell so many are right."""
    rows = []
    for cell in cells:
        for number, task in enumerate(missing_tasks([cell], lambda *_: True)):
            row = dataclasses.replace(failure(task, "x", Cost()), error=None, thinking_tokens=10)
            verdict = "correct" if number < right else "incorrect"
            rows.append(dataclasses.replace(row, verdict=verdict, correct=number < right))
    return rows


def cells_of(file: Path, **changes: object) -> list[Cell]:
    settings = config(file, limit=20, **changes)  # type: ignore[arg-type]
    return all_cells(settings, load_benchmarks(settings.all_benchmarks(), settings.limit, settings.grader))


def test_the_line_has_accuracies_with_intervals_money_speed_and_the_time_left(
    benchmark_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("s1ray.evaluation.progress.time.monotonic", lambda: clock[0])
    cells = cells_of(benchmark_file)
    progress = Progress(cells, lambda: {"USD": 1.25})
    rows = rows_of(cells, right=15)
    progress.found(rows[0])
    clock[0] = 8.0
    for row in rows[1:21]:
        progress.finished(row)
    line = progress.line()
    assert "eval: 21 of 140 responses, 25 tokens/s, 2.5 samples/s, 200 tokens, 1.25 USD, about 48 s left" in line
    low, high = wilson_interval(15, 20)
    assert f"base max=0: 75.0 % ({100 * low:.1f} to {100 * high:.1f}, 20 questions)" in line
    for row in rows[21:]:
        progress.finished(row)
    assert "and 1 more arms" in progress.line()
    assert "left" not in progress.line()


def test_verdicts_of_several_samples_have_the_interval_of_clusters(benchmark_file: Path) -> None:
    (cell,) = cells_of(
        benchmark_file,
        sweep={"max_tokens": [8]},
        models=[{"label": "m", "name": "m"}],
        sampling={"samples": 4, "temperature": 1},
    )
    verdicts = Verdicts(cell)
    for row in rows_of([cell], right=30):
        verdicts.add(row)
    found = verdicts.accuracy
    assert found is not None
    shares = [1.0] * 7 + [0.5] + [0.0] * 12
    assert found.value == pytest.approx(30 / 80)
    assert (found.low, found.high) == pytest.approx(clustered_interval(shares, 4))


def test_failed_rows_are_counted_and_the_first_is_remembered(benchmark_file: Path) -> None:
    cell = cells_of(benchmark_file)[0]
    count, rows = ArmCount(cell), rows_of([cell], right=5)
    failed = dataclasses.replace(rows[3], error="gone", verdict="failed", correct=False)
    for row in [*rows[:3], failed, *rows[4:]]:
        count.add(row)
    assert (count.answered, count.errors, count.first_failed) == (19, 1, failed)
    assert count.figures()["thinking_tokens"] == 10
    assert count.figures()["correct"] == 4


def test_what_calls_of_no_use_took_outlives_a_kill(tmp_path: Path) -> None:
    endpoint = Endpoint(prices=Prices(prompt=1.0, completion=2.0), concurrency=4)
    record = Record(tmp_path / "calls.json", [Traffic(endpoint)])
    (traffic,) = record.traffics
    for call in (
        Call("a", 1, "sent"),
        Call("a", 1, "retried", reason="status 500: broken", seconds=2.0),
        Call("a", 2, "sent", seconds=0.5),
        Call("a", 2, "answered", Usage(prompt_tokens=1_000_000, completion_tokens=500_000), seconds=3.0),
        Call("b", 1, "sent"),
        Call("b", 1, "lost", reason="CancelledError", seconds=9.0),
    ):
        traffic(call)
    record.keep(now=True)
    moved = endpoint.model_copy(update={"base_url": "http://127.0.0.1:8001/v1"})
    again = Record(tmp_path / "calls.json", [Traffic(moved)])
    assert again.spent == {"USD": 2.0}
    figures = again.traffics[0].figures()
    assert figures["useless"] == {"status 500": {"calls": 1, "seconds": 2.0}}
    assert (figures["seconds_lost"], figures["cancelled"], figures["calls"]["sent"]) == (2.5, 1, 3)
    line = again.traffics[0].line()
    assert line is not None
    assert "1 status 500; that took 2 s of requests (about 1 s of the run, with 4 in flight)" in line
    assert Traffic(endpoint).line() is None


def test_a_run_does_not_go_on_by_another_api(tmp_path: Path) -> None:
    Record(tmp_path / "calls.json", [Traffic(Endpoint())]).keep(now=True)
    with pytest.raises(
        RunError, match=r"endpoint\.api: the run began with openai .* go on with responses; set it back"
    ):
        Record(tmp_path / "calls.json", [Traffic(Endpoint(api="responses"))])
