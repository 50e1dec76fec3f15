"""The time that one decision takes in Serve's controller, which makes ten per second for every deployment.

Ray's `DeploymentAutoscalingState` gets the reports of one caller and of all replicas, as the controller receives them,
and is asked for its decision.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from ray.serve._private import autoscaling_metrics_codec
from ray.serve._private.autoscaling_state import DeploymentAutoscalingState, _resolve_policy_callable
from ray.serve._private.common import (
    RUNNING_REQUESTS_KEY,
    DeploymentHandleSource,
    DeploymentID,
    HandleMetricReport,
    ReplicaID,
    ReplicaMetricReport,
    TimeStampedValue,
)
from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig

from benchmarks.autoscaling.policies import SAMPLES, Arm
from s1ray.serving.config import Autoscaling
from s1ray.serving.replica.llm_config import autoscaling_config
from s1ray.serving.scaling import policy as autoscaling
from s1ray.serving.scaling.policy import ENGINE_RUNNING, ENGINE_WAITING, KV_CACHE_USAGE, REQUEST_SECONDS

FLEETS = (1, 10, 100, 1000)
LIMIT = 64


@dataclass(frozen=True)
class Decision:
    """The cost of a decision with one policy and one number of replicas."""

    policy: str
    replicas: int
    milliseconds: float
    """Median."""
    milliseconds_between: float | None
    """Median of the calls between two decisions; queue_depth decides only once a second."""


def measure(arm: Arm, replicas: int, *, repeats: int = 30) -> Decision:
    """Time the decision of one policy."""
    state = controller_state(arm, replicas)
    deciding: list[float] = []
    between: list[float] = []
    for _ in range(repeats):
        deciding.append(_time(state, replicas))
        between.append(_time(state, replicas))
        # Make queue_depth decide again, although a second has not passed.
        state._policy_state.pop(autoscaling._STATE, None)
    ours = autoscaling_config(Autoscaling.model_validate(arm.options), LIMIT).get("policy") is not None
    return Decision(
        arm.name,
        replicas,
        statistics.median(deciding) * 1000 if ours else statistics.median(deciding + between) * 1000,
        statistics.median(between) * 1000 if ours else None,
    )


def _time(state: DeploymentAutoscalingState, replicas: int) -> float:
    begin = time.perf_counter()
    state.get_decision_num_replicas(replicas)
    return time.perf_counter() - begin


def controller_state(arm: Arm, replicas: int) -> DeploymentAutoscalingState:
    """The controller's state for a deployment whose replicas run 40 requests each."""
    scaling = Autoscaling.model_validate({"max_replicas": 2 * replicas, **arm.options})
    config = AutoscalingConfig(**autoscaling_config(scaling, LIMIT))
    deployment = DeploymentID("model", "benchmark")
    state = DeploymentAutoscalingState(deployment)
    # As `register` sets them.
    state._config, state._policy_state = config, {}
    state._policy = _apply_autoscaling_config(_resolve_policy_callable(config.policy))
    ids = [ReplicaID(f"{number:08d}", deployment) for number in range(replicas)]
    state.update_running_replica_ids(ids)
    now, step = time.time(), config.look_back_period_s * SAMPLES
    times = [now - config.look_back_period_s + step * (1 + number) for number in range(round(1 / SAMPLES))]

    def series(value: float) -> list[TimeStampedValue]:
        return [TimeStampedValue(at, value) for at in times]

    stats = {ENGINE_RUNNING: 38.0, ENGINE_WAITING: 2.0, KV_CACHE_USAGE: 0.7, REQUEST_SECONDS: 200.0}
    for replica in ids:
        numbers = {name: series(value) for name, value in stats.items()}
        state.record_request_metrics_for_replica(ReplicaMetricReport(replica, numbers, now))
    report = HandleMetricReport(
        deployment_id=deployment,
        handle_id="caller",
        actor_id="caller",
        handle_source=DeploymentHandleSource.UNKNOWN,
        queued_requests=series(3.0),
        metrics={RUNNING_REQUESTS_KEY: {replica.to_full_id_str(): series(40.0) for replica in ids}},
        timestamp=now,
    )
    state.record_columnar_metrics_for_handle(
        autoscaling_metrics_codec.decode_handle_flat(autoscaling_metrics_codec.encode(report))
    )
    return state
