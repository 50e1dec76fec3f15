"""Methods of test-time scaling against each other, as s1's table 3: Control, Scaling and Performance, with intervals.

The paper prints the three numbers without intervals. Here the questions are resampled, the same ones for all arms of a
method, and each number is computed anew (basic bootstrap: the best of several arms comes out too large in resamples as
it does in the measurement, and the reflected interval takes that back).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from s1ray.errors import InputError
from s1ray.evaluation.metrics import RESAMPLES, Estimate
from s1ray.evaluation.results import EvalResults, Method
from s1ray.evaluation.strategies.class_conditional import ClassConditional
from s1ray.grading.interval import LEVEL

ROUNDING = 1e-6
"""Tokens by which a mean may miss its limit."""
BLOCK = 4_000_000
"""Weights of questions that are held at once."""


@dataclasses.dataclass(frozen=True)
class MethodRow:
    """One method on one model."""

    method: Method
    control: Estimate | None
    """Share of arms with a limit whose mean thinking tokens are within it; None where there is none. Class-conditional
    arms are judged against another arm, so theirs has no interval (low and high are the value)."""
    scaling: Estimate | None
    """Percentage points per doubling of the thinking tokens; None where no pair of arms has a slope, or the thinking
    of one is unknown."""
    level: tuple[tuple[str, str], ...]
    """Pairs of arms of which now one, now the other thinks longer as the questions are drawn. A slope between them
    divides by chance, so Scaling leaves them out."""
    performance: Estimate
    """The best arm's accuracy, a fraction."""


def method_rows(results: EvalResults, *, resamples: int = RESAMPLES) -> list[MethodRow]:
    """The methods of all models, in the report's order.

    Args:
        results: of one benchmark.
        resamples: of the questions.

    Raises:
        InputError: a method's arms share no question that all of them decided.
    """
    return [method_row(method, resamples=resamples) for method in results.methods()]


def method_row(method: Method, *, resamples: int = RESAMPLES) -> MethodRow:
    """One method's row, as `method_rows` says."""
    arms = method.arms
    shared = sorted(set.intersection(*(set(arm.correct) & set(arm.method_tokens) for arm in arms)))
    if not shared:
        raise InputError(f"{method.model}, {method.series}: there is no question that all of its arms decided")
    tokens_QA = np.array([[_mean(arm.method_tokens[q]) for arm in arms] for q in shared])
    right_QA = np.array([[_mean(arm.correct[q]) for arm in arms] for q in shared])
    drawn = [(weights @ tokens_QA, weights @ right_QA) for weights in _weights(len(shared), arms[0].seed, resamples)]
    tokens_RA, right_RA = (np.concatenate([pair[side] for pair in drawn]) for side in (0, 1))
    n = len(shared)
    told = any(isinstance(arm.setting, ClassConditional) for arm in arms)
    level = set() if method.unknown else _level(tokens_RA)
    measured = _slopes(tokens_QA.mean(axis=0, keepdims=True), right_QA.mean(axis=0, keepdims=True), level)
    return MethodRow(
        method=method,
        control=_control(method, tokens_RA, n, resampled=not told),
        scaling=_scaling(method, _slopes(tokens_RA, right_RA, level), measured, n, exact=not level),
        level=tuple((arms[a].arm, arms[b].arm) for a, b in sorted(level)),
        performance=_clipped(_basic(method.performance, right_RA.max(axis=1), n)),
    )


def _control(method: Method, tokens_RA: np.ndarray, n: int, *, resampled: bool) -> Estimate | None:
    value = method.control_runs
    if value is None or not resampled:
        return None if value is None else Estimate(value, value, value, n)
    limited = [number for number, arm in enumerate(method.arms) if arm.is_limited]
    limits = [method.arms[number].method_limits for number in limited]
    low, high = np.array([low for low, _ in limits]), np.array([np.inf if high is None else high for _, high in limits])
    # A weighted mean of equal numbers may be another in its last digit.
    obeyed = (tokens_RA[:, limited] >= low - ROUNDING) & (tokens_RA[:, limited] <= high + ROUNDING)
    return _clipped(_basic(value, obeyed.mean(axis=1), n))


def _level(tokens_RA: np.ndarray) -> set[tuple[int, int]]:
    """Pairs whose order by thinking tokens is not the same in `LEVEL` of the resamples."""
    level = set()
    for a, b in combinations(range(tokens_RA.shape[1]), 2):
        more = tokens_RA[:, b] - tokens_RA[:, a]
        if min(np.mean(more > ROUNDING), np.mean(more < -ROUNDING)) > 0.5 - LEVEL / 2:
            level.add((a, b))
    return level


def _scaling(method: Method, drawn: np.ndarray, measured: np.ndarray, n: int, *, exact: bool) -> Estimate | None:
    if method.unknown:
        return None
    value = method.scaling if exact else next(iter(measured.tolist()), None)
    return None if value is None or not len(drawn) else _basic(value, drawn, n)


def _slopes(tokens_RA: np.ndarray, right_RA: np.ndarray, level: set[tuple[int, int]]) -> np.ndarray:
    """`metrics.scaling` of each resample (a row) that has one, without the pairs that are level."""
    # An arm without thinking lies at minus infinity, and two of them nowhere.
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.log2(tokens_RA)
        pairs = sorted({*combinations(range(x.shape[1]), 2)} - level)
        runs = [x[:, b] - x[:, a] for a, b in pairs]
    slopes = []
    for (a, b), run in zip(pairs, runs, strict=True):
        sloped = np.isfinite(run) & (run != 0)
        rise = 100 * (right_RA[:, b] - right_RA[:, a])
        slopes.append(np.divide(rise, run, out=np.full_like(run, np.nan), where=sloped))
    if not slopes:
        return np.empty(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice")
        mean = np.nanmean(np.array(slopes), axis=0)
    found: np.ndarray = mean[np.isfinite(mean)]
    return found


def _basic(value: float, drawn: np.ndarray, n: int) -> Estimate:
    low, high = np.quantile(drawn, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Estimate(value, 2 * value - float(high), 2 * value - float(low), n)


def _clipped(found: Estimate) -> Estimate:
    return dataclasses.replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _weights(questions: int, seed: int, resamples: int) -> list[np.ndarray]:
    """Resamples of the questions as weights that sum to 1, in blocks."""
    random, block = np.random.default_rng(seed), max(1, BLOCK // questions)
    even = np.full(questions, 1 / questions)
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    return [random.multinomial(questions, even, size) / questions for size in sizes]
