"""The simulation of the autoscaling benchmark: engine, accounting, and the calls of the policies."""

from __future__ import annotations

import json
import math
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.serve._private import autoscaling_state
from ray.serve._private.common import DeploymentHandleSource, HandleMetricReport, TimeStampedValue

from benchmarks.autoscaling import __main__ as benchmark
from benchmarks.autoscaling import decision
from benchmarks.autoscaling.engine import Engine, Hardware, Request
from benchmarks.autoscaling.policies import Arm, Controller, quiet, simulated_clock
from benchmarks.autoscaling.report import WAIT_PRICE, Compared, Measured, measured, results, write_plot
from benchmarks.autoscaling.runs import Pool, run
from benchmarks.autoscaling.simulation import Outcome, simulate
from benchmarks.autoscaling.traffic import FLEET, TRACES, Bounds
from s1ray.serving.scaling.policy import QueueDepthPolicy

OURS, RAY = Arm("ours", {}), Arm("ray", {"policy": "ray"})
SMALL = Hardware(kv_tokens=10_000, max_num_seqs=4, start_s=30)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet()


def drive(engine: Engine, requests: list[Request]) -> None:
    """Add requests to an engine when they arrive, and let it decode until it is idle."""
    arriving = list(requests)
    while arriving or engine.ongoing:
        at = engine.next_event()
        if arriving and arriving[0].arrived <= at:
            engine.add(arriving[0], arriving.pop(0).arrived)
        else:
            engine.advance(at)
        assert engine.cached <= SMALL.kv_tokens + 1
        assert engine.decoding <= SMALL.max_num_seqs


def test_a_request_alone_takes_its_tokens_times_a_step() -> None:
    request = Request(5.0, 800, 1000)
    drive(Engine(SMALL, 0.0), [request])
    assert request.begun == 5.0
    assert request.ended == pytest.approx(5 + 800 / 8000 + 1000 * (0.020 + 0.0003))


def test_two_requests_slow_each_other_down() -> None:
    first, second = Request(0.0, 0, 1000), Request(0.0, 0, 500)
    drive(Engine(SMALL, 0.0), [first, second])
    both = 500 * (0.020 + 2 * 0.0003)
    assert second.ended == pytest.approx(both)
    assert first.ended == pytest.approx(both + 500 * (0.020 + 0.0003))


def test_a_full_cache_preempts_the_last_request_which_is_resumed() -> None:
    engine = Engine(SMALL, 0.0)
    requests = [Request(0.0, 100, 6000) for _ in range(3)]
    drive(engine, requests)
    assert engine.preemptions > 0
    assert all(request.ended > 0 for request in requests)
    assert requests[0].ended < requests[2].ended
    assert all(request.begun == 0 for request in requests)


@given(st.lists(st.tuples(st.floats(0, 60), st.integers(0, 500), st.integers(1, 9000)), min_size=1, max_size=12))
@settings(deadline=None)
def test_every_request_ends_and_no_sooner_than_alone(drawn: list[tuple[float, int, int]]) -> None:
    requests = [Request(*one) for one in sorted(drawn)]
    drive(Engine(SMALL, 0.0), requests)
    for request in requests:
        assert request.begun >= request.arrived
        assert request.ended - request.arrived >= request.length * SMALL.step_s


@given(st.integers(0, 10_000), st.sampled_from([OURS, RAY]), st.integers(0, 2))
@settings(deadline=None, max_examples=25)
def test_every_request_is_accounted_for(seed: int, arm: Arm, minimum: int) -> None:
    rng = np.random.default_rng(seed)
    arrivals = np.sort(rng.uniform(0, 900, 120))
    requests = [Request(float(at), 100, int(n)) for at, n in zip(arrivals, rng.integers(10, 4000, 120), strict=True)]
    outcome = simulate(requests, arm, Bounds(minimum, 6, max_queued=40), seed=seed, hardware=SMALL)
    ended = sum(not math.isnan(request.ended) for request in requests)
    assert ended + outcome.refused + outcome.lost == len(requests)
    assert all(request.begun >= request.arrived for request in requests if not math.isnan(request.begun))
    last = max(request.ended for request in requests if not math.isnan(request.ended))
    assert minimum * last <= outcome.replica_seconds <= 6 * (last + 700)
    assert all(minimum <= number <= 6 for _, number in outcome.changes)
    assert outcome.peak == max(number for _, number in outcome.changes)


def test_a_fixed_number_of_replicas_costs_its_time() -> None:
    outcome = simulate([Request(1.0, 0, 100)], RAY, Bounds(2, 2, until_s=3600.0), seed=0, hardware=SMALL)
    assert outcome.replica_seconds == pytest.approx(7200, rel=1e-3)


def test_a_simulation_can_be_repeated() -> None:
    trace = TRACES[0]
    first, second = (measured(simulate(trace.draw(3)[:1500], OURS, Bounds(1, 24), seed=3), 1) for _ in range(2))
    assert first == second


def test_from_zero_the_first_request_starts_a_replica() -> None:
    request = Request(100.0, 0, 10)
    outcome = simulate([request], OURS, Bounds(0, 2, until_s=1000.0), seed=0, hardware=SMALL)
    assert [number for _, number in outcome.changes] == [0, 1, 0]
    assert 100 < outcome.changes[1][0] < 105
    assert request.begun - 100 < 3 * SMALL.start_s


def test_the_policies_are_rays_function_and_our_class() -> None:
    ours, rays = (Controller(arm, ongoing_limit=64, min_replicas=1, max_replicas=9) for arm in (OURS, RAY))
    assert rays.config.policy.is_default_policy_function()
    assert ours.config.policy.get_policy().__name__ == QueueDepthPolicy.__name__


def test_requests_reach_the_policy_as_ray_aggregates_them() -> None:
    controller = Controller(RAY, ongoing_limit=64, min_replicas=1, max_replicas=9)
    rng = np.random.default_rng(5)
    base, numbers = 1_000_000.0, []
    for step in range(9):
        now = base + step * controller.sample_s
        queued, running = float(rng.integers(0, 90)), float(rng.integers(0, 128))
        numbers.append((now, queued, running))
        controller.sample(now, queued, running)
    controller.report(now, {})

    state = decision.controller_state(RAY, 1)
    state._handle_store.forget("caller")
    state._replica_metrics.clear()
    kept = [one for one in numbers if one[0] >= now - controller.config.look_back_period_s]
    replica = state._running_replicas[0].to_full_id_str()
    state.record_request_metrics_for_handle(
        HandleMetricReport(
            deployment_id=state._deployment_id,
            handle_id="other",
            actor_id="other",
            handle_source=DeploymentHandleSource.UNKNOWN,
            queued_requests=[TimeStampedValue(at, queued) for at, queued, _ in kept],
            metrics={"running_requests": {replica: [TimeStampedValue(at, running) for at, _, running in kept]}},
            timestamp=now,
        )
    )
    for later in (now + 0.5, now + 4.0, now + 9.5):
        with mock.patch.object(autoscaling_state.time, "time", return_value=later):
            rays = state._get_queued_requests(), state.get_total_num_requests()
        assert controller._mean(later) == pytest.approx(rays, rel=1e-3)


def test_rays_delays_follow_the_simulated_clock() -> None:
    controller = Controller(
        Arm("ray", {"policy": "ray", "upscale_delay_s": 20.0}), ongoing_limit=64, min_replicas=1, max_replicas=9
    )
    with simulated_clock() as clock:
        chosen = []
        for second in range(60):
            clock.now = float(second)
            controller.sample(clock.now, 100, 64)
            controller.report(clock.now, {})
            chosen.append(controller.decide(clock.now, ["replica"], 1, 1, 9))
    assert chosen[19] == 1
    assert chosen[20] == 4  # 164 / 48


def test_changes_of_direction_are_counted() -> None:
    outcome = Outcome([], changes=[(0, 1), (10, 4), (20, 5), (30, 4), (40, 3), (50, 6)])
    assert outcome.turns == 2


def test_waiting_has_a_price() -> None:
    one = Measured(100, 0, 0, 0, 36.0, 5.0, 0, 0, 0, 0, 1)
    assert one.cost == 5.0 + WAIT_PRICE


def test_results_are_written_with_their_spread(tmp_path: Path) -> None:
    trace = TRACES[0]
    runs = tuple(measured(simulate(trace.draw(seed)[:200], RAY, Bounds(1, 24), seed=seed), 1) for seed in (1, 2))
    compared = [Compared(trace.name, RAY, runs)]
    swept = [Compared(trace.name, arm, runs) for arm in benchmark.sweep(RAY)]
    content = results(compared, swept, [decision.measure(RAY, 2, repeats=2)], TRACES, {"quick": True})
    described = json.loads(json.dumps(content))["traces"][trace.name]["policies"][0]
    assert described["replica_hours"]["min"] <= described["replica_hours"]["mean"]
    assert described["options"] == {"policy": "ray"}
    write_plot(tmp_path / "plot.png", compared, swept)
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_the_committed_results_are_those_of_these_policies() -> None:
    path = Path(benchmark.__file__).parent / "results.json"
    content = json.loads(path.read_text())
    assert not content["settings"]["quick"]
    assert content["traces"].keys() == {trace.name for trace in (*TRACES, FLEET)}
    for name, described in content["traces"].items():
        arms = {one["policy"]: one["options"] for one in described["policies"]}
        expected = benchmark.ARMS[:2] if name == FLEET.name else benchmark.ARMS
        assert arms == {arm.name: {**arm.options, **arm.ray} for arm in expected}


def test_other_processes_give_the_same_numbers() -> None:
    with Pool() as pool:
        (compared,) = pool.compare("rare", [RAY], (1,))
    assert compared.runs == (run("rare", RAY, 1),)


def test_the_documented_numbers_are_the_committed_ones() -> None:
    folder = Path(benchmark.__file__).parent
    content = json.loads((folder / "results.json").read_text())
    text = (folder.parents[1] / "docs" / "autoscaling.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if "Ray, tuned |" in line or " ours |" in line]
    numbers = [
        (f"{one['replica_hours']['mean']:.1f}", f"{one['turns_a_day']['mean']:.0f}")
        for described in content["traces"].values()
        for one in described["policies"][:2]
    ]
    assert numbers
    assert [(row[-3], row[-2]) for row in rows] == numbers
