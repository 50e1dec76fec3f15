"""Two methods at equal tokens: sequential against parallel test-time scaling, or any other pair of series of arms.

    comparison = compare_series(results.maxima("sft"), results.other_series("sft")["majority"])

An arm is a point: the mean tokens of an answer (thinking and answer, of all requests for it) and the accuracy. Between
the arms of a series, accuracy is interpolated linearly over the logarithm of the tokens; series are compared only where
both were measured, between the larger of their smallest arms and the smaller of their largest. The interval comes from
resampling the questions (the same ones for every arm), tokens and accuracies alike, so that it holds for the whole
comparison and not only for the accuracies. A series is called the better one only where a sign-flip test of the
questions' differences, at the tokens that the arms were measured with, agrees.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from s1ray.errors import InputError
from s1ray.evaluation.arm_result import ArmResult, by_question
from s1ray.evaluation.metrics import BLOCK, RESAMPLES, Estimate, sign_flip
from s1ray.grading.interval import LEVEL

GRID = 33
"""Amounts of tokens, evenly spaced on a logarithmic axis, over which a difference is averaged."""


@dataclasses.dataclass(frozen=True)
class Spent:
    """One arm: what it spent on each question, and what came of it."""

    name: str
    tokens: Mapping[str, Sequence[float]]
    """Question id -> tokens of each of its answers."""
    correct: Mapping[str, Sequence[bool]]
    """Question id -> a verdict of each of its decided answers."""


@dataclasses.dataclass(frozen=True)
class EqualTokens:
    """The second series minus the first, at equal tokens; accuracies are fractions."""

    low: float
    """Fewest tokens at which both were measured."""
    high: float
    """Most of them."""
    difference: Estimate
    """Mean over all amounts between the two, on a logarithmic axis; n is in questions."""
    points: list[tuple[float, Estimate]]
    """The difference at the tokens of each arm that lies between the two, by growing tokens."""
    p: float
    """Of the sign-flip test on the questions' mean differences."""

    @property
    def winner(self) -> Literal["first", "second", ""]:
        """The better series, where the interval of the mean difference leaves out zero, and the test agrees."""
        if self.p >= 1 - LEVEL:
            return ""
        return "second" if self.difference.low > 0 else "first" if self.difference.high < 0 else ""


def at_equal_tokens(
    first: Sequence[Spent], second: Sequence[Spent], *, seed: int = 0, resamples: int = RESAMPLES
) -> EqualTokens:
    """Compare two series of arms on the questions that all of them decided.

    Args:
        first: at least one arm.
        second: at least one arm.
        seed: of the bootstrap.
        resamples: of the questions.

    Raises:
        InputError: a series is empty, the arms share no question, one spent nothing, or there is no amount of tokens at
            which both were measured.
    """
    before, after = _series_of(first, second)
    means = before.tokens_QA.mean(axis=0), after.tokens_QA.mean(axis=0)
    low, high = max(side.min() for side in means), min(side.max() for side in means)
    if low > high:
        ranges = " and ".join(f"{side.min():,.0f} to {side.max():,.0f}" for side in means)
        raise InputError(f"the two series have no amount of tokens in common: {ranges}")
    grid = np.geomspace(low, high, GRID) if high > low else np.array([low])
    inside = np.unique([mean for side in means for mean in side if low <= mean <= high])
    at = np.log(np.concatenate([grid, inside]))

    def differences(weights_RQ: np.ndarray) -> np.ndarray:
        found: np.ndarray = after.accuracy(at, weights_RQ) - before.accuracy(at, weights_RQ)
        return found

    questions = len(before.tokens_QA)
    measured = differences(np.full((1, questions), 1 / questions))[0]
    drawn = np.concatenate([differences(weights) for weights in _weights(questions, seed, resamples)])
    points = [
        (float(tokens), _estimate(measured[i : i + 1], drawn[:, i : i + 1], questions))
        for i, tokens in enumerate(inside, len(grid))
    ]
    mean = _estimate(measured[: len(grid)], drawn[:, : len(grid)], questions)
    by_question = (after.of_questions(at[: len(grid)]) - before.of_questions(at[: len(grid)])) @ _trapezoid(len(grid))
    return EqualTokens(float(low), float(high), mean, points, sign_flip(by_question, seed=seed))


def compare_series(first: Sequence[ArmResult], second: Sequence[ArmResult]) -> EqualTokens:
    """Compare two measured series; failed answers are left out of the tokens, and are wrong.

    Raises:
        InputError: as `at_equal_tokens`, or an arm has requests whose tokens nobody counted, which would flatter it.
    """
    for arm in (*first, *second):
        if arm.uncounted:
            raise InputError(
                f"{arm.arm!r} of {arm.model!r} has {arm.uncounted} request(s) whose tokens were not counted, which "
                "would flatter it; measure it without cancelling (`cancel: false`) and without failures"
            )
    seed = first[0].seed if first else 0
    return at_equal_tokens([_spent(arm) for arm in first], [_spent(arm) for arm in second], seed=seed)


def _spent(arm: ArmResult) -> Spent:
    tokens = by_question(arm.answered, lambda row: float(row.thinking_tokens + row.answer_tokens))
    return Spent(f"{arm.model} {arm.arm}", tokens, arm.correct)


@dataclasses.dataclass(frozen=True)
class _Series:
    """Tokens and share of right answers of each question (a row) in each arm (a column)."""

    tokens_QA: np.ndarray
    right_QA: np.ndarray

    def accuracy(self, at: np.ndarray, weights_RQ: np.ndarray) -> np.ndarray:
        """For each weighting of the questions (a row), the accuracy at each amount of tokens (a column).

        Args:
            at: logarithms of the amounts. Beyond the arms it is that of the nearest.
            weights_RQ: each row sums to 1.
        """
        x, y = np.log(np.maximum(weights_RQ @ self.tokens_QA, 1e-9)), weights_RQ @ self.right_QA
        order = np.argsort(x, axis=1, kind="stable")
        x, y = (np.take_along_axis(values, order, axis=1) for values in (x, y))
        last = x.shape[1] - 1
        passed = np.stack([(x <= amount).sum(axis=1) for amount in at], axis=1)
        left, right = np.clip(passed - 1, 0, last), np.clip(passed, 0, last)
        (x0, x1), (y0, y1) = ([np.take_along_axis(values, ends, axis=1) for ends in (left, right)] for values in (x, y))
        share = np.divide(at - x0, x1 - x0, out=np.zeros_like(x0), where=x1 > x0)
        found: np.ndarray = y0 + np.clip(share, 0, 1) * (y1 - y0)
        return found

    def of_questions(self, at: np.ndarray) -> np.ndarray:
        """Each question's share of right answers (a row) at each amount of tokens (a column), between the arms' mean
        tokens. Their mean is `accuracy` with all questions weighing the same.
        """
        x = np.log(self.tokens_QA.mean(axis=0))
        order = np.argsort(x)
        shares = np.array([np.interp(at, x[order], arm) for arm in np.eye(len(x))])
        found: np.ndarray = self.right_QA[:, order] @ shares
        return found


def _series_of(first: Sequence[Spent], second: Sequence[Spent]) -> tuple[_Series, _Series]:
    if not first or not second:
        raise InputError("a comparison at equal tokens needs at least one arm on either side")
    arms = [*first, *second]
    shared = sorted(set.intersection(*({*arm.tokens} & {*arm.correct} for arm in arms)))
    if not shared:
        raise InputError(f"no question was decided by all of {', '.join(arm.name for arm in arms)}")
    for arm in arms:
        if not any(sum(arm.tokens[question]) for question in shared):
            raise InputError(f"{arm.name!r} spent no tokens, so it cannot be compared at equal tokens")
    before, after = (
        _merged(_means([arm.tokens for arm in side], shared), _means([arm.correct for arm in side], shared))
        for side in (first, second)
    )
    return before, after


def _merged(tokens_QA: np.ndarray, right_QA: np.ndarray) -> _Series:
    """The series, arms of equal mean tokens averaged: between them there is nothing to interpolate."""
    _, group = np.unique(np.round(np.log(tokens_QA.mean(axis=0)), 9), return_inverse=True)
    members_AG = (group[:, None] == np.arange(group.max() + 1)) / np.bincount(group)
    return _Series(tokens_QA @ members_AG, right_QA @ members_AG)


def _means(arms: Sequence[Mapping[str, Sequence[float]]], questions: Sequence[str]) -> np.ndarray:
    """Of each question (a row) in each arm (a column)."""
    return np.array([[float(np.mean(arm[question])) for arm in arms] for question in questions])


def _weights(questions: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """How much each question (a column) counts in each resample (a row): in blocks, so that 10,000 resamples of many
    thousand questions do not need gigabytes at once.
    """
    random, block = np.random.default_rng(seed), max(1, BLOCK // questions)
    for begin in range(0, resamples, block):
        size = min(block, resamples - begin)
        yield random.multinomial(questions, np.full(questions, 1 / questions), size=size) / questions


def _trapezoid(amounts: int) -> np.ndarray:
    """Weights of evenly spaced values in their mean."""
    weights = np.ones(amounts)
    if amounts > 1:
        weights[[0, -1]] = 0.5
    weights /= weights.sum()
    return weights


def _estimate(measured: np.ndarray, drawn: np.ndarray, questions: int) -> Estimate:
    """The mean over amounts of tokens (the last axis), by the trapezoid rule, and its interval over resamples."""
    weights = _trapezoid(measured.shape[-1])
    low, high = np.quantile(drawn @ weights, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Estimate(float(measured @ weights), float(low), float(high), questions)
