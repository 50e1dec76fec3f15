"""Models of intermediate steps in the run folder, and what was measured on each: `<output>/snapshots`.

    step_000050/       the model after 50 steps, whole or not there; deleted once it is measured, unless it is the best
    step_000050.json   its accuracy

The workers write models and the process that started the run writes accuracies: files are all that they share.
"""

from __future__ import annotations

import json
from typing import TypedDict, cast

from s1ray.storage import Location, remove, write_json

SNAPSHOTS_FOLDER = "snapshots"
PREFIX = "step_"


class Accuracy(TypedDict):
    """What was measured after a step."""

    step: int
    questions: int
    correct: int
    accuracy: float
    """The share of correct ones among those that were decided, 0 to 1, and its 95 % interval (Wilson)."""
    low: float
    high: float
    without_answer: int
    """Responses that no answer could be read off: wrong."""
    undecided: int
    """Answers that the grader could not decide on: they count neither as right nor as wrong."""
    cut: int
    """Responses that a limit cut."""
    failed: int
    """Requests without a response: wrong."""
    thinking_tokens: float
    """Mean of a response, as is the next."""
    answer_tokens: float
    seconds: float
    error: str | None
    """Why nothing was measured; all numbers are 0 then."""


class Snapshots:
    """The snapshots of a run."""

    def __init__(self, output: Location):
        self._folder = output / SNAPSHOTS_FOLDER

    def model(self, step: int) -> Location:
        """Where the model after a step is, or would be."""
        return self._folder / f"{PREFIX}{step:06d}"

    def record(self, found: Accuracy) -> None:
        """Keep what was measured."""
        write_json(self._result(found["step"]), found)

    def is_measured(self, step: int) -> bool:
        """Whether the accuracy after a step is known, or known not to be had."""
        return self._result(step).exists()

    def waiting(self) -> list[int]:
        """Steps whose models wait to be measured, ascending."""
        return [step for step in self._models() if not self.is_measured(step)]

    def results(self) -> list[Accuracy]:
        """Everything measured so far, by step."""
        files = sorted([*self._folder.glob(f"{PREFIX}*.json")])
        return [cast(Accuracy, json.loads(file.read_text(encoding="utf-8"))) for file in files]

    def best(self) -> Accuracy | None:
        """The highest accuracy; of equal ones the latest. None: nothing could be measured."""
        measured = [found for found in self.results() if found["error"] is None]
        return max(measured, key=lambda found: (found["accuracy"], found["step"]), default=None)

    def tidy(self, *, keep_best: bool) -> None:
        """Delete the models that are measured, but perhaps the best."""
        best = self.best() if keep_best else None
        for step in self._models():
            if self.is_measured(step) and (best is None or step != best["step"]):
                remove(self.model(step))

    def forget_after(self, finished_steps: int) -> None:
        """Delete everything of later steps, which a resumed run takes again."""
        for file in self._folder.glob(f"{PREFIX}*"):
            if int(file.stem.removeprefix(PREFIX)) > finished_steps:
                remove(file)

    def delete_models(self) -> None:
        """Delete all models, and what a killed run began to write."""
        for path in self._folder.glob(f".{PREFIX}*"):
            remove(path)
        for step in self._models():
            remove(self.model(step))

    def _models(self) -> list[int]:
        return sorted(int(path.name.removeprefix(PREFIX)) for path in self._folder.glob(f"{PREFIX}*") if path.is_dir())

    def _result(self, step: int) -> Location:
        return self._folder / f"{PREFIX}{step:06d}.json"


def not_measured(step: int, error: str) -> Accuracy:
    """A step whose accuracy could not be had."""
    return Accuracy(
        step=step,
        questions=0,
        correct=0,
        accuracy=0.0,
        low=0.0,
        high=0.0,
        without_answer=0,
        undecided=0,
        cut=0,
        failed=0,
        thinking_tokens=0.0,
        answer_tokens=0.0,
        seconds=0.0,
        error=error,
    )
