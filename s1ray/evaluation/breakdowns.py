"""Tables of a report beyond the arms themselves: accuracy by domain, and what several samples per question give."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from s1ray.evaluation.arm_result import ArmResult, by_question
from s1ray.evaluation.metrics import Estimate, pass_at_k
from s1ray.evaluation.results import EvalResults
from s1ray.grading import is_guess, vote_classes
from s1ray.grading.interval import clustered_interval
from s1ray.schemas import Evaluation
from s1ray.voting.ballots import elected

SAMPLED = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Numbers of samples at which curves have a point."""
DRAWS = 64
"""Random choices of k samples, for the votes of each question."""


@dataclasses.dataclass(frozen=True)
class Domains:
    """Accuracy by domain."""

    columns: list[ArmResult]
    rows: list[tuple[str, list[Estimate | None]]]
    """A domain, and its accuracy in each column."""


@dataclasses.dataclass(frozen=True)
class Share:
    """A share of questions."""

    value: float
    n: int
    """Questions that count: those that have enough decided samples."""
    low: float = 0.0
    high: float = 1.0
    """95 % interval."""


@dataclasses.dataclass(frozen=True)
class Repeated:
    """pass@k and majority vote of one measurement with several samples per question."""

    result: ArmResult
    pass_at: list[tuple[int, Share]]
    majority: Share | None
    """None: no question's most common answer is decided."""
    majority_at: list[tuple[int, Share]] = dataclasses.field(default_factory=list)
    """Majority vote of k samples, as a mean over random choices of k of those that were taken."""


def domains(results: EvalResults) -> Domains:
    """Each model at its smallest and largest maximum."""
    columns: list[ArmResult] = []
    for model in results.models:
        arms = results.maxima(model) or results.of(model)
        columns += [arms[0], arms[-1]] if len(arms) > 1 else arms
    rows = [
        (domain or "(none)", [result.accuracy_of_domain(domain) for result in columns]) for domain in results.domains
    ]
    return Domains(columns, rows)


def repeated(results: EvalResults) -> list[Repeated]:
    """pass@k and votes of every measurement that has several samples of a question."""
    return [
        Repeated(
            result,
            [(k, share) for k in SAMPLED if (share := _pass_at(result, k)) is not None],
            _share(_votes(result), result.samples),
            [(k, share) for k in SAMPLED if (share := _majority_at(result, k)) is not None],
        )
        for result in results.arms
        if result.samples > 1
    ]


def _pass_at(result: ArmResult, k: int) -> Share | None:
    """Over the questions with k decided samples; None where there are none."""
    values = (pass_at_k(len(v), sum(v), k) for v in result.correct.values() if len(v) >= k)
    return _share(values, result.samples / k)


def _majority_at(result: ArmResult, k: int) -> Share | None:
    """Over the questions with k samples; None where there are none."""
    random = np.random.default_rng(result.seed)
    values: list[float] = []
    for samples in by_question(result.rows, lambda row: row).values():
        if len(samples) < k:
            continue
        classes = _ballots(samples)
        right: dict[int | None, bool] = {}
        for row, vote in zip(samples, classes, strict=True):
            if row.correct is not None:
                right.setdefault(vote, row.correct)
        won = []
        for chosen in _choices(len(samples), k, random):
            winner = elected([classes[i] for i in chosen])
            won.append(samples[chosen[0]].correct if winner is None else right.get(winner.number))
        decided = [each for each in won if each is not None]
        if decided:
            values.append(sum(decided) / len(decided))
    return _share(values, result.samples / k)


def _choices(samples: int, k: int, random: np.random.Generator) -> Iterator[Sequence[int]]:
    """Which samples vote: every one alone, all of them in their order, or `DRAWS` random choices in random order."""
    if k == 1:
        yield from ([place] for place in range(samples))
    elif k == samples:
        yield range(samples)
    else:
        yield from (random.permutation(samples)[:k].tolist() for _ in range(DRAWS))


def _votes(result: ArmResult) -> Iterator[bool]:
    """For each question, whether the most common answer is right; questions where that is undecided are left out."""
    for samples in by_question(result.rows, lambda row: row).values():
        classes = _ballots(samples)
        winner = elected(classes)
        if winner is None:
            alike = [samples[0].correct]
        else:
            alike = [row.correct for row, vote in zip(samples, classes, strict=True) if vote == winner.number]
        decided = [correct for correct in alike if correct is not None]
        if decided:
            yield decided[0]


def _ballots(samples: Sequence[Evaluation]) -> list[int | None]:
    """Each sample's vote, as the strategy `majority` counts it: a guess has none, and where nobody has one the first
    sample is taken.
    """
    return vote_classes([None if is_guess(row.graded_by) else row.extracted for row in samples])


def _share(values: Iterable[float], samples: float = 1.0) -> Share | None:
    """Their mean, with an interval over questions.

    Args:
        values: one a question.
        samples: independent samples behind each, about.
    """
    counted = [float(value) for value in values]
    if not counted:
        return None
    low, high = clustered_interval(counted, max(1.0, samples))
    return Share(sum(counted) / len(counted), len(counted), low, high)
