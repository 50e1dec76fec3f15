"""A simulated engine: decoding slows down as the batch grows, and the KV cache fills up.

All requests of a batch decode at the same speed, so the engine keeps one virtual clock, the tokens that a request would
have decoded since the engine started, and a request ends when that clock has advanced by its length. The only events
are ends of requests and a full cache.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """Speed and size of a replica. The defaults are those of a 32B model in bf16 on two H100s: reading 65 GB of weights
    takes most of a step, reading the requests' cache the rest; the memory beside the weights holds 280,000 tokens of
    256 KiB each.
    """

    step_s: float = 0.020
    """Seconds of a decode step with an empty batch."""
    step_s_each: float = 0.0003
    """Additional seconds per request in the batch."""
    prefill_tokens_per_s: float = 8000.0
    kv_tokens: int = 280_000
    """Tokens in the KV cache."""
    max_num_seqs: int = 64
    """Requests decoded at once; also `max_ongoing_requests`."""
    start_s: float = 150.0
    """Median seconds from requesting a replica to its first request."""
    start_sigma: float = 0.25
    """Standard deviation of its logarithm."""

    def speed(self, batch: int) -> float:
        """Tokens per second of each request."""
        return 1.0 / (self.step_s + self.step_s_each * batch)


WATERMARK = 0.02
"""Fraction of the cache that must stay free when a request is admitted, so that it is not preempted at once."""


@dataclass(eq=False, slots=True)
class Request:
    """One request and its times, in seconds of the simulated clock."""

    arrived: float
    prompt: int
    length: int
    """Tokens to generate."""
    begun: float = math.nan
    """When its decoding first began."""
    ended: float = math.nan
    done: float = 0.0
    """Tokens generated before it was preempted."""
    entered: float = 0.0
    """The engine's virtual clock when its decoding began, minus `done`."""
    at_engine: float = math.nan
    """When a replica received it."""


class Engine:
    """The engine of a running replica."""

    def __init__(self, hardware: Hardware, now: float) -> None:
        self._hardware = hardware
        self._clock = now
        self._virtual = 0.0
        self._offset = 0.0
        """Sum of prompts minus virtual starts over the batch: cached tokens are this + batch * virtual."""
        self._ends: list[tuple[float, int, Request]] = []
        self._batch: dict[int, Request] = {}
        """In the order of admission."""
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
        """Add a request; return the requests that end at this moment."""
        ended = self.advance(now)
        request.at_engine = now
        self.waiting.append(request)
        self._admit(now)
        return ended

    def advance(self, now: float) -> list[Request]:
        """Decode until `now`, which is not after the next event; return the requests that ended."""
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
            self._preempt()
        if ended:
            self._admit(now)
        return ended

    def next_event(self) -> float:
        """The time of the next event if no request is added; infinity if there is none."""
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
            # The whole batch waits during its prefill.
            self._clock = max(self._clock, now) + held / hardware.prefill_tokens_per_s
            request.entered = self._virtual - request.done
            self._offset += request.prompt - request.entered
            self._number += 1
            self._batch[self._number] = request
            heapq.heappush(self._ends, (request.entered + request.length, self._number, request))

    def _preempt(self) -> None:
        """Preempt the request that was admitted last; its tokens are computed again later."""
        number = next(reversed(self._batch))
        request = self._batch.pop(number)
        self._offset -= request.prompt - request.entered
        request.done = self._virtual - request.entered
        self.waiting.appendleft(request)
        self.preemptions += 1
