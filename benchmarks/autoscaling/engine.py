"""One replica's engine, simulated: decode that slows down as the batch grows, and a KV cache that fills up.

All requests of a batch decode at the same speed, so the engine keeps one virtual clock, the tokens that a request has
decoded since the engine started, and a request ends when that clock has moved by its length. Events are the ends of
requests and the moments at which the cache is full; between them nothing has to be computed.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """What a replica can do. The numbers are those of a 32B model in bf16 on two H100s: reading 65 GB of weights takes
    most of a step, reading the cache of each request the rest; what weights leave of 2 x 80 GB holds 280,000 tokens at
    256 KiB each.
    """

    step_s: float = 0.020
    """Seconds of a decode step with an empty batch."""
    step_s_each: float = 0.0003
    """Further seconds for each request in the batch."""
    prefill_tokens_per_s: float = 8000.0
    kv_tokens: int = 280_000
    """Tokens in the KV cache."""
    max_num_seqs: int = 64
    """Requests decoded at once; no more are taken (`max_ongoing_requests`)."""
    start_s: float = 150.0
    """Seconds from asking for a replica to its first request, median."""
    start_sigma: float = 0.25
    """Sigma of its logarithm."""

    def speed(self, batch: int) -> float:
        """Tokens a second of each request."""
        return 1.0 / (self.step_s + self.step_s_each * batch)


WATERMARK = 0.02
"""Part of the cache that stays free when a request is admitted, so that it is not thrown out at once."""


@dataclass(eq=False, slots=True)
class Request:
    """One request and what became of it; seconds of the simulation's clock."""

    arrived: float
    prompt: int
    length: int
    """Tokens that it generates."""
    begun: float = math.nan
    """When its decoding began first."""
    ended: float = math.nan
    done: float = 0.0
    """Tokens generated before it was thrown out of the cache."""
    entered: float = 0.0
    """The engine's virtual clock when its decoding began, less `done`."""
    at_engine: float = math.nan
    """When a replica took it."""


class Engine:
    """A running replica's engine."""

    def __init__(self, hardware: Hardware, now: float) -> None:
        self._hardware = hardware
        self._clock = now
        self._virtual = 0.0
        self._offset = 0.0
        """Prompts less virtual starts, over the batch: cached tokens are this + batch * virtual."""
        self._ends: list[tuple[float, int, Request]] = []
        self._batch: dict[int, Request] = {}
        """In the order of their admission."""
        self.waiting: deque[Request] = deque()
        self._number = 0
        self.preemptions = 0

    @property
    def decoding(self) -> int:
        """Requests in the batch."""
        return len(self._batch)

    @property
    def ongoing(self) -> int:
        """Requests in the batch or waiting for it."""
        return len(self._batch) + len(self.waiting)

    @property
    def cached(self) -> float:
        """Tokens in the KV cache."""
        return self._offset + len(self._batch) * self._virtual

    def add(self, request: Request, now: float) -> list[Request]:
        """Take a request; returns those that end at this moment."""
        ended = self.advance(now)
        request.at_engine = now
        self.waiting.append(request)
        self._admit(now)
        return ended

    def advance(self, now: float) -> list[Request]:
        """Decode until `now`, which is not after the next event; returns the requests that ended."""
        if now > self._clock:
            self._virtual += (now - self._clock) * self._hardware.speed(len(self._batch))
            self._clock = now
        ended = []
        while self._ends and self._ends[0][0] <= self._virtual + 1e-6:
            _, number, request = heapq.heappop(self._ends)
            if self._batch.get(number) is not request:
                continue
            del self._batch[number]
            self._offset -= request.prompt - request.entered
            request.ended = now
            ended.append(request)
        if self.cached >= self._hardware.kv_tokens - 1e-3 and len(self._batch) > 1:
            self._throw_out()
        if ended:
            self._admit(now)
        return ended

    def next_event(self) -> float:
        """When something happens if nothing is added; infinity if never."""
        while self._ends and self._batch.get(self._ends[0][1]) is not self._ends[0][2]:
            heapq.heappop(self._ends)
        if not self._ends:
            return math.inf
        tokens = self._ends[0][0] - self._virtual
        batch = len(self._batch)
        if batch > 1:
            tokens = min(tokens, (self._hardware.kv_tokens - self.cached) / batch)
        return self._clock + max(tokens, 0.0) / self._hardware.speed(batch)

    def _admit(self, now: float) -> None:
        hardware = self._hardware
        while self.waiting and len(self._batch) < hardware.max_num_seqs:
            request = self.waiting[0]
            held = request.prompt + request.done
            if self._batch and self.cached + held > hardware.kv_tokens * (1 - WATERMARK):
                return
            self.waiting.popleft()
            if math.isnan(request.begun):
                request.begun = now
            # Everybody waits while its tokens are read.
            self._clock = max(self._clock, now) + held / hardware.prefill_tokens_per_s
            request.entered = self._virtual - request.done
            self._offset += request.prompt - request.entered
            self._number += 1
            self._batch[self._number] = request
            heapq.heappush(self._ends, (request.entered + request.length, self._number, request))

    def _throw_out(self) -> None:
        """The cache is full: the last request to come gives its place up, and is read again later."""
        number = next(reversed(self._batch))
        request = self._batch.pop(number)
        self._offset -= request.prompt - request.entered
        request.done = self._virtual - request.entered
        self.waiting.appendleft(request)
        self.preemptions += 1
