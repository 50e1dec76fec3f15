"""Difficulty as a scripted model measures it: the model, its grader, and configs of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pydantic import Field

from s1ray.config import validate_config
from s1ray.curation.difficulty.config import ModelDifficulty
from s1ray.generation.base import OnCall, Usage
from s1ray.grading import Grade
from s1ray.storage import Location
from s1ray.teachers.base import Ask, Response, RunningTeacher, Teacher

ENGINE = {"model": "some/model"}
VLLM = {"kind": "vllm", "engine": ENGINE}
SPEAKER = f"{__name__}:Speaker"
ASKED: Counter[str] = Counter()
"""Ids of the asks of `Speaker`s, and how often."""


class Killed(BaseException):
    """The process is gone."""


class Speaker(Teacher):
    """Says the question's words one after another, a sample each: "Say 12 13" is answered by 12, then by 13."""

    limit: int = 1_000_000
    """After so many asks of the test the process is killed."""
    tokens: int = Field(default=3)
    finish_reason: str = "stop"

    def start(self, seed: int, folder: Location) -> RunningTeacher:
        return _Speaking(self)


class _Speaking:
    def __init__(self, config: Speaker) -> None:
        self._config = config

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        for ask in asks:
            if ASKED.total() == self._config.limit:
                raise Killed
            ASKED[ask.id] += 1
            words = ask.question.question.split()[1:]
            word = words[ask.sample % len(words)]
            error = "no luck" if word == "never" else None
            usage = Usage(1, 0, self._config.tokens)
            yield ask, Response("", word, self._config.finish_reason, error=error, usage=usage)

    def close(self) -> None:
        pass


def slow(gold: str, text: str, *, kind: str | None = None) -> Grade:
    """Runs out of time where the answer is "tower"; of other answers only the reference is right."""
    if text == "tower":
        return Grade("undecided", text, "out of time")
    return Grade("correct" if text == gold else "incorrect", text, "slow")


def difficulty(**changes: object) -> ModelDifficulty:
    """By one `Speaker`, "small", graded by `slow`; but for the changes."""
    data = {"kind": "model", "models": {"small": {"kind": SPEAKER}}, "grader": f"{__name__}:slow"}
    return validate_config(ModelDifficulty, data | changes, "test")
