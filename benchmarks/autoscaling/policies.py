"""Autoscaling policies, called as Ray Serve's controller calls them.

The policy is Ray's function or s1ray's class, taken from Serve's options, inside Ray's wrapper with delays and factors
(`_apply_autoscaling_config`), and its input is Ray's `AutoscalingContext`. Only the collection of the numbers is
modelled (after ray 2.60, `router.py` and `autoscaling_state.py`): the caller samples its requests every fifth of the
look-back window and reports every ten seconds, and the controller takes the time-weighted mean of the window, in which
the last sample lasts until now. Ray's wrapper reads the wall clock, which the simulation replaces with its own.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest import mock

from ray.serve import autoscaling_policy
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from s1ray.serving.config import Autoscaling
from s1ray.serving.replica.llm_config import autoscaling_config

PUSH_S = 10.0
SAMPLES = 0.2
"""Seconds between two reports, and between two samples as a fraction of the look-back window: Ray's values."""


Option = str | float


@dataclass(frozen=True)
class Arm:
    """A policy and its options."""

    name: str
    options: Mapping[str, Option]
    """Fields of `s1ray.serving.config.Autoscaling`."""
    ray: Mapping[str, Option] = field(default_factory=dict)
    """Options of Serve that replace those which s1ray would set."""


class Controller:
    """Serve's controller, for one deployment."""

    def __init__(self, arm: Arm, *, ongoing_limit: int, min_replicas: int, max_replicas: int) -> None:
        bounds = {"min_replicas": min_replicas, "max_replicas": max_replicas}
        scaling = Autoscaling.model_validate({**bounds, **arm.options})
        self.config = AutoscalingConfig(**(autoscaling_config(scaling, ongoing_limit) | dict(arm.ray)))
        # As `DeploymentAutoscalingState.register` does.
        self._policy = autoscaling_policy._apply_autoscaling_config(_resolve_policy_callable(self.config.policy))
        self._state: dict[str, object] = {}
        self._samples: deque[tuple[float, float, float]] = deque()
        self._reported: list[tuple[float, float, float]] = []
        self._areas = (0.0, 0.0)
        self._raw: dict[str, dict[int, list[SimpleNamespace]]] = {}
        self.sample_s = min(self.config.look_back_period_s * SAMPLES, PUSH_S)

    def sample(self, now: float, queued: float, ongoing: float) -> None:
        """The caller samples its requests."""
        self._samples.append((now, queued, queued + ongoing))

    def report(self, now: float, stats: Mapping[int, Mapping[str, float]]) -> None:
        """The caller and the replicas report to the controller; `stats` are the replicas', by number."""
        while self._samples and self._samples[0][0] < now - self.config.look_back_period_s:
            self._samples.popleft()
        self._reported = list(self._samples)
        queued = total = 0.0
        for (at, one, all_of), (then, _, _) in zip(self._reported, self._reported[1:], strict=False):
            queued += one * (then - at)
            total += all_of * (then - at)
        self._areas = (queued, total)
        raw: dict[str, dict[int, list[SimpleNamespace]]] = {}
        for replica, numbers in stats.items():
            for name, value in numbers.items():
                raw.setdefault(name, {})[replica] = [SimpleNamespace(timestamp=now, value=value)]
        self._raw = raw

    def _mean(self, now: float) -> tuple[float, float]:
        if not self._reported:
            return 0.0, 0.0
        first, (last, queued, total) = self._reported[0][0], self._reported[-1]
        left = max(now - last, 1e-3)
        whole = last - first + left
        return (self._areas[0] + queued * left) / whole, (self._areas[1] + total * left) / whole

    def decide(self, now: float, running: Sequence[object], target: int, minimum: int, maximum: int) -> int:
        """The new target."""
        queued, total = self._mean(now)
        ctx = AutoscalingContext(
            deployment_id="model",
            deployment_name="model",
            app_name="benchmark",
            current_num_replicas=len(running),
            target_num_replicas=target,
            running_replicas=running,
            total_num_requests=total,
            total_queued_requests=queued,
            aggregated_metrics=None,
            raw_metrics=self._raw,
            capacity_adjusted_min_replicas=minimum,
            capacity_adjusted_max_replicas=maximum,
            policy_state=self._state,
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=now,
            config=self.config,
        )
        decision, self._state = self._policy(ctx)
        return min(max(math.ceil(float(decision)), minimum), maximum)


def quiet() -> None:
    """Turn off the log line of every decision."""
    logging.getLogger("ray.serve").disabled = True


@contextlib.contextmanager
def simulated_clock() -> Iterator[SimpleNamespace]:
    """Make Ray's policies read this clock, whose `now` the simulation sets."""
    clock = SimpleNamespace(now=0.0)
    with mock.patch.object(autoscaling_policy, "time", SimpleNamespace(time=lambda: clock.now)):
        yield clock
