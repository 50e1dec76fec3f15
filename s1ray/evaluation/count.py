"""What came of one model with one arm, counted row by row, so that a hundred thousand rows need not be held.

The same numbers as `ArmResult`'s, which has the rows: for the manifest, and for what is said while a run goes on.
"""

from __future__ import annotations

from array import array
from collections import Counter

from s1ray.evaluation import metrics
from s1ray.evaluation.arm_result import raw_markers
from s1ray.evaluation.metrics import Estimate
from s1ray.evaluation.tasks import Cell
from s1ray.grading.interval import clustered_interval, wilson_interval
from s1ray.schemas import Evaluation

MEANS = ("thinking_tokens", "answer_tokens", "calls")
"""Fields of a row whose means the manifest has."""


class Verdicts:
    """Right and decided answers of each question; some ten bytes a question, however many rows there are."""

    def __init__(self, cell: Cell) -> None:
        """None yet."""
        self._numbers = cell.numbers
        self._right = array("i", [0]) * len(cell.questions)
        self._decided = array("i", [0]) * len(cell.questions)

    def add(self, row: Evaluation) -> None:
        """Count an answer."""
        if row.correct is not None:
            self._right[self._numbers[row.question_id]] += row.correct
            self._decided[self._numbers[row.question_id]] += 1

    @property
    def without(self) -> list[str]:
        """Ids of the questions that have no decided answer."""
        return sorted(question for question, number in self._numbers.items() if not self._decided[number])

    @property
    def accuracy(self) -> Estimate | None:
        """Over the questions that have a decided answer (`metrics.accuracy`). None: there is none."""
        shares = [right / decided for right, decided in zip(self._right, self._decided, strict=True) if decided]
        if not shares:
            return None
        value, samples = sum(shares) / len(shares), sum(self._decided)
        if samples == len(shares):
            low, high = wilson_interval(sum(self._right), len(shares))
        else:
            low, high = clustered_interval(shares, samples / len(shares))
        return Estimate(value, low, high, len(shares))


class ArmCount:
    """Counts the rows of a cell; what is counted is named as in `ArmResult`."""

    def __init__(self, cell: Cell) -> None:
        """None yet."""
        self.model, self.arm = cell.model.label, cell.arm.name
        self.verdicts = Counter[str]()
        self.errors = self.undecided = self.obeying = self.cut = self.unknown = self.uncounted = self.raw_markers = 0
        self.first_failed: Evaluation | None = None
        self._decided = Verdicts(cell)
        self._cell, self._limits = cell, cell.arm.limits
        self._answers = array("q", [0]) * len(cell.questions)
        self._sums = {name: array("q", [0]) * len(cell.questions) for name in MEANS}

    def add(self, row: Evaluation) -> None:
        """Count a row."""
        self.verdicts[row.verdict] += 1
        self._decided.add(row)
        self.uncounted += row.uncounted_calls
        self.undecided += row.correct is None
        if row.error is not None:
            self.errors += 1
            self.first_failed = self.first_failed or row
            return
        number = self._cell.numbers[row.question_id]
        self._answers[number] += 1
        for name, sums in self._sums.items():
            sums[number] += getattr(row, name)
        self.unknown += row.thinking_unknown
        self.cut += row.answer_cut or row.finish_reason == "length"
        self.raw_markers += raw_markers((row.answer,), self._cell.model.thinking_format)
        if not row.thinking_unknown:
            self.obeying += metrics.within(row.thinking_tokens, *self._limits)

    @property
    def answered(self) -> int:
        """Rows whose request did not fail."""
        return self.verdicts.total() - self.errors

    @property
    def outside(self) -> int:
        """Rows whose thinking is known not to be within the limits."""
        return self.answered - self.unknown - self.obeying

    @property
    def unparsable(self) -> int:
        """Rows from which no answer could be read."""
        return self.verdicts["unparsable"]

    @property
    def left_out(self) -> list[str]:
        """Questions that have no decided answer."""
        return self._decided.without

    def figures(self) -> dict[str, float | None]:
        """What the manifest says of it; None is not known."""
        return {
            "correct": self.verdicts["correct"],
            "answered": self.answered,
            "unparsable": self.unparsable,
            "undecided": self.undecided,
            **{name: round(self._mean(name), 2) for name in MEANS},
            **({"thinking_tokens": None} if self.unknown else {}),
            "uncounted_calls": self.uncounted,
            "answers_cut": self.cut,
            "raw_markers": self.raw_markers,
            "outside_limits": self.outside,
        }

    def _mean(self, name: str) -> float:
        means = [total / n for total, n in zip(self._sums[name], self._answers, strict=True) if n]
        return sum(means) / len(means)
