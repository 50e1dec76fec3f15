"""Numbers out of timings that other processes disturb: ratios within a round, and their median and spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
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


def ratios(seconds: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Throughput by that of a baseline, at equal tokens: the ratio of their seconds, measurement by measurement.

    Whatever slowed the machine for a while slowed both.
    """
    return [theirs / ours for ours, theirs in zip(seconds, baseline, strict=True)]


def rotated(items: Sequence[T], turn: int) -> list[T]:
    """The items in an order that begins one further each turn, so that none is always the first or behind the same."""
    begin = turn % len(items)
    order = [*items[begin:], *items[:begin]]
    return order[::-1] if (turn // len(items)) % 2 else order
