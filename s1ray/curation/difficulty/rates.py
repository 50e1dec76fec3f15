"""Pass rates of questions, and what follows from them: too easy, too hard, or neither.

An attempt whose grading has no outcome may be right or wrong. So a pass rate lies between two ends, and a question is
dropped for it, or stays, only where both ends say the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from s1ray.curation.difficulty.config import DifficultyBounds

UNKNOWN, FITS, TOO_EASY, TOO_HARD = range(4)
"""What is known of a question's difficulty."""
REASONS = {TOO_EASY: "too easy", TOO_HARD: "too hard", UNKNOWN: "difficulty not measured"}
"""Why a question is dropped."""
DIGITS = 6
"""Of a pass rate that is written."""

Counts = npt.NDArray[np.int64]
Rates = npt.NDArray[np.float64]


def judged(low: Rates, high: Rates, bounds: DifficultyBounds) -> npt.NDArray[np.uint8]:
    """For each of Q questions one of `UNKNOWN`, `FITS`, `TOO_EASY`, `TOO_HARD`; shape (Q,).

    Args:
        low: the largest pass rate of a question is at least this; shape (Q,).
        high: and at most this. 0 and 1: nothing is known.
        bounds: of what may stay.
    """
    codes = np.full(len(low), UNKNOWN, np.uint8)
    codes[(low >= bounds.min_pass_rate) & (high <= bounds.max_pass_rate)] = FITS
    codes[high < bounds.min_pass_rate] = TOO_HARD
    codes[low > bounds.max_pass_rate] = TOO_EASY
    return codes


@dataclass(frozen=True)
class PassRates:
    """The outcomes of the attempts of M models at Q questions; each array has shape (Q, M)."""

    models: list[str]
    right: Counts
    wrong: Counts
    undecided: Counts
    """Graded without an outcome. Requests that failed, and attempts at questions without an answer, are nowhere."""

    def judged(self, bounds: DifficultyBounds) -> npt.NDArray[np.uint8]:
        """What is known of each question, as `judged` gives it; shape (Q,)."""
        attempts = self.right + self.wrong + self.undecided
        least = np.divide(self.right, attempts, out=np.zeros(attempts.shape), where=attempts > 0)
        most = np.divide(self.right + self.undecided, attempts, out=np.ones(attempts.shape), where=attempts > 0)
        return judged(least.max(axis=1), most.max(axis=1), bounds)

    def solved_by(self, begin: int, end: int) -> list[list[str] | None]:
        """Of some questions the models with a right attempt, sorted; None where there is none and one of the models is
        not known to have failed.
        """
        solved = self.right[begin:end] > 0
        failed = ((self.wrong[begin:end] > 0) & (self.undecided[begin:end] == 0)).all(axis=1)
        return [
            sorted(model for model, is_right in zip(self.models, row, strict=True) if is_right)
            if any(row) or has_failed
            else None
            for row, has_failed in zip(solved.tolist(), failed.tolist(), strict=True)
        ]

    def texts(self, begin: int, end: int) -> list[str | None]:
        """Of some questions the pass rates as `Question.pass_rates` has them."""
        right, decided = self.right[begin:end], (self.right + self.wrong)[begin:end]
        rows = zip(right.tolist(), decided.tolist(), strict=True)
        return [as_text({m: r / d for m, r, d in zip(self.models, *row, strict=True) if d}) for row in rows]


def as_text(rates: dict[str, float]) -> str | None:
    """Pass rates as `Question.pass_rates` has them: JSON, or None where there are none."""
    return json.dumps({model: round(rates[model], DIGITS) for model in sorted(rates)}) if rates else None


def from_text(text: str) -> dict[str, float]:
    """The pass rates that a text has.

    Raises:
        ValueError: it is not as `Question.pass_rates` should be.
    """
    rates = json.loads(text)
    if not isinstance(rates, dict) or not all(type(rate) in (int, float) and 0 <= rate <= 1 for rate in rates.values()):
        raise ValueError("must be a JSON object of model and share from 0 to 1")
    return rates


def judged_labels(
    solved_by: Sequence[Sequence[str] | None], pass_rates: Sequence[str | None], bounds: DifficultyBounds
) -> npt.NDArray[np.uint8]:
    """What the labels of sources say of each of Q questions, as `judged` gives it; shape (Q,).

    Args:
        solved_by: as `Question` has it. A label without a pass rate counts as one attempt.
        pass_rates: as `Question` has it.
        bounds: of what may stay.
    """
    low, high = np.zeros(len(solved_by)), np.ones(len(solved_by))
    for place, (solvers, text) in enumerate(zip(solved_by, pass_rates, strict=True)):
        rates = {} if text is None else from_text(text)
        if solvers is not None or rates:
            labels = dict.fromkeys(solvers or (), 1.0) | rates
            low[place] = high[place] = max(labels.values(), default=0.0)
    return judged(low, high, bounds)
