"""How many replicas a model gets, decided from what waits and from how full its engines are.

Ray's own policy divides all requests by a target for each replica and follows the quotient, upward and downward, after
a delay. Reasoning asks for more: a request decodes for minutes, a replica takes minutes to start, and how many requests
it holds depends on how long they think, because its KV cache fills up before its batch does.

Capacity. A replica carries `target_ongoing_requests`, or fewer when those that run now occupy so much KV cache that
fewer would fill `target_kv_cache_usage` of it. What waits inside the engines, for want of KV cache, counts as waiting,
just as what waits in front of the replicas.

Up. The replicas that are needed carry all requests that run and wait. A queue in which requests are short, compared
with the time that a replica takes to start, is mostly gone when the replica comes; it counts in that proportion. A
queue that grows will be longer by then; what it grows by counts too. When more are needed than were asked for, for
`upscale_delay_s`, all of them are asked for at once. Replicas that are still starting have been asked for, so a queue
that they will take is not answered twice.

Down. Only when nothing waits; only to a number that carries the load with room to spare (`downscale_load`); after
`downscale_delay_s` of such calm without any change, and then in steps, `downscale_step_delay_s` apart, of a fifth of
the replicas or one. Serve lets a replica that goes finish what it has begun. Between the load at which replicas are
added and the load at which they go lies a gap, so that a constant load settles on one number.

Zero. Where `min_replicas` is 0, the last replica goes after `scale_to_zero_delay_s` without any request. Serve itself
brings it back for the first request.

`decide` is all of this, a pure function. `QueueDepthPolicy` feeds it from Serve's controller, which has none of the
application's environment: Ray pickles this module by value, so it must import nothing but the standard library.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import Any

IMPORT_PATH = "s1ray.serving.scaling.policy:QueueDepthPolicy"
"""`policy_function` in Serve's options."""

LOOK_BACK_S = 15.0
"""Seconds over which Serve averages the requests. Callers report every 10 s, and a window must be longer than that;
Ray's default of 30 s would see a burst three times as late."""

INTERVAL_S = 1.0
"""Seconds between decisions. Serve asks ten times as often, and the numbers change every 10 s."""

GROWTH_MEMORY_S = 30.0
"""Seconds over which the growth of the load is averaged: three reports. Longer would miss the beginning of a burst."""

ENGINE_RUNNING = "engine_running"
ENGINE_WAITING = "engine_waiting"
KV_CACHE_USAGE = "kv_cache_usage"
REQUEST_SECONDS = "request_seconds"
SEQUENCES = "sequences_per_request"
"""What a replica reports (`record_autoscaling_stats`): requests that the engine decodes, requests that wait in it, the
part of its KV cache that is taken (0 to 1), the mean seconds of the requests that it finished lately, and the mean
number of responses (prompts, times n) that its callers' requests asked for lately."""

_STATE = "s1ray"

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Settings:
    """What the operator wants; the fields of `s1ray.serving.config.Autoscaling` say it at length."""

    target_ongoing_requests: float
    """Requests that a replica should have."""
    target_kv_cache_usage: float = 0.9
    """Part of its KV cache that they may take."""
    tolerated_queue: float = 0.0
    """Waiting requests, for each running replica, that ask for no more replicas."""
    upscale_delay_s: float = 10.0
    downscale_delay_s: float = 300.0
    downscale_step_delay_s: float = 30.0
    downscale_load: float = 0.75
    """Part of its target that each of the remaining replicas may have after a step down."""
    downscale_fraction: float = 0.2
    """Part of the replicas that may go in one step; one may always."""
    scale_to_zero_delay_s: float = 300.0
    replica_start_s: float = 120.0
    """Seconds from asking for a replica to its first request."""


@dataclass(frozen=True)
class Observation:
    """What the controller sees."""

    now: float
    """Seconds, of any clock that does not stop."""
    running: int
    """Replicas that take requests."""
    target: int
    """Replicas that were asked for."""
    minimum: int
    maximum: int
    ongoing: float
    """Requests at the replicas, those that wait inside an engine included; here and below one for several responses
    counts as so many."""
    queued: float
    """Requests that wait for a replica."""
    engine_waiting: float = 0.0
    """Requests that wait inside an engine."""
    kv_share: float = 0.0
    """Part of a replica's KV cache that a decoding request takes, on average. 0: unknown."""
    request_s: float | None = None
    """Seconds that a request takes at a replica, on average. None: unknown."""

    @property
    def waiting(self) -> float:
        """Requests that wait anywhere."""
        return self.queued + self.engine_waiting

    @property
    def total(self) -> float:
        """Requests that run or wait."""
        return self.queued + max(self.ongoing, self.engine_waiting)


@dataclass(frozen=True)
class State:
    """What the policy remembers between two decisions; times on the observations' clock."""

    decided_at: float = -math.inf
    changed_at: float = -math.inf
    """When the number of replicas was last changed."""
    short_since: float | None = None
    """Since when more replicas are needed than were asked for."""
    calm_since: float | None = None
    """Since when fewer would do."""
    stepping: bool = False
    """The last change was a step down, and it has been calm ever since."""
    total: float = 0.0
    """Requests that ran or waited."""
    growth: float = 0.0
    """By how many of them a second, on average."""


def capacity(seen: Observation, settings: Settings) -> float:
    """Requests that one replica carries."""
    if seen.kv_share <= 0:
        return settings.target_ongoing_requests
    return min(settings.target_ongoing_requests, max(1.0, settings.target_kv_cache_usage / seen.kv_share))


def required(seen: Observation, settings: Settings, growth: float = 0.0) -> int:
    """Replicas that carry what runs and waits, within the bounds.

    Args:
        seen: now.
        settings: the operator's.
        growth: requests a second by which all that run or wait become more.
    """
    waiting = max(0.0, seen.waiting - settings.tolerated_queue * seen.running)
    if waiting > 0:
        lasts = settings.replica_start_s if seen.request_s is None else min(settings.replica_start_s, seen.request_s)
        if seen.running > 0 and settings.replica_start_s > 0:
            waiting *= lasts / settings.replica_start_s
        waiting += max(0.0, growth) * lasts
    running = max(0.0, seen.ongoing - seen.engine_waiting)
    needed = _ceil((running + waiting) / capacity(seen, settings))
    if seen.total > 0:
        needed = max(needed, 1)
    return min(max(needed, seen.minimum), seen.maximum)


def removable(seen: Observation, settings: Settings) -> int:
    """Replicas that could go now in one step."""
    if seen.waiting > 0:
        return 0
    if seen.target == 1:
        return 1 if seen.minimum == 0 and seen.total == 0 else 0
    kept = _ceil(seen.total / (capacity(seen, settings) * settings.downscale_load))
    step = max(1, int(seen.target * settings.downscale_fraction))
    return max(0, min(seen.target - max(kept, seen.minimum, 1), step))


def decide(seen: Observation, settings: Settings, state: State) -> tuple[int, State]:
    """The number of replicas to ask for, between `minimum` and `maximum`, and the state for the next decision."""
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
    """`decide` as a policy of Ray Serve.

    Args:
        settings: the fields of `Settings`.
    """

    def __init__(self, **settings: float) -> None:
        self._settings = Settings(**settings)
        self._failing = False

    def __call__(self, ctx: Any) -> tuple[int, dict[str, Any]]:
        """The number of replicas for an `AutoscalingContext`, and what to remember."""
        remembered = ctx.policy_state.get(_STATE) or State()
        if 0 <= ctx.current_time - remembered.decided_at < INTERVAL_S:
            return ctx.target_num_replicas, {_STATE: remembered}
        try:
            target, state = decide(observe(ctx), self._settings, remembered)
            self._failing = False
        except Exception:
            # An error here would stop the controller from managing any application.
            if not self._failing:
                logger.exception("%s: autoscaling failed; the replicas stay as they are", ctx.deployment_id)
            self._failing = True
            return ctx.target_num_replicas, {_STATE: replace(remembered, decided_at=ctx.current_time)}
        if target != ctx.target_num_replicas:
            why = f"{ctx.total_running_requests:.1f} requests running, {ctx.total_queued_requests:.1f} queued"
            logger.info("%s: %d replicas instead of %d: %s", ctx.deployment_id, target, ctx.target_num_replicas, why)
        return target, {_STATE: state}


def observe(ctx: Any) -> Observation:
    """What an `AutoscalingContext` shows.

    Requests come from their callers as averages over the look-back window. Of the replicas' own numbers it takes the
    last ones: they are averages over a batch already, and to aggregate those of a thousand replicas takes Ray 17 ms.
    """
    reported = ctx.raw_metrics or {}
    last = {name: [series[-1].value for series in reported.get(name, {}).values() if series] for name in _REPORTED}
    decoding = sum(last[ENGINE_RUNNING])
    # To its callers a request for several responses is one.
    several = [number for number in last[SEQUENCES] if number > 0]
    sequences = sum(several) / len(several) if several else 1.0
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
