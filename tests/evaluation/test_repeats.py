"""Independent repetitions of a run: seeds of their own, rows told apart, and none where they would be the same."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import JsonValue

from s1ray.config import ConfigError
from s1ray.evaluation.loading import load_results
from s1ray.evaluation.runner import plan
from s1ray.generation import GenerationRequest
from tests.evaluation.test_runner import benchmark_file, config, scripted
from tests.support.evaluations import run_eval

__all__ = ["benchmark_file"]

DRAWN: JsonValue = {"samples": 2, "temperature": 0.7}


def test_repetitions_have_seeds_of_their_own_and_the_first_is_the_run_without(benchmark_file: Path) -> None:
    seeds: dict[str, set[int | None]] = defaultdict(set)

    def look(request: GenerationRequest) -> None:
        seeds[request.id].add(request.seed)

    one = run_eval(config(benchmark_file, "one", limit=4, sampling=DRAWN), engines=scripted(fail=look))
    once = {key: set(found) for key, found in seeds.items()}
    three = run_eval(config(benchmark_file, limit=4, sampling=DRAWN, repeats=3), engines=scripted(fail=look))
    assert all(len(found) == 3 for found in seeds.values()), "arms share seeds, repetitions do not"
    assert all(once[key] < seeds[key] for key in once)
    rows = pq.read_table(three.path / "evaluations.parquet", filters=[("repeat", "=", 0)])
    assert rows.equals(pq.read_table(one.path / "evaluations.parquet"))


def test_rows_of_repetitions_are_told_apart_and_read_in_order(benchmark_file: Path) -> None:
    settings = config(benchmark_file, limit=4, sampling=DRAWN, repeats=3)
    run = run_eval(settings, engines=scripted())
    table = pq.read_table(run.path / "evaluations.parquet")
    arms = list(zip(*(table[name].to_pylist() for name in ("model", "arm", "id")), strict=True))
    assert len(set(arms)) == len(arms) == 7 * 4 * 3 * 2
    for row in table.slice(0, 6).to_pylist():
        suffix = f"-r{row['repeat']}" if row["repeat"] else ""
        assert row["id"] == f"{row['question_id']}-{row['sample']}{suffix}"
    order = [(row["repeat"], row["sample"]) for row in table.slice(0, 6).to_pylist()]
    assert order == [(repeat, sample) for repeat in range(3) for sample in range(2)]
    for result in load_results([run.path]).arms:
        assert {len(verdicts) for verdicts in result.correct.values()} == {6}
    assert any("4 questions" in line and "2 sample(s) each, 3 times" in line for line in plan(settings))


def test_repetitions_that_would_be_the_same_are_refused_and_drawn_ones_are_not(benchmark_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"repeats is 2, but arm 'max=0' asks at temperature 0"):
        config(benchmark_file, repeats=2)
    drawn: JsonValue = [{"strategy": "majority", "votes": 3}]
    models: JsonValue = [{"label": "sft", "name": "s"}]
    config(benchmark_file, repeats=2, sweep=None, arms=drawn, models=models)
