"""The number of replicas of a model, decided from its waiting requests and from how full its engines are.

Ray's default policy divides all requests by a target per replica and follows the quotient, up and down, after a delay.
That does not fit reasoning: a request decodes for minutes, a replica takes minutes to start, and how many requests a
replica carries depends on how long they think, because its KV cache is full before its batch is.

Capacity. A replica carries `target_ongoing_requests`, or fewer if the running requests occupy so much KV cache that
fewer of them would fill `target_kv_cache_usage` of it. Requests that wait inside an engine for KV cache count as
waiting, like those in the queue in front of the replicas.

Up. The needed replicas are those that carry all running and waiting requests. A queue of requests that are short
compared with the start of a replica is mostly gone when the replica is ready, so it counts in that proportion; a
growing queue will be longer by then, so its growth counts too. If more replicas are needed than were requested, for
`upscale_delay_s`, all of them are requested at once. Replicas that are still starting have been requested already, so
a queue is not answered twice.

Down. Only when nothing waits; only to a number that carries the load with room to spare (`downscale_load`); after
`downscale_delay_s` of low load without any change, and then in steps of a fifth of the replicas or one,
`downscale_step_delay_s` apart. Serve lets a replica that is being removed finish its requests. The load at which
replicas are added is well above the load at which they are removed, so a constant load settles on one number.

Zero. If `min_replicas` is 0, the last replica is removed after `scale_to_zero_delay_s` without any request. Serve
itself starts it again for the first request.

`decide` is all of this, a pure function. `QueueDepthPolicy` calls it in Serve's controller, where the application's
environment is missing: Ray pickles this module by value, so at run time it may import only the standard library.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

IMPORT_PATH = "s1ray.serving.scaling.policy:QueueDepthPolicy"
"""`policy_function` in Serve's options."""

LOOK_BACK_S = 15.0
"""Seconds over which Serve averages the number of requests. It must be more than the 10 s between two reports of a
caller; Ray's default of 30 s would notice a burst three times as late."""

INTERVAL_S = 1.0
"""Seconds between decisions. Serve asks ten times as often, but the numbers change only every 10 s."""

GROWTH_MEMORY_S = 30.0
"""Seconds over which the growth of the load is averaged: three reports. More would miss the start of a burst."""

ENGINE_RUNNING = "engine_running"
ENGINE_WAITING = "engine_waiting"
KV_CACHE_USAGE = "kv_cache_usage"
REQUEST_SECONDS = "request_seconds"
SEQUENCES = "sequences_per_request"
"""What a replica reports (`record_autoscaling_stats`): requests that its engine decodes, requests that wait in the
engine, the used fraction of the KV cache (0 to 1), the mean duration of recently finished requests in seconds, and the
mean number of responses (prompts times n) per recent request."""

_STATE = "s1ray"

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Settings:
    """The operator's settings; `s1ray.serving.config.Autoscaling` documents each field."""

    target_ongoing_requests: float
    target_kv_cache_usage: float = 0.9
    tolerated_queue: float = 0.0
    upscale_delay_s: float = 10.0
    downscale_delay_s: float = 300.0
    downscale_step_delay_s: float = 30.0
    downscale_load: float = 0.75
    downscale_fraction: float = 0.2
    scale_to_zero_delay_s: float = 300.0
    replica_start_s: float = 120.0


@dataclass(frozen=True)
class Observation:
    """The controller's view of one model. A request for n responses counts as n requests."""

    now: float
    """Seconds, on any clock that does not stop."""
    running: int
    """Replicas that take requests."""
    target: int
    """Replicas requested so far, those that are starting included."""
    minimum: int
    maximum: int
    ongoing: float
    """Requests at the replicas, including those that wait inside an engine."""
    queued: float
    """Requests that wait for a replica."""
    engine_waiting: float = 0.0
    """Requests that wait inside an engine."""
    kv_share: float = 0.0
    """Mean fraction of a replica's KV cache per decoding request. 0: unknown."""
    request_s: float | None = None
    """Mean duration of a request at a replica, in seconds. None: unknown."""

    @property
    def waiting(self) -> float:
        """All waiting requests, in the queue and inside the engines."""
        return self.queued + self.engine_waiting

    @property
    def total(self) -> float:
        """All requests, running and waiting."""
        return self.queued + max(self.ongoing, self.engine_waiting)


@dataclass(frozen=True)
class State:
    """What the policy remembers between two decisions; times are on the observations' clock."""

    decided_at: float = -math.inf
    changed_at: float = -math.inf
    """When the target was last changed."""
    short_since: float | None = None
    """Since when more replicas are needed than the target."""
    calm_since: float | None = None
    """Since when fewer would be enough."""
    stepping: bool = False
    """Whether the last change was a step down, and the load has stayed low since."""
    total: float = 0.0
    """All requests at the last decision."""
    growth: float = 0.0
    """Its mean growth, in requests per second."""


def capacity(seen: Observation, settings: Settings) -> float:
    """The number of requests that one replica carries."""
    if seen.kv_share <= 0:
        return settings.target_ongoing_requests
    return min(settings.target_ongoing_requests, max(1.0, settings.target_kv_cache_usage / seen.kv_share))


def required(seen: Observation, settings: Settings, growth: float = 0.0) -> int:
    """The number of replicas that carry all running and waiting requests, within the bounds.

    Args:
        seen: the current observation.
        settings: the operator's.
        growth: of the number of requests, per second.
    """
    waiting = max(0.0, seen.waiting - settings.tolerated_queue * seen.running)
    if waiting > 0:
        horizon_s = settings.replica_start_s
        if seen.request_s is not None:
            horizon_s = min(horizon_s, seen.request_s)
        if seen.running > 0 and settings.replica_start_s > 0:
            waiting *= horizon_s / settings.replica_start_s
        waiting += max(0.0, growth) * horizon_s
    running = max(0.0, seen.ongoing - seen.engine_waiting)
    needed = _ceil((running + waiting) / capacity(seen, settings))
    if seen.total > 0:
        needed = max(needed, 1)
    return min(max(needed, seen.minimum), seen.maximum)


def removable(seen: Observation, settings: Settings) -> int:
    """The number of replicas that one step may remove now."""
    if seen.waiting > 0:
        return 0
    if seen.target == 1:
        return 1 if seen.minimum == 0 and seen.total == 0 else 0
    kept = _ceil(seen.total / (capacity(seen, settings) * settings.downscale_load))
    step = max(1, int(seen.target * settings.downscale_fraction))
    return max(0, min(seen.target - max(kept, seen.minimum, 1), step))


def decide(seen: Observation, settings: Settings, state: State) -> tuple[int, State]:
    """The new target, from `minimum` to `maximum`, and the state for the next decision."""
    if seen.now < state.decided_at:
        # The clock was set back.
        state = State()
    growth, elapsed = 0.0, seen.now - state.decided_at
    if 0 < elapsed < math.inf:
        kept = math.exp(-elapsed / GROWTH_MEMORY_S)
        growth = kept * state.growth + (1 - kept) * (seen.total - state.total) / elapsed
    state = replace(state, decided_at=seen.now, total=seen.total, growth=growth)
    if not seen.minimum <= seen.target <= seen.maximum:
        return min(max(seen.target, seen.minimum), seen.maximum), _changed(state, stepping=False)
    needed = required(seen, settings, growth)
    if needed > seen.target:
        since = seen.now if state.short_since is None else state.short_since
        if seen.now - since >= settings.upscale_delay_s or seen.running == 0:
            return needed, _changed(state, stepping=False)
        return seen.target, replace(state, short_since=since, calm_since=None, stepping=False)

    step = removable(seen, settings)
    if step == 0:
        return seen.target, replace(state, short_since=None, calm_since=None, stepping=False)
    since = seen.now if state.calm_since is None else state.calm_since
    state = replace(state, short_since=None, calm_since=since)
    if seen.target == 1:
        delay, begin = settings.scale_to_zero_delay_s, max(since, state.changed_at)
    elif state.stepping:
        delay, begin = settings.downscale_step_delay_s, state.changed_at
    else:
        delay, begin = settings.downscale_delay_s, max(since, state.changed_at)
    if seen.now - begin < delay:
        return seen.target, state
    return seen.target - step, _changed(state, stepping=True)


def _changed(state: State, *, stepping: bool) -> State:
    calm_since = state.calm_since if stepping else None
    return replace(state, changed_at=state.decided_at, short_since=None, calm_since=calm_since, stepping=stepping)


def _ceil(replicas: float) -> int:
    # 0.1 * 30 is a little more than 3.
    return math.ceil(replicas - 1e-9)


class QueueDepthPolicy:
    """`decide` as an autoscaling policy of Ray Serve.

    Args:
        settings: the fields of `Settings`.
    """

    def __init__(self, **settings: float) -> None:
        self._settings = Settings(**settings)
        self._failing = False

    def __call__(self, ctx: AutoscalingContext) -> tuple[int, dict[str, State]]:
        """The new target, and the policy state that Serve passes to the next call."""
        remembered: State = ctx.policy_state.get(_STATE) or State()
        if 0 <= ctx.current_time - remembered.decided_at < INTERVAL_S:
            return ctx.target_num_replicas, {_STATE: remembered}
        try:
            target, state = decide(observe(ctx), self._settings, remembered)
            self._failing = False
        except Exception:
            # An exception here would keep the controller from managing any application.
            if not self._failing:
                logger.exception("%s: autoscaling failed; the number of replicas stays as it is", ctx.deployment_id)
            self._failing = True
            return ctx.target_num_replicas, {_STATE: replace(remembered, decided_at=ctx.current_time)}
        if target != ctx.target_num_replicas:
            load = f"{ctx.total_running_requests:.1f} requests running, {ctx.total_queued_requests:.1f} queued"
            logger.info("%s: %d -> %d replicas: %s", ctx.deployment_id, ctx.target_num_replicas, target, load)
        return target, {_STATE: state}


def observe(ctx: AutoscalingContext) -> Observation:
    """The observation in Serve's context.

    Callers report requests, which Serve averages over the look-back window. Of the replicas' numbers only the last ones
    are used: they are means over a batch already, and Ray needs 17 ms to aggregate those of a thousand replicas.
    """
    reported = ctx.raw_metrics or {}
    last = {name: [series[-1].value for series in reported.get(name, {}).values() if series] for name in _REPORTED}
    decoding = sum(last[ENGINE_RUNNING])
    # Callers count a request for several responses once.
    counts = [number for number in last[SEQUENCES] if number > 0]
    sequences = sum(counts) / len(counts) if counts else 1.0
    times = [seconds for seconds in last[REQUEST_SECONDS] if seconds > 0]
    return Observation(
        now=ctx.current_time,
        running=ctx.current_num_replicas,
        target=ctx.target_num_replicas,
        minimum=ctx.capacity_adjusted_min_replicas,
        maximum=ctx.capacity_adjusted_max_replicas,
        ongoing=ctx.total_running_requests * sequences,
        queued=ctx.total_queued_requests * sequences,
        engine_waiting=sum(last[ENGINE_WAITING]),
        kv_share=sum(last[KV_CACHE_USAGE]) / decoding if decoding > 0 else 0.0,
        request_s=sum(times) / len(times) if times else None,
    )


_REPORTED = (ENGINE_RUNNING, ENGINE_WAITING, KV_CACHE_USAGE, REQUEST_SECONDS, SEQUENCES)
