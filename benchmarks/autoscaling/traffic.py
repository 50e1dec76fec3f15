"""Traffic: arrivals and thinking lengths of requests, drawn from stated distributions with a seed.

Thinking lengths are log-normal with median 6,000 tokens and sigma 0.7, clipped to 300 to 28,000: the shape of
s1K-1.1's traces (broad from 1,000 to 17,000, with a tail to 26,000). An answer of 600 tokens follows. Prompts have 300
tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.autoscaling.engine import Request

PROMPT, ANSWER = 300, 600
MEDIAN, SIGMA, MIN_THINKING, MAX_THINKING = 6000, 0.7, 300, 28_000
HOUR = 3600.0

Generator = np.random.Generator
Array = npt.NDArray[np.float64]
Curve = Callable[[Generator, Array], Array]
"""A value for each of the given seconds."""


@dataclass(frozen=True)
class Bounds:
    """What a simulated deployment may use."""

    min_replicas: int
    """Also the number of replicas at the start."""
    max_replicas: int
    max_queued: int = 1024
    """Most waiting requests."""
    until_s: float = 0.0
    """Replicas are paid for at least until then, and until the last request has ended."""


@dataclass(frozen=True)
class Trace:
    """A kind of traffic."""

    name: str
    description: str
    """For the report."""
    hours: float
    rate: Curve
    """Requests per second."""
    lengths: Curve
    """Thinking tokens of the requests that arrive at the given seconds."""
    min_replicas: int = 1
    max_replicas: int = 24
    max_queued: int = 1024
    """Most waiting requests: 1,024 per HTTP worker."""

    def bounds(self) -> Bounds:
        """The replicas, the queue and the duration, for `simulate`."""
        return Bounds(self.min_replicas, self.max_replicas, self.max_queued, self.hours * HOUR)

    def draw(self, seed: int, scale: float = 1.0) -> list[Request]:
        """The requests in the order of arrival; `scale` multiplies their number."""
        rng = np.random.default_rng([seed, len(self.name)])
        seconds = np.arange(int(self.hours * HOUR), dtype=float)
        counts = rng.poisson(np.maximum(self.rate(rng, seconds), 0.0) * scale)
        arrivals = np.sort(np.repeat(seconds, counts) + rng.random(counts.sum()))
        lengths = np.clip(self.lengths(rng, arrivals), MIN_THINKING, MAX_THINKING).astype(int) + ANSWER
        return [Request(float(at), PROMPT, int(n)) for at, n in zip(arrivals, lengths, strict=True)]


def reasoning(rng: Generator, arrivals: Array) -> Array:
    """Thinking as long as in s1K-1.1."""
    return rng.lognormal(np.log(MEDIAN), SIGMA, len(arrivals))


def long(rng: Generator, arrivals: Array) -> Array:
    """Hard questions with large budgets: log-normal, median 14,000 tokens."""
    return rng.lognormal(np.log(14_000), 0.5, len(arrivals))


def shifting(rng: Generator, arrivals: Array) -> Array:
    """Pareto-tailed thinking (exponent 1.3) whose scale oscillates from 700 to 5,000 tokens every two hours."""
    long = 0.5 + 0.5 * np.sin(2 * np.pi * arrivals / (2 * HOUR))
    scale = np.exp(np.log(700) + long * np.log(5000 / 700))
    lengths: Array = scale * (1 + rng.pareto(1.3, len(arrivals)))
    return lengths


def short(rng: Generator, arrivals: Array) -> Array:
    """Small budgets: log-normal, median 400 tokens."""
    return rng.lognormal(np.log(400), 0.5, len(arrivals))


def constant(level: float) -> Curve:
    """A constant rate."""
    return lambda rng, seconds: np.full(len(seconds), level)


def bursts(level: float, peak: float, every_s: float, last_s: float) -> Curve:
    """A base level, and bursts of exponential duration that arrive as a Poisson process."""

    def rate(rng: Generator, seconds: Array) -> Array:
        result, at = np.full(len(seconds), level), float(rng.exponential(every_s))
        while at < len(seconds):
            lasts = 60 + float(rng.exponential(last_s))
            result[int(at) : int(at + lasts)] = peak
            at += lasts + float(rng.exponential(every_s))
        return result

    return rate


def daily(low: float, high: float) -> Curve:
    """A day: a sine between two rates, times slow noise (sigma 0.15, correlated over half an hour)."""

    def rate(rng: Generator, seconds: Array) -> Array:
        sine = low + (high - low) * (0.5 - 0.5 * np.cos(2 * np.pi * seconds / (24 * HOUR)))
        step, memory, noise = 60, np.exp(-60 / 1800), 0.0
        levels = []
        for _ in range(0, len(seconds), step):
            noise = memory * noise + 0.15 * np.sqrt(1 - memory**2) * rng.standard_normal()
            levels.append(noise)
        rates: Array = sine * np.exp(np.repeat(levels, step)[: len(seconds)])
        return rates

    return rate


def rarely(every_s: float) -> Curve:
    """Sessions of ten minutes, often more than an hour apart, and nothing in between."""

    def rate(rng: Generator, seconds: Array) -> Array:
        result, at = np.zeros(len(seconds)), float(rng.exponential(every_s))
        while at < len(seconds):
            result[int(at) : int(at) + 600] = 0.05
            at += 600 + float(rng.exponential(every_s))
        return result

    return rate


TRACES = (
    Trace("steady", "1 request per second for 6 hours, thinking as long as in s1K-1.1", 6, constant(1.0), reasoning),
    Trace(
        "bursts",
        "0.3 per second; bursts of 2 per second, 60 s plus exponential with mean 8 minutes, an hour apart; 12 hours",
        12,
        bursts(0.3, 2.0, HOUR, 480),
        reasoning,
    ),
    Trace("diurnal", "a day between 0.1 and 1.8 per second with slow noise", 24, daily(0.1, 1.8), reasoning),
    Trace(
        "heavy-tailed",
        "0.8 per second for 8 hours; Pareto-tailed thinking, scale oscillating from 700 to 5,000 tokens in two hours",
        8,
        constant(0.8),
        shifting,
    ),
    Trace("long", "0.3 per second for 8 hours, all hard (median 14,000 tokens)", 8, constant(0.3), long),
    Trace(
        "short",
        "small budgets (median 400 tokens): 4 per second, bursts of 25 per second for two minutes; 6 hours",
        6,
        bursts(4.0, 25.0, HOUR / 2, 60),
        short,
        max_queued=4096,
    ),
    Trace(
        "rare",
        "sessions of ten minutes (3 requests a minute), nothing in between, scale to zero; 24 hours",
        24,
        rarely(5400),
        reasoning,
        0,
        8,
    ),
)

FLEET = Trace(
    "fleet",
    "110 per second rising to 150 and falling back within an hour and a half, up to 1,200 replicas",
    1.5,
    lambda rng, seconds: 110 + 40 * np.sin(np.pi * seconds / 5400),
    reasoning,
    700,
    1200,
    16 * 1024,
)
"""A thousand replicas."""
