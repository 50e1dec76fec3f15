"""One model measured with one arm: accuracy, tokens, limits, waits and failures, from its Evaluation rows."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TypeVar

from s1ray.evaluation import metrics
from s1ray.evaluation.metrics import Estimate
from s1ray.evaluation.strategies.base import Strategy
from s1ray.evaluation.strategies.budget_forcing import BUDGET_FORCING
from s1ray.schemas import Evaluation

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class ArmResult:
    """One model measured with one arm."""

    model: str
    setting: Strategy
    rows: list[Evaluation]
    """By id; thinking and answer are left out (empty), since they can take gigabytes."""
    seed: int = 0

    @property
    def arm(self) -> str:
        """The arm's label."""
        return self.setting.name

    @property
    def is_forced(self) -> bool:
        """Whether the arm is one of budget forcing."""
        return self.setting.strategy == BUDGET_FORCING

    @cached_property
    def correct(self) -> dict[str, list[bool]]:
        """Question id -> verdicts; failed requests and unreadable answers count as wrong."""
        return by_question(self.rows, lambda row: row.correct)

    @cached_property
    def accuracy(self) -> Estimate:
        """Over questions."""
        return metrics.accuracy(self.correct, seed=self.seed)

    @cached_property
    def thinking_tokens(self) -> Estimate:
        """Mean thinking tokens per question; failed requests are left out."""
        return metrics.mean_estimate(by_question(self.answered, lambda row: row.thinking_tokens))

    @cached_property
    def answer_tokens(self) -> Estimate:
        """Mean answer tokens per question; failed requests are left out."""
        return metrics.mean_estimate(by_question(self.answered, lambda row: row.answer_tokens))

    @property
    def longest(self) -> int:
        """Thinking tokens of the longest sample."""
        return max(row.thinking_tokens for row in self.rows)

    @cached_property
    def answered(self) -> list[Evaluation]:
        """Rows whose request did not fail."""
        return [row for row in self.rows if row.error is None]

    @property
    def obeying(self) -> int:
        """Answered samples whose thinking is within the arm's limits."""
        limits = self.setting.limits
        return sum(metrics.within(row.thinking_tokens, *limits) for row in self.answered)

    @property
    def waits(self) -> float:
        """Waits inserted, mean over answered samples."""
        return sum(row.waits for row in self.answered) / len(self.answered)

    @property
    def ends(self) -> Counter[str]:
        """Samples by how their thinking ended: "own" or the reason why the end was forced."""
        return Counter(row.end_forced or "own" for row in self.answered)

    @property
    def errors(self) -> int:
        """Samples whose request failed for good."""
        return len(self.rows) - len(self.answered)

    @property
    def unread(self) -> int:
        """Answered samples from which no answer could be read."""
        return sum(row.extracted is None for row in self.answered)

    @property
    def graders(self) -> Counter[str]:
        """Samples by what graded them."""
        return Counter(row.graded_by for row in self.answered)

    @property
    def samples(self) -> int:
        """Most samples of any question."""
        return max(len(verdicts) for verdicts in self.correct.values())

    def accuracy_of_domain(self, domain: str | None) -> Estimate | None:
        """Accuracy over the questions of one domain; None where there are none."""
        questions = {row.question_id for row in self.rows if row.domain == domain}
        if not questions:
            return None
        return metrics.accuracy({key: self.correct[key] for key in questions}, seed=self.seed)


def by_question(rows: Iterable[Evaluation], value: Callable[[Evaluation], T]) -> dict[str, list[T]]:
    """Question id -> a value of each of its samples."""
    values: dict[str, list[T]] = defaultdict(list)
    for row in rows:
        values[row.question_id].append(value(row))
    return dict(values)
