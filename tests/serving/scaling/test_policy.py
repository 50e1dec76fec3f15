from __future__ import annotations

import logging
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from s1ray.serving.config import QUEUE_DEPTH_ONLY, Autoscaling
from s1ray.serving.replica.llm_config import autoscaling_config
from s1ray.serving.scaling import policy as autoscaling
from s1ray.serving.scaling.policy import (
    ENGINE_RUNNING,
    ENGINE_WAITING,
    IMPORT_PATH,
    KV_CACHE_USAGE,
    REQUEST_SECONDS,
    SEQUENCES,
    Observation,
    QueueDepthPolicy,
    Settings,
    State,
    capacity,
    decide,
    removable,
    required,
)

SETTINGS = Settings(target_ongoing_requests=48)


def seen(**fields: Any) -> Observation:
    defaults = {"now": 0.0, "running": 2, "target": 2, "minimum": 1, "maximum": 10, "ongoing": 0.0, "queued": 0.0}
    return Observation(**(defaults | fields))


loads = st.floats(0, 100_000, allow_nan=False)
shares = st.floats(0, 1, allow_nan=False)


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    minimum = draw(st.integers(0, 20))
    maximum = draw(st.integers(max(1, minimum), 1000))
    target = draw(st.integers(minimum, maximum))
    ongoing = draw(loads)
    return Observation(
        now=draw(st.floats(0, 1e9)),
        running=draw(st.integers(0, maximum)),
        target=target,
        minimum=minimum,
        maximum=maximum,
        ongoing=ongoing,
        queued=draw(loads | st.just(0.0)),
        engine_waiting=draw(st.just(0.0) | st.floats(0, ongoing)),
        kv_share=draw(shares),
        request_s=draw(st.none() | st.floats(0.1, 3600)),
    )


Load = Callable[[int, int], tuple[float, float]]

settings_of_any_kind = st.builds(
    Settings,
    target_ongoing_requests=st.floats(0.5, 1000),
    target_kv_cache_usage=st.floats(0.05, 1),
    tolerated_queue=st.floats(0, 100),
    upscale_delay_s=st.floats(0, 60),
    downscale_delay_s=st.floats(0, 600),
    downscale_step_delay_s=st.floats(0, 600),
    downscale_load=st.floats(0.05, 0.95),
    downscale_fraction=st.floats(0.01, 1),
    scale_to_zero_delay_s=st.floats(0, 600),
    replica_start_s=st.floats(0, 600),
)
states = st.builds(
    State,
    changed_at=st.floats(-1e9, 0),
    short_since=st.none() | st.floats(-1e9, 0),
    calm_since=st.none() | st.floats(-1e9, 0),
    stepping=st.booleans(),
)


@given(observations(), settings_of_any_kind, states)
def test_the_number_of_replicas_stays_within_the_bounds(what: Observation, settings: Settings, state: State) -> None:
    target, after = decide(what, settings, state)
    assert what.minimum <= target <= what.maximum
    assert after.decided_at == what.now


@given(observations(), settings_of_any_kind, states)
def test_no_replica_is_removed_while_requests_wait(what: Observation, settings: Settings, state: State) -> None:
    target, _ = decide(what, settings, state)
    if what.waiting > 0:
        assert target >= what.target


@given(observations(), settings_of_any_kind, states)
def test_after_a_step_down_the_rest_carries_the_load_with_room(
    what: Observation, settings: Settings, state: State
) -> None:
    target, _ = decide(what, settings, state)
    if target < what.target:
        assert what.total <= target * capacity(what, settings) * settings.downscale_load * (1 + 1e-6) + 1e-6
        assert what.target - target <= max(1, what.target * settings.downscale_fraction)
        assert target >= 1 or (what.total == 0 and what.target == 1)


@given(observations(), settings_of_any_kind, states)
def test_requests_always_have_a_replica(what: Observation, settings: Settings, state: State) -> None:
    target, _ = decide(replace(what, running=0), replace(settings, upscale_delay_s=0), state)
    if what.total > 0:
        assert target >= 1


@given(observations(), settings_of_any_kind, st.floats(0, 1000), st.floats(1, 10))
def test_more_load_never_needs_fewer_replicas(what: Observation, settings: Settings, more: float, times: float) -> None:
    needed = required(what, settings)
    assert required(replace(what, queued=what.queued + more), settings) >= needed
    assert required(replace(what, kv_share=min(1.0, what.kv_share + more / 1000)), settings) >= needed
    assert required(replace(what, ongoing=what.ongoing + more), settings) >= needed
    if what.request_s is not None:
        assert required(replace(what, request_s=what.request_s * times), settings) >= needed


@given(observations(), settings_of_any_kind, st.floats(0, 1000))
def test_more_load_never_makes_more_replicas_removable(what: Observation, settings: Settings, more: float) -> None:
    going = removable(what, settings)
    assert removable(replace(what, queued=what.queued + more), settings) <= going
    assert removable(replace(what, ongoing=what.ongoing + more), settings) <= going


@given(st.floats(0, 2000), shares, st.integers(1, 40), settings_of_any_kind)
@hypothesis_settings(deadline=None, max_examples=50)
def test_a_constant_load_settles_on_one_number(load: float, share: float, replicas: int, settings: Settings) -> None:
    # All of the load runs, however few replicas there are.
    target, state, changes = replicas, State(), []
    for now in range(0, 100_000, 50):
        what = seen(now=float(now), running=target, target=target, minimum=0, maximum=40, ongoing=load, kv_share=share)
        chosen, state = decide(what, settings, state)
        if chosen != target:
            changes.append((now, chosen - target))
        target = chosen
    directions = [math.copysign(1, change) for _, change in changes]
    assert directions == sorted(directions, reverse=True), "up after down under a constant load"
    assert not changes or changes[-1][0] < 50_000


def run(settings: Settings, load: Load, *, start_s: int = 120, until: int = 3600, **fields: Any) -> list[int]:
    """The target of every second, where replicas take `start_s` to start; `load(now, running)`: ongoing, queued."""
    target, running, state = fields.pop("target", 1), fields.pop("running", 1), State()
    starting: list[int] = []
    targets: list[int] = []
    for now in range(until):
        running += starting.count(now)
        ongoing, queued = load(now, running)
        what = seen(now=float(now), running=running, target=target, ongoing=ongoing, queued=queued, **fields)
        chosen, state = decide(what, settings, state)
        starting += [now + start_s] * max(0, chosen - target)
        if chosen < target:
            running = min(running, chosen)
        target = chosen
        targets.append(target)
    return targets


def test_a_burst_is_answered_in_one_step() -> None:
    targets = run(SETTINGS, lambda now, running: (min(64.0 * running, 250.0), max(0.0, 250.0 - 64 * running)))
    assert targets[9] == 1
    assert targets[10] == 6
    assert set(targets[10:]) == {6}


def test_replicas_are_removed_one_by_one_after_a_long_low_load() -> None:
    targets = run(SETTINGS, lambda now, running: (100.0, 0.0), target=6, running=6)
    steps = [now for now in range(1, len(targets)) if targets[now] != targets[now - 1]]
    assert targets[-1] == 3  # 100 / (0.75 * 48) = 2.8
    assert steps == [300, 330, 360]


def test_a_short_low_load_keeps_the_replicas() -> None:
    busy = lambda now, running: (200.0 if now % 250 == 0 else 20.0, 0.0)  # noqa: E731
    assert set(run(SETTINGS, busy, target=6, running=6)) == {6}


def test_requests_that_fill_the_cache_need_more_replicas() -> None:
    assert required(seen(ongoing=40), SETTINGS) == 1
    # 20 of the 40 decode and take 95 % of the cache; the others wait inside the engine.
    assert required(seen(ongoing=40, engine_waiting=20, kv_share=0.95 / 20), SETTINGS) == 3


def test_a_queue_of_short_requests_counts_less_than_one_of_long_ones() -> None:
    long = seen(ongoing=96, queued=480, request_s=600.0)
    assert required(long, SETTINGS) == 10
    assert required(replace(long, request_s=12.0), SETTINGS) == 3
    assert required(replace(long, request_s=None), SETTINGS) == 10


def test_a_growing_queue_counts_as_it_will_be_when_a_replica_is_ready() -> None:
    standing = seen(running=2, ongoing=96, queued=48)
    assert required(standing, SETTINGS) == 3
    assert required(standing, SETTINGS, growth=1.0) == 6  # 120 s later: 264 requests
    assert required(standing, SETTINGS, growth=-1.0) == 3
    # Requests of 24 s: those that arrive while a replica starts are served before it is ready.
    assert required(replace(standing, request_s=24.0), SETTINGS, growth=1.0) == 3
    assert required(seen(running=2, ongoing=96), SETTINGS, growth=1.0) == 2


def test_growth_is_averaged_over_half_a_minute() -> None:
    state = State()
    for now in range(0, 300, 10):
        _, state = decide(seen(now=float(now), ongoing=40.0, queued=0.5 * now, maximum=2), SETTINGS, state)
    assert state.growth == pytest.approx(0.5, rel=0.01)
    for now in range(300, 400, 10):
        _, state = decide(seen(now=float(now), ongoing=40.0, queued=150.0, maximum=2), SETTINGS, state)
    assert state.growth < 0.03


def test_a_tolerated_queue_needs_no_replica() -> None:
    settings = replace(SETTINGS, tolerated_queue=8)
    assert required(seen(ongoing=96, queued=16), settings) == 2
    assert required(seen(ongoing=96, queued=17), settings) == 3


def test_a_fleet_shrinks_by_a_fifth_in_a_step() -> None:
    assert removable(seen(running=1000, target=1000, ongoing=0, maximum=1000), SETTINGS) == 200
    assert removable(seen(running=1000, target=1000, ongoing=35_000, maximum=1000), SETTINGS) == 27
    assert removable(seen(running=5, target=5), SETTINGS) == 1


def test_the_last_replica_is_removed_only_if_the_minimum_is_zero() -> None:
    idle = lambda now, running: (0.0, 0.0)  # noqa: E731
    settings = replace(SETTINGS, scale_to_zero_delay_s=900.0)
    assert run(settings, idle, minimum=1)[-1] == 1
    targets = run(settings, idle, minimum=0)
    assert targets.index(0) == 900
    assert run(settings, lambda now, running: (0.1, 0.0), minimum=0)[-1] == 1


def test_the_first_request_starts_a_replica_at_once() -> None:
    target, _ = decide(seen(running=0, target=0, minimum=0, queued=1), SETTINGS, State())
    assert target == 1


def test_changed_bounds_apply_at_once() -> None:
    assert decide(seen(target=2, minimum=4), SETTINGS, State())[0] == 4
    assert decide(seen(target=2, minimum=1, maximum=1), SETTINGS, State())[0] == 1


def test_replicas_that_never_start_are_not_requested_forever() -> None:
    targets = run(SETTINGS, lambda now, running: (20.0, 0.0), start_s=10**6, target=5, running=3)
    assert targets[-1] == 1


REPLICAS = [ReplicaID(name, DeploymentID("Model", "app")) for name in ("a", "b")]


def context(**fields: Any) -> AutoscalingContext:
    stats = fields.pop("stats", [])
    raw: dict[str, Any] = {}
    for replica, reported in zip(REPLICAS, stats, strict=False):
        for name, value in reported.items():
            raw.setdefault(name, {})[replica] = [TimeStampedValue(0.0, 999.0), TimeStampedValue(1.0, value)]
    config = autoscaling_config(Autoscaling(max_replicas=10), 64)
    defaults = {
        "deployment_id": "id",
        "deployment_name": "Model",
        "app_name": "app",
        "current_num_replicas": 2,
        "target_num_replicas": 2,
        "running_replicas": REPLICAS,
        "total_num_requests": 0.0,
        "total_queued_requests": 0.0,
        "aggregated_metrics": None,
        "raw_metrics": raw,
        "capacity_adjusted_min_replicas": 1,
        "capacity_adjusted_max_replicas": 10,
        "policy_state": {},
        "last_scale_up_time": None,
        "last_scale_down_time": None,
        "current_time": 1000.0,
        "config": AutoscalingConfig(**config),
    }
    return AutoscalingContext(**(defaults | fields))


def test_an_observation_combines_the_reports_of_callers_and_replicas() -> None:
    stats = [
        {ENGINE_RUNNING: 10.0, ENGINE_WAITING: 3.0, KV_CACHE_USAGE: 0.9, REQUEST_SECONDS: 100.0},
        {ENGINE_RUNNING: 20.0, ENGINE_WAITING: 0.0, KV_CACHE_USAGE: 0.6, REQUEST_SECONDS: 0.0},
    ]
    what = autoscaling.observe(context(total_num_requests=40.0, total_queued_requests=7.0, stats=stats))
    assert (what.ongoing, what.queued, what.engine_waiting) == (33, 7, 3)
    assert what.kv_share == pytest.approx(1.5 / 30)
    assert what.request_s == 100
    # Its callers count a request for sixteen responses once.
    stats = [one | {SEQUENCES: number} for one, number in zip(stats, (16.0, 8.0), strict=True)]
    several = autoscaling.observe(context(total_num_requests=9.0, total_queued_requests=7.0, stats=stats))
    assert (several.ongoing, several.queued, several.engine_waiting) == (24, 84, 3)
    silent = autoscaling.observe(context(total_num_requests=40.0))
    assert (silent.kv_share, silent.engine_waiting, silent.request_s) == (0, 0, None)


def test_the_policy_scales_through_rays_own_wrapper() -> None:
    config = AutoscalingConfig(**autoscaling_config(Autoscaling(max_replicas=10, upscale_delay_s=5), 64))
    policy = _apply_autoscaling_config(config.policy.get_policy()(**config.policy.policy_kwargs))
    state: dict[str, Any] = {}
    chosen = [2]
    for tick in range(80):
        ctx = context(
            target_num_replicas=chosen[-1],
            total_num_requests=200.0,
            total_queued_requests=72.0,
            policy_state=state,
            current_time=1000 + tick / 10,
            config=config,
        )
        target, state = policy(ctx)
        chosen.append(target)
    assert chosen[40] == 2
    assert chosen[60] == chosen[-1] == 5  # 200 / 48


def test_between_two_decisions_nothing_is_read() -> None:
    def fail() -> float:
        raise AssertionError("read")

    policy = QueueDepthPolicy(target_ongoing_requests=48)
    _, state = policy(context())
    target, state = policy(context(policy_state=state, total_num_requests=fail, current_time=1000.5))
    assert target == 2
    assert policy(context(policy_state=state, total_num_requests=500.0, current_time=1001.1))[1] != state


def test_an_error_keeps_the_replicas_and_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> float:
        raise ZeroDivisionError("metrics")

    policy = QueueDepthPolicy(target_ongoing_requests=48)
    state: dict[str, Any] = {}
    monkeypatch.setattr(autoscaling, "logger", logging.getLogger("test"))
    for now in (1000.0, 1002.0, 1004.0):
        target, state = policy(context(total_num_requests=fail, current_time=now, policy_state=state))
        assert target == 2
    assert sum("autoscaling failed" in record.message for record in caplog.records) == 1


def test_a_clock_that_is_set_back_does_not_stop_the_decisions() -> None:
    policy = QueueDepthPolicy(target_ongoing_requests=48)
    _, state = policy(context(current_time=5000.0))
    _, state = policy(context(current_time=1000.0, policy_state=state))
    assert state["s1ray"].decided_at == 1000.0


def test_after_a_clock_is_set_back_replicas_are_still_removed() -> None:
    idle = seen(now=10_000.0, target=3, running=3)
    _, state = decide(idle, SETTINGS, State(changed_at=9_990.0))
    targets = []
    for now in range(0, 400, 10):
        target, state = decide(replace(idle, now=float(now)), SETTINGS, state)
        targets.append(target)
    assert 2 in targets


def test_the_policy_runs_where_s1ray_is_not_installed(tmp_path: Path) -> None:
    policy = AutoscalingPolicy(policy_function=IMPORT_PATH, policy_kwargs={"target_ongoing_requests": 4})
    pickled = tmp_path / "policy.pickle"
    pickled.write_bytes(policy.get_serialized_policy_def() or b"")
    script = """
import pickle, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "s1ray":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
from types import SimpleNamespace as Context
policy = pickle.loads(open(sys.argv[1], "rb").read())(target_ongoing_requests=4, upscale_delay_s=0)
print(policy(Context(policy_state={}, current_time=9.0, raw_metrics={}, current_num_replicas=1, target_num_replicas=1,
    capacity_adjusted_min_replicas=1, capacity_adjusted_max_replicas=9, total_running_requests=4.0,
    total_queued_requests=8.0, deployment_id="m"))[0])
"""
    done = subprocess.run([sys.executable, "-c", script, pickled], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "3", done.stderr


def test_serves_options_name_the_policy_and_leave_the_delays_to_it() -> None:
    options = autoscaling_config(Autoscaling(min_replicas=0, max_replicas=4, downscale_delay_s=77), 64)
    config = AutoscalingConfig(**options)
    assert (config.upscale_delay_s, config.downscale_delay_s) == (0, 0)
    assert config.look_back_period_s > config.metrics_interval_s
    assert options["policy"]["policy_function"] == IMPORT_PATH
    settings = Settings(**options["policy"]["policy_kwargs"])
    assert settings.target_ongoing_requests == 48
    assert settings.downscale_delay_s == settings.scale_to_zero_delay_s == 77


@pytest.mark.parametrize("policy", ["queue_depth", "ray"])
def test_where_no_replica_may_run_the_load_is_reported_every_second_while_reports_are_few(policy: str) -> None:
    def interval(minimum: int, most: int) -> float:
        scaling = Autoscaling.model_validate({"min_replicas": minimum, "max_replicas": most, "policy": policy})
        config = AutoscalingConfig(**autoscaling_config(scaling, 64))
        return float(config.metrics_interval_s)

    assert [interval(0, most) for most in (1, 16, 64, 1000)] == [1.0, 1.0, 4.0, 10.0]
    assert interval(1, 4) == 10.0


def test_config_and_policy_have_the_same_defaults() -> None:
    kwargs = autoscaling_config(Autoscaling(), 64)["policy"]["policy_kwargs"]
    assert Settings(**kwargs) == SETTINGS


def test_policy_ray_gets_rays_options() -> None:
    scaling = Autoscaling(policy="ray", max_replicas=4, upscale_delay_s=3, downscale_delay_s=33)
    options = autoscaling_config(scaling, 64)
    assert "policy" not in options
    assert AutoscalingConfig(**options).policy.is_default_policy_function()
    assert (options["upscale_delay_s"], options["downscale_delay_s"]) == (3, 33)
    assert options["downscale_to_zero_delay_s"] == 33


def test_every_setting_has_a_config_field_and_the_other_way_round() -> None:
    fields = set(Autoscaling.model_fields) - {"policy", "min_replicas", "max_replicas"}
    assert fields == set(Settings.__dataclass_fields__)
    assert fields > QUEUE_DEPTH_ONLY
