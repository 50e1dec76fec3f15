"""Numbers as the report writes them."""

from __future__ import annotations

from s1ray.evaluation.metrics import Estimate


def interval(estimate: Estimate) -> str:
    """A share's interval in percent."""
    return f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}"


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def points_interval(estimate: Estimate) -> str:
    """A difference's interval in percentage points."""
    return f"{points(estimate.low)} to {points(estimate.high)}"
