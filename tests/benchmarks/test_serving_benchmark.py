from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.serving.servers import flags, model_config
from benchmarks.serving.soak import Report
from benchmarks.serving.throughput import Paired, Run, compare, read_runs, write_runs


def run(arm: str, number: int, tokens_per_s: float, ttft_ms: float, concurrency: int = 16) -> Run:
    return Run(
        arm=arm,
        round=number,
        concurrency=concurrency,
        requests=10,
        failed=0,
        seconds=1.0,
        output_tokens=1000,
        tokens_per_s=tokens_per_s,
        ttft_p50_ms=ttft_ms,
        ttft_p95_ms=ttft_ms,
        itl_p50_ms=5.0,
        cpu_s={"engine": 2.0, "replica": 0.5},
    )


def test_servers_are_compared_within_a_round() -> None:
    # The machine is half as fast in the second round: the ratio is the same.
    runs = [run("vllm", 1, 100, 20), run("direct", 1, 96, 30), run("worker", 1, 70, 90)]
    runs += [run("vllm", 2, 50, 50), run("direct", 2, 48, 60), run("worker", 2, 30, 150)]
    runs += [run("direct", 3, 1, 500)]
    (row,) = compare(runs)
    assert row.rounds == 2
    assert row.throughput_ratio == {"direct": Paired(0.96, [0.96, 0.96]), "worker": Paired(0.65, [0.7, 0.6])}
    assert (row.added_ttft_p50_ms["direct"].median, row.added_ttft_p50_ms["worker"].median) == (10, 85)
    assert row.goals_met["direct"] == {"throughput": True, "ttft": True}
    assert row.goals_met["worker"] == {"throughput": False, "ttft": False}
    assert row.medians["direct"]["tokens_per_s"] == 72
    assert row.cpu_ms_per_token["vllm"] == {"engine": 2.0, "replica": 0.5}
    assert row.outside_engine_ms_per_token == {"vllm": 0.5, "direct": 0.5, "worker": 0.5}
    assert compare(runs[-1:]) == []


def test_runs_are_kept_and_added_to(tmp_path: Path) -> None:
    path = tmp_path / "throughput.json"
    assert read_runs(path) == []
    runs = [run("s1ray", 1, 95, 30), run("vllm", 1, 100, 20, concurrency=64)]
    write_runs(path, runs, {"cores": 2})
    assert read_runs(path) == runs


@pytest.mark.parametrize(
    ("later", "slope"), [(lambda when: 100.0, 0.0), (lambda when: 100.0 + when / 60, 60.0), (lambda when: 90.0, 0.0)]
)
def test_growth_is_measured_after_the_warm_up(later: Callable[[float], float], slope: float) -> None:
    report = Report(minutes=10)
    for when in range(0, 600, 10):
        report.memory_mib.append((when, {"engine": 5.0 if when < 150 else later(when)}))
    growth = report.growth()["engine"]
    assert growth["begin_mib"] > 80
    assert growth["mib_per_hour"] == pytest.approx(slope, abs=0.5)


def test_vllms_server_gets_the_same_engine_without_budget_forcing() -> None:
    words = flags(model_config(engine_kwargs={"enable_prefix_caching": False}))
    assert "--enforce-eager" in words
    assert "--no-enable-chunked-prefill" in words
    assert "--no-enable-prefix-caching" in words
    assert words[words.index("--max-num-seqs") + 1] == "64"
    assert not any("logits" in word or "log-stats" in word for word in words)
