"""What counts as too easy and too hard, and who says so: the sources, or models that are asked."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

import yaml
from pydantic import AfterValidator, Field, SerializeAsAny, StringConstraints, model_validator

from s1ray.config import Config
from s1ray.grading import RULES, GraderName
from s1ray.registry import TEACHERS, registered
from s1ray.teachers.base import Teacher

MANY = 1_000_000
"""Samples of a question at most."""
OF_MODELS = ("thinking", "max_tokens", "temperature", "actors")
"""Fields that each model has for itself."""

Label = Annotated[str, StringConstraints(pattern=r"^\w[\w .+-]*$", max_length=100)]
"""Of a model: it names a folder, too."""


class DifficultyBounds(Config):
    """Which pass rates a question may have. The pass rate is a model's share of right attempts, and of several models
    the largest counts.
    """

    max_pass_rate: float = Field(default=0.0, ge=0, le=1)
    """Above it a question is too easy. 0: s1's rule, one right attempt of any model is enough. 0.7: questions that a
    model answers in more than seven of ten attempts. 1: nothing is too easy."""
    min_pass_rate: float = Field(default=0.0, ge=0, le=1)
    """Below it a question is too hard, or its reference answer wrong. 0: nothing is too hard."""

    @model_validator(mode="after")
    def _leave_something(self) -> DifficultyBounds:
        if self.min_pass_rate > self.max_pass_rate:
            raise ValueError(
                f"min_pass_rate: {self.min_pass_rate:g} is more than max_pass_rate ({self.max_pass_rate:g}), so "
                "every question would be dropped"
            )
        return self


class GivenDifficulty(DifficultyBounds):
    """What the sources say (`columns.solved_by`, `unsolved_by` and `pass_rates`). A label without a rate counts as one
    attempt.
    """

    kind: Literal["given"]


class ModelDifficulty(DifficultyBounds):
    """Ask models, and grade their answers."""

    incidental: ClassVar[frozenset[str]] = frozenset({"max_failed_share", "answers_from"})

    kind: Literal["model"]
    models: dict[Label, Annotated[SerializeAsAny[Teacher], registered(TEACHERS, Teacher)]] = Field(min_length=1)
    """Label -> who is asked: a mapping whose `kind` names a registered teacher (vllm, openai, anthropic, responses),
    and whose other fields are that teacher's. s1 asks Qwen2.5-7B-Instruct and Qwen2.5-32B-Instruct with `temperature:
    0.05`, `top_p: null` and `max_tokens: 32768`; a teacher's own defaults are meant for traces."""
    samples: int = Field(default=1, ge=1, le=MANY)
    """Attempts per question and model."""
    grader: GraderName = RULES
    """Grades the attempts: a registered grader, or "module:attribute"."""
    max_failed_share: float = Field(default=0.02, ge=0, le=1)
    """Share of a model's requests that may have failed three times (a question longer than the context, say); above it,
    the run fails, and the next one repeats them. Below it, they are no attempts."""
    answers_from: Annotated[str, Field(min_length=1), AfterValidator(os.path.expanduser)] | None = None
    """Run folder of another curate run, whose answers are not asked for again where a model and the seed are the same:
    to change bounds, grader or selection, or to ask one more model. They stay in that run's bill. None: none."""

    @model_validator(mode="before")
    @classmethod
    def _say_what_became_of_it(cls, data: object) -> object:
        if isinstance(data, Mapping):
            for problem in _outdated(data):
                raise ValueError(problem)
        return data

    @model_validator(mode="after")
    def _models_know_their_field(self) -> ModelDifficulty:
        folded: dict[str, str] = {}
        for label, model in self.models.items():
            model.held_by(f"difficulty.models.{label}")
            # A folder has the label's name, and some storage takes these for one.
            if (other := folded.setdefault(unicodedata.normalize("NFC", label.casefold()), label)) != label:
                raise ValueError(f"models: {other!r} and {label!r} are one name but for case and spelling; rename one")
        return self


Difficulty = Annotated[GivenDifficulty | ModelDifficulty, Field(discriminator="kind")]


def _outdated(data: Mapping[str, object]) -> Iterator[str]:
    """What to write in place of what older versions took."""
    moved = {name: data[name] for name in OF_MODELS if name in data}
    models = data.get("models")
    for label, model in models.items() if isinstance(models, Mapping) else ():
        if isinstance(model, Mapping) and "kind" not in model and "model" in model:
            whole = {"kind": "vllm", "engine": dict(model), "temperature": 0.05, "top_p": None, **moved}
            form = yaml.safe_dump(whole, default_flow_style=True, sort_keys=False, width=math.inf).strip()
            yield f"models.{label}: a model is any teacher, and has its own sampling; write it as {label}: {form}"
    if moved:
        yield f"{', '.join(moved)}: each model has its own; write it there"
    if "shard_rows" in data:
        yield "shard_rows: every answer is kept as it comes; leave it out"
