"""Traffic: when requests come and how long they think, drawn from stated distributions with a seed.

Thinking lengths are log-normal with median 6,000 tokens and sigma 0.7, cut to 300 to 28,000: of the shape of s1K-1.1's
traces (broad from 1,000 to 17,000, with a tail to 26,000). An answer of 600 tokens follows. Prompts have 300 tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.autoscaling.engine import Request

PROMPT, ANSWER = 300, 600
MEDIAN, SIGMA, SHORTEST, LONGEST = 6000, 0.7, 300, 28_000
HOUR = 3600.0

Generator = np.random.Generator
Lengths = Callable[[Generator, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Trace:
    """A kind of traffic."""

    name: str
    says: str
    """One sentence for the report."""
    hours: float
    rate: Callable[[Generator, np.ndarray], np.ndarray]
    """Requests a second at each of the given seconds."""
    lengths: Lengths
    """Thinking tokens of requests that come at the given seconds."""
    min_replicas: int = 1
    max_replicas: int = 24
    max_queued: int = 1024
    """Requests that wait at most: 1,024 for each HTTP worker."""

    def bounds(self) -> dict[str, Any]:
        """Arguments of `simulate`."""
        return {
            "minimum": self.min_replicas,
            "maximum": self.max_replicas,
            "max_queued": self.max_queued,
            "until": self.hours * HOUR,
        }

    def draw(self, seed: int, scale: float = 1.0) -> list[Request]:
        """The requests, in the order of their arrival; `scale` multiplies their number."""
        rng = np.random.default_rng([seed, len(self.name)])
        seconds = np.arange(int(self.hours * HOUR), dtype=float)
        counts = rng.poisson(np.maximum(self.rate(rng, seconds), 0.0) * scale)
        arrivals = np.sort(np.repeat(seconds, counts) + rng.random(counts.sum()))
        lengths = np.clip(self.lengths(rng, arrivals), SHORTEST, LONGEST).astype(int) + ANSWER
        return [Request(float(at), PROMPT, int(n)) for at, n in zip(arrivals, lengths, strict=True)]


def reasoning(rng: Generator, arrivals: np.ndarray) -> np.ndarray:
    """s1K-like thinking."""
    return rng.lognormal(np.log(MEDIAN), SIGMA, len(arrivals))


def long(rng: Generator, arrivals: np.ndarray) -> np.ndarray:
    """Hard questions with large budgets: log-normal, median 14,000 tokens."""
    return rng.lognormal(np.log(14_000), 0.5, len(arrivals))


def shifting(rng: Generator, arrivals: np.ndarray) -> np.ndarray:
    """Pareto-tailed thinking (exponent 1.3) whose scale swings between 700 and 5,000 tokens every two hours."""
    long = 0.5 + 0.5 * np.sin(2 * np.pi * arrivals / (2 * HOUR))
    scale = np.exp(np.log(700) + long * np.log(5000 / 700))
    return scale * (1 + rng.pareto(1.3, len(arrivals)))


def short(rng: Generator, arrivals: np.ndarray) -> np.ndarray:
    """Small budgets: log-normal, median 400 tokens."""
    return rng.lognormal(np.log(400), 0.5, len(arrivals))


def constant(level: float) -> Callable[[Generator, np.ndarray], np.ndarray]:
    """The same rate all the time."""
    return lambda rng, seconds: np.full(len(seconds), level)


def bursts(level: float, peak: float, every_s: float, last_s: float) -> Callable[[Generator, np.ndarray], np.ndarray]:
    """A base level, and bursts of exponential length that come as a Poisson process."""

    def rate(rng: Generator, seconds: np.ndarray) -> np.ndarray:
        result, at = np.full(len(seconds), level), float(rng.exponential(every_s))
        while at < len(seconds):
            lasts = 60 + float(rng.exponential(last_s))
            result[int(at) : int(at + lasts)] = peak
            at += lasts + float(rng.exponential(every_s))
        return result

    return rate


def daily(low: float, high: float) -> Callable[[Generator, np.ndarray], np.ndarray]:
    """A day: a sine between two rates, times slow noise (sigma 0.15, remembered for half an hour)."""

    def rate(rng: Generator, seconds: np.ndarray) -> np.ndarray:
        sine = low + (high - low) * (0.5 - 0.5 * np.cos(2 * np.pi * seconds / (24 * HOUR)))
        step, memory, noise = 60, np.exp(-60 / 1800), 0.0
        levels = []
        for _ in range(0, len(seconds), step):
            noise = memory * noise + 0.15 * np.sqrt(1 - memory**2) * rng.standard_normal()
            levels.append(noise)
        return sine * np.exp(np.repeat(levels, step)[: len(seconds)])

    return rate


def rarely(every_s: float) -> Callable[[Generator, np.ndarray], np.ndarray]:
    """Sessions of ten minutes, some of them an hour apart and more, and nothing between them."""

    def rate(rng: Generator, seconds: np.ndarray) -> np.ndarray:
        result, at = np.zeros(len(seconds)), float(rng.exponential(every_s))
        while at < len(seconds):
            result[int(at) : int(at) + 600] = 0.05
            at += 600 + float(rng.exponential(every_s))
        return result

    return rate


TRACES = (
    Trace("steady", "1 request a second for 6 hours, s1K-like thinking", 6, constant(1.0), reasoning),
    Trace(
        "bursts",
        "0.3 a second; bursts of 2 a second, 60 s and exponential with mean 8 minutes, an hour apart; 12 hours",
        12,
        bursts(0.3, 2.0, HOUR, 480),
        reasoning,
    ),
    Trace("diurnal", "a day between 0.1 and 1.8 a second with slow noise", 24, daily(0.1, 1.8), reasoning),
    Trace(
        "heavy-tailed",
        "0.8 a second for 8 hours; Pareto-tailed thinking whose scale swings from 700 to 5,000 tokens in two hours",
        8,
        constant(0.8),
        shifting,
    ),
    Trace("long", "0.3 a second for 8 hours, all of them hard (median 14,000 tokens)", 8, constant(0.3), long),
    Trace(
        "short",
        "small budgets (median 400 tokens): 4 a second, bursts of 25 a second, two minutes long; 6 hours",
        6,
        bursts(4.0, 25.0, HOUR / 2, 60),
        short,
        max_queued=4096,
    ),
    Trace(
        "rare",
        "sessions of ten minutes (3 requests a minute) with nothing between them, scale to zero; 24 hours",
        24,
        rarely(5400),
        reasoning,
        0,
        8,
    ),
)

FLEET = Trace(
    "fleet",
    "110 a second rising to 150 and falling back within an hour and a half, up to 1,200 replicas",
    1.5,
    lambda rng, seconds: 110 + 40 * np.sin(np.pi * seconds / 5400),
    reasoning,
    700,
    1200,
    16 * 1024,
)
"""A thousand replicas."""
