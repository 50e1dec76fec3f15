"""Numbers out of timings that other processes disturb: ratios within a round, and their median and spread."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Spread:
    """A median, and how far the measurements lie apart."""

    median: float
    low: float
    """The first quartile."""
    high: float
    """The third quartile."""
    smallest: float
    largest: float
    measurements: int


def spread(values: Sequence[float]) -> Spread:
    """Median, quartiles (inclusive) and extremes of at least one number."""
    if not values:
        raise ValueError("there is nothing to take a median of")
    low, high = values[0], values[0]
    if len(values) > 1:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(statistics.median(values), low, high, min(values), max(values), len(values))


def relative_throughput(seconds: Mapping[str, Sequence[float]], arm: str, baseline: str) -> Spread:
    """Throughput of an arm by that of another, at equal tokens: the ratio of their seconds, round by round.

    Whatever slowed the machine during a round slowed both.
    """
    rounds = zip(seconds[arm], seconds[baseline], strict=True)
    return spread([theirs / ours for ours, theirs in rounds])


def rotated(items: Sequence[T], turn: int) -> list[T]:
    """The items in an order that begins one further each turn, so that none is always the first or behind the same."""
    begin = turn % len(items)
    order = [*items[begin:], *items[:begin]]
    return order[::-1] if (turn // len(items)) % 2 else order
