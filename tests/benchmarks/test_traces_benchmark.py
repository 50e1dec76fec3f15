from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.traces import processes
from benchmarks.traces.arms import GENERATE, TRACES, Clock, Timing, Turns, _Timed
from benchmarks.traces.processes import started
from benchmarks.traces.report import Run, compare, markdown, read_runs, write_runs
from benchmarks.traces.workload import Workload, endless_miniature
from s1ray.generation.base import OnCall, Usage
from s1ray.teachers.base import Ask, Response

WORKLOAD = Workload("w", "miniature-base", questions=4, max_tokens=8, rounds=2)


class Fake:
    """Three tokens for every ask."""

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        for ask in asks:
            yield ask, Response(usage=Usage(completion_tokens=3))

    def close(self) -> None:
        pass


def test_a_timed_teacher_answers_its_asks_in_turns(tmp_path: Path) -> None:
    turns = Turns(tmp_path)
    asks = [ask for number in (1, 0) for ask in WORKLOAD.asks(number)]
    answered: list[Ask] = []

    def answer() -> None:
        answered.extend(ask for ask, _ in _Timed(Fake(), os.getpid(), turns).respond(asks, lambda call: None))

    working = threading.Thread(target=answer)
    working.start()
    for number in range(2):
        until(lambda number=number: turns.is_ready(number))
        time.sleep(0.1)
        assert len(answered) == 4 * number
        assert turns.timing(number) is None
        turns.give(number)
        until(lambda number=number: turns.timing(number) is not None)
        timing = turns.timing(number)
        assert timing is not None
        assert (timing.responses, timing.tokens) == (4, 12)
        assert timing.seconds < 10
    working.join()
    assert [ask.sample for ask in answered] == [0] * 4 + [1] * 4


def test_a_round_asks_the_same_with_other_seeds() -> None:
    first, second = WORKLOAD.asks(0), WORKLOAD.asks(1)
    assert [ask.question for ask in first] == [ask.question for ask in second]
    assert not {ask.id for ask in first} & {ask.id for ask in second}
    assert "logits_processors" not in WORKLOAD.plain_kwargs()


def test_an_arm_that_ends_early_is_told_with_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "POLL_S", 0.01)
    with pytest.raises(RuntimeError, match="KeyError: 'no such arm'"), started(["no such arm"], WORKLOAD):
        pass


def test_the_clock_counts_descendants() -> None:
    clock = Clock(os.getpid())
    sum(range(2_000_000))
    seconds, cpu = clock.stop()
    assert 0 < cpu <= 2 * seconds + 0.1


def test_ratios_are_taken_within_a_round(tmp_path: Path) -> None:
    def run(number: int, arm: str, seconds: float) -> Run:
        return Run("w", number, arm, Timing(seconds, 2 * seconds, 10, 100), 0.5, 0.0)

    runs = [run(1, GENERATE, 10.0), run(1, TRACES, 10.0), run(2, GENERATE, 40.0), run(2, TRACES, 20.0)]
    runs.append(run(3, GENERATE, 1.0))  # a round without the other arm
    write_runs(tmp_path / "results.json", runs, {"cores": 2})
    assert read_runs(tmp_path / "results.json") == runs
    assert json.loads((tmp_path / "results.json").read_text())["cores"] == 2
    found = compare(runs)["w"]
    assert isinstance(found, dict)
    throughput = found["throughput_ratio"]
    assert (throughput["smallest"], throughput["median"], throughput["largest"]) == (1.0, 1.5, 2.0)
    assert found["reached"]
    assert "| w | 1.50 (1.00 to 2.00) | 1.50 (1.00 to 2.00) | 2 |" in markdown(runs)


def test_the_endless_miniature_ends_at_a_token_that_it_does_not_write(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from s1ray.thinking.format import eos_ids_of

    folder = endless_miniature(tmp_path / "m")
    assert eos_ids_of(folder) == [999]
    assert AutoTokenizer.from_pretrained(folder).eos_token_id == 999


def until(what: object) -> None:
    assert callable(what)
    end = time.monotonic() + 10
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)
