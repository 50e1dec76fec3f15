"""A deployment under traffic: replicas that start, serve, drain and stop, and a policy that decides how many there are.

A discrete-event simulation. A request goes to the less busy of two replicas chosen at random, if one of them has room
(Serve's power of two choices). While all replicas are full, requests wait in one queue, first come, first served, and
beyond `max_queued_requests` they are refused. A replica that is being removed takes no new requests and finishes those
it has; after the shutdown timeout the rest is lost.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from dataclasses import dataclass, field

from benchmarks.autoscaling.engine import Engine, Hardware, Request
from benchmarks.autoscaling.policies import PUSH_S, Arm, Controller, simulated_clock
from benchmarks.autoscaling.traffic import Bounds
from s1ray.serving.scaling.engine_load import WEIGHT
from s1ray.serving.scaling.policy import ENGINE_RUNNING, ENGINE_WAITING, KV_CACHE_USAGE, REQUEST_SECONDS

TICK_S = 2.0
"""Seconds between decisions. Serve decides ten times per second, on numbers that change every ten seconds."""

SHUTDOWN_TIMEOUT_S = 600.0


@dataclass
class Outcome:
    """The requests with their times, and the cost."""

    requests: list[Request]
    replica_seconds: float = 0.0
    """Of starting, running and draining replicas, all of which hold their GPUs."""
    refused: int = 0
    lost: int = 0
    preemptions: int = 0
    peak: int = 0
    """The largest target."""
    changes: list[tuple[float, int]] = field(default_factory=list)
    """Times at which the target changed, and the new targets."""

    @property
    def turns(self) -> int:
        """Changes of direction: up after down, and down after up."""
        numbers = [number for _, number in self.changes]
        signs = [math.copysign(1, after - before) for before, after in itertools.pairwise(numbers)]
        return sum(one != other for one, other in itertools.pairwise(signs))


@dataclass(eq=False, slots=True)
class _Replica:
    number: int
    begun: float
    engine: Engine | None = None
    draining_since: float | None = None
    due: float = math.inf
    request_s: float = 0.0


class _Deployment:
    def __init__(self, requests: list[Request], arm: Arm, hardware: Hardware, seed: int, bounds: Bounds) -> None:
        self.hardware, self.bounds = hardware, bounds
        self.random = random.Random(seed)
        self.outcome = Outcome(requests)
        self.queue: deque[Request] = deque()
        self.replicas: dict[int, _Replica] = {}
        self.running: list[_Replica] = []
        self.numbers = itertools.count()
        self.events: list[tuple[float, int, str, int]] = []
        self.order = itertools.count()
        self.target = bounds.min_replicas
        self.controller = Controller(
            arm,
            ongoing_limit=hardware.max_num_seqs,
            min_replicas=bounds.min_replicas,
            max_replicas=bounds.max_replicas,
        )

    def push(self, at: float, kind: str, number: int = 0) -> None:
        heapq.heappush(self.events, (at, next(self.order), kind, number))

    def scale(self, now: float, target: int, *, at_once: bool = False) -> None:
        """Start or drain replicas until `target` of them are not draining."""
        kept = [replica for replica in self.replicas.values() if replica.draining_since is None]
        for _ in range(target - len(kept)):
            replica = _Replica(next(self.numbers), now)
            self.replicas[replica.number] = replica
            delay = self.hardware.start_s * math.exp(self.random.gauss(0, self.hardware.start_sigma))
            self.push(now if at_once else now + delay, "ready", replica.number)
        # Serve first stops replicas that are still starting.
        starting = [replica for replica in kept if replica.engine is None]
        started = [replica for replica in kept if replica.engine is not None]
        self.random.shuffle(started)
        for replica in (starting + started)[: max(0, len(kept) - target)]:
            replica.draining_since = now
            if replica.engine is None or replica.engine.ongoing == 0:
                self.remove(replica, now)
            else:
                self.running.remove(replica)
                self.push(now + SHUTDOWN_TIMEOUT_S, "kill", replica.number)

    def remove(self, replica: _Replica, now: float) -> None:
        del self.replicas[replica.number]
        self.outcome.replica_seconds += now - replica.begun
        if replica in self.running:
            self.running.remove(replica)
        if replica.engine is not None:
            self.outcome.lost += replica.engine.ongoing
            self.outcome.preemptions += replica.engine.preemptions

    def arrive(self, request: Request, now: float) -> None:
        """Pass a new request to a replica, queue it, or refuse it."""
        if not self.queue and self.route(request, now):
            return
        if len(self.queue) >= self.bounds.max_queued:
            self.outcome.refused += 1
            return
        self.queue.append(request)
        if not self.running:
            # Without a replica, Serve's callers report at once.
            self.sample(now)
            self.report(now)

    def route(self, request: Request, now: float) -> bool:
        """Pass a request to a replica with room; False if there is none."""
        limit = self.hardware.max_num_seqs
        chosen = None
        if self.running:
            for _ in range(3):
                pair = (self.random.choice(self.running), self.random.choice(self.running))
                best = min(pair, key=_ongoing)
                if _ongoing(best) < limit:
                    chosen = best
                    break
            else:
                best = min(self.running, key=_ongoing)
                chosen = best if _ongoing(best) < limit else None
        if chosen is None:
            return False
        assert chosen.engine is not None
        self.ended(chosen, chosen.engine.add(request, now))
        self.schedule(chosen)
        return True

    def ended(self, replica: _Replica, requests: list[Request]) -> None:
        for request in requests:
            seconds = request.ended - request.at_engine
            replica.request_s += (WEIGHT if replica.request_s else 1.0) * (seconds - replica.request_s)

    def schedule(self, replica: _Replica) -> None:
        assert replica.engine is not None
        at = replica.engine.next_event()
        if at != replica.due:
            replica.due = at
            if at < math.inf:
                self.push(at, "engine", replica.number)

    def step(self, replica: _Replica, now: float) -> None:
        """Handle an engine's event: requests end, or its cache is full."""
        assert replica.engine is not None
        replica.due = math.inf
        self.ended(replica, replica.engine.advance(now))
        if replica.draining_since is not None:
            if replica.engine.ongoing == 0:
                self.remove(replica, now)
                return
        else:
            self.fill(replica, now)
        self.schedule(replica)

    def fill(self, replica: _Replica, now: float) -> None:
        """Pass waiting requests to a replica until it is full."""
        assert replica.engine is not None
        while self.queue and replica.engine.ongoing < self.hardware.max_num_seqs:
            self.ended(replica, replica.engine.add(self.queue.popleft(), now))

    def sample(self, now: float) -> None:
        self.controller.sample(now, len(self.queue), sum(map(_ongoing, self.running)))

    def report(self, now: float) -> None:
        stats = {}
        for replica in self.running:
            engine = replica.engine
            assert engine is not None
            self.ended(replica, engine.advance(now))
            self.fill(replica, now)
            self.schedule(replica)
            stats[replica.number] = {
                ENGINE_RUNNING: float(engine.decoding),
                ENGINE_WAITING: float(len(engine.waiting)),
                KV_CACHE_USAGE: engine.cached / self.hardware.kv_tokens,
                REQUEST_SECONDS: replica.request_s,
            }
        self.controller.report(now, stats)

    def decide(self, now: float) -> None:
        bounds = self.bounds
        target = self.controller.decide(now, self.running, self.target, bounds.min_replicas, bounds.max_replicas)
        if target != self.target:
            self.target = target
            self.outcome.peak = max(self.outcome.peak, target)
            self.outcome.changes.append((now, target))
            self.scale(now, target)


def _ongoing(replica: _Replica) -> int:
    assert replica.engine is not None
    return replica.engine.ongoing


def simulate(
    requests: list[Request], arm: Arm, bounds: Bounds, *, seed: int, hardware: Hardware | None = None
) -> Outcome:
    """Run requests against a policy until the last of them has ended.

    Args:
        requests: in the order of arrival; they are changed in place.
        arm: the policy.
        bounds: of the deployment.
        seed: of start times, routing, and the choice of the replica to remove.
        hardware: of a replica.
    """
    hardware = hardware or Hardware()
    deployment = _Deployment(requests, arm, hardware, seed, bounds)
    outcome = deployment.outcome
    outcome.peak = bounds.min_replicas
    outcome.changes.append((0.0, bounds.min_replicas))
    deployment.scale(0.0, bounds.min_replicas, at_once=True)
    for at, kind in ((0.0, "sample"), (0.0, "report"), (0.5, "decide")):
        deployment.push(at, kind)
    arriving = iter(requests)
    following = next(arriving, None)
    with simulated_clock() as clock:
        while True:
            if following is not None and following.arrived <= deployment.events[0][0]:
                clock.now = now = following.arrived
                deployment.arrive(following, now)
                following = next(arriving, None)
                continue
            now, _, kind, number = heapq.heappop(deployment.events)
            clock.now = now
            replica = deployment.replicas.get(number)
            if kind == "engine":
                if replica is not None and replica.due == now:
                    deployment.step(replica, now)
            elif kind == "ready":
                if replica is not None and replica.draining_since is None:
                    replica.engine = Engine(hardware, now)
                    deployment.running.append(replica)
                    deployment.fill(replica, now)
                    deployment.schedule(replica)
            elif kind == "kill":
                if replica is not None:
                    deployment.remove(replica, now)
            elif kind == "sample":
                deployment.sample(now)
                deployment.push(now + deployment.controller.sample_s, kind)
            elif kind == "report":
                deployment.report(now)
                deployment.push(now + PUSH_S, kind)
            else:
                deployment.decide(now)
                deployment.push(now + TICK_S, kind)
                busy = deployment.queue or any(map(_ongoing_anywhere, deployment.replicas.values()))
                if following is None and not busy and now >= bounds.until_s:
                    break
    for replica in list(deployment.replicas.values()):
        deployment.remove(replica, now)
    return outcome


def _ongoing_anywhere(replica: _Replica) -> int:
    return 0 if replica.engine is None else replica.engine.ongoing
