"""A batch of requests on many engines, event by event.

All requests wait in one queue; whichever replica has a free place takes the next. A replica decodes its batch at one
speed, which falls as the batch grows (benchmarks/autoscaling/engine.py). So the answer to "how long" contains what a
mean does not: the last and longest requests, which run on nearly empty replicas while all others idle.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.cluster.costs import Assumed

BYTES = 2
"""Of a weight in bf16."""
EACH_S = 0.0003
"""More seconds of a step for each request in the batch (benchmarks/autoscaling/engine.py)."""


@dataclass(frozen=True)
class Model:
    """A model that generates, and how it is laid out."""

    name: str
    parameters: float
    gpus: int
    """Of one replica (tensor parallel)."""
    slots: int
    """Requests that a replica decodes at once."""

    def step_s(self, assumed: Assumed) -> float:
        """Seconds of a decode step with an empty batch: reading the weights."""
        return self.parameters * BYTES / (self.gpus * assumed.bandwidth * assumed.bandwidth_used)


@dataclass(frozen=True)
class Batch:
    """What became of a batch."""

    wall_s: float
    """Until the last request ended."""
    busy: float
    """The part of the replicas' slots that decoded, on average, 0 to 1."""
    half_idle_s: float
    """How long at the end fewer than half of the slots were in use."""
    tokens: int
    replicas: int


def lengths(requests: int, median: float, sigma: float, most: int, seed: int) -> npt.NDArray[np.int64]:
    """Tokens to generate: log-normal, at most `most`."""
    drawn = np.random.default_rng([seed, requests]).lognormal(np.log(median), sigma, requests)
    return np.clip(drawn, 16, most).astype(np.int64)


def generate(tokens: npt.NDArray[np.int64], model: Model, gpus: int, assumed: Assumed) -> Batch:
    """Answer requests with the given numbers of tokens on `gpus` GPUs.

    Raises:
        ValueError: not even one replica fits.
    """
    replicas = gpus // model.gpus
    if not replicas:
        raise ValueError(f"{model.name} needs {model.gpus} GPUs a replica, {gpus} are there; raise --gpus")
    replicas = min(replicas, max(1, len(tokens)))
    queue = [int(count) for count in tokens]
    queue.reverse()
    # Spread as a shared queue does: one to each replica in turn, until slots or requests are used up.
    active: list[list[float]] = [[] for _ in range(replicas)]
    for slot in range(model.slots * replicas):
        if not queue:
            break
        heapq.heappush(active[slot % replicas], float(queue.pop()))
    return _run(active, queue, model, assumed)


def _run(active: list[list[float]], queue: list[int], model: Model, assumed: Assumed) -> Batch:
    """Ends of requests in the order of time. A replica's virtual clock counts the tokens that each request decoded."""
    base = model.step_s(assumed)
    total = int(sum(map(sum, active)) + sum(queue))
    clock, since = [0.0] * len(active), [0.0] * len(active)
    ends: list[tuple[float, int]] = []
    running = sum(map(len, active))
    slots = running
    for replica, batch in enumerate(active):
        if batch:
            heapq.heappush(ends, (batch[0] * (base + EACH_S * len(batch)), replica))
    now = used = half = 0.0
    while ends:
        then, replica = heapq.heappop(ends)
        used += running * (then - now)
        half += (then - now) * (running < slots / 2)
        now = then
        batch = active[replica]
        clock[replica] += (now - since[replica]) / (base + EACH_S * len(batch))
        since[replica] = now
        heapq.heappop(batch)
        if queue:
            heapq.heappush(batch, clock[replica] + queue.pop())
        else:
            running -= 1
        if batch:
            wait = max(0.0, batch[0] - clock[replica]) * (base + EACH_S * len(batch))
            heapq.heappush(ends, (now + wait, replica))
    return Batch(now, used / (slots * now) if now else 0.0, half, total, len(active))
