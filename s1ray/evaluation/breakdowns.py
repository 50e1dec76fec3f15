"""Tables of a report beyond the arms themselves: accuracy by domain, and what several samples per question give."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from s1ray.evaluation.arm_result import ArmResult, by_question
from s1ray.evaluation.metrics import Estimate, pass_at_k
from s1ray.evaluation.results import EvalResults
from s1ray.grading import vote_classes
from s1ray.voting.ballots import elected


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


@dataclasses.dataclass(frozen=True)
class Repeated:
    """pass@k and majority vote of one measurement with several samples per question."""

    result: ArmResult
    pass_at: list[tuple[int, Share]]
    majority: Share | None
    """None: no question's most common answer is decided."""


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
            [(k, share) for k in (1, 2, 4, 8, 16, 32, 64, 128, 256) if (share := _pass_at(result, k)) is not None],
            _share(_votes(result)),
        )
        for result in results.arms
        if result.samples > 1
    ]


def _pass_at(result: ArmResult, k: int) -> Share | None:
    """Over the questions with k decided samples; None where there are none."""
    return _share(pass_at_k(len(v), sum(v), k) for v in result.correct.values() if len(v) >= k)


def _votes(result: ArmResult) -> Iterator[bool]:
    """For each question, whether the most common answer is right; questions where that is undecided are left out."""
    for samples in by_question(result.rows, lambda row: row).values():
        classes = vote_classes([row.extracted for row in samples])
        winner = elected(classes)
        if winner is None:
            # No sample has an answer: wrong, like each of them.
            yield False
            continue
        alike = [row.correct for row, vote in zip(samples, classes, strict=True) if vote == winner.number]
        decided = [correct for correct in alike if correct is not None]
        if decided:
            yield decided[0]


def _share(values: Iterable[float]) -> Share | None:
    counted = list(values)
    return Share(sum(counted) / len(counted), len(counted)) if counted else None
