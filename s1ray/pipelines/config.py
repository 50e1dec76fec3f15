"""The recipe of a run of several stages: stages, what ties them together, and the matrix."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from types import NoneType
from typing import Annotated, Self

from pydantic import Field, JsonValue, StringConstraints, field_validator, model_validator

from s1ray.config import LABEL_PATTERN, Config, RunFolder
from s1ray.stages import STAGES
from s1ray.storage import location

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
"""Of an axis or a stage of the recipe: it is part of a folder's name, and is written in braces."""
VALUE_PATTERN, MOST_LETTERS = r"^\w[\w.+-]*$", 60
AxisValue = Annotated[str, StringConstraints(pattern=VALUE_PATTERN, max_length=MOST_LETTERS)]
"""It is part of a folder's name."""
Fields = dict[str, JsonValue]
"""Dotted field -> value."""


class ServeStep(Config):
    """A Serve application that is up while a stage runs."""

    config: str
    """A recipe of `serve`, or a YAML file with the application's arguments."""
    set: Fields = Field(default_factory=dict)
    """Dotted field -> value."""


class StageStep(Config):
    """One stage of the run."""

    stage: str
    """curate, traces, train or eval."""
    name: Name | None = None
    """Names the run folder, and the stage in braces and overrides. None: the stage's own name."""
    each: list[Name] = Field(default_factory=list)
    """Axes of the matrix: it is run once for each combination of their values. None: it is run once."""
    config: str
    """A recipe of the stage, or a YAML file."""
    set: Fields = Field(default_factory=dict)
    """Dotted field -> value. In a text, "{train}" is the run folder of that earlier stage, at the same values of the
    axes, "{train:data=random}" the one at another value, and "{seed}" the axis' own value; "{{" is a brace."""
    serve: ServeStep | None = None
    """For eval: what is served meanwhile, in place of an endpoint that is there already."""

    @property
    def label(self) -> str:
        """Its name in the recipe."""
        return self.name or self.stage

    @field_validator("stage")
    @classmethod
    def _known(cls, stage: str) -> str:
        if stage not in STAGES:
            raise ValueError(f"must be one of {', '.join(STAGES)}")
        return stage

    @model_validator(mode="after")
    def _only_eval_is_served(self) -> Self:
        if self.serve is not None and self.stage != "eval":
            raise ValueError(f"serve: only eval asks a server, {self.stage} does not; leave it out")
        return self


class Published(Config):
    """Numbers that somebody else published, for a table beside those measured here."""

    source: str = Field(min_length=1)
    """Where they stand: paper, table, benchmark and unit."""
    rows: dict[str, dict[str, str]]
    """Label of a model or method -> column -> the number as it was printed, with its interval."""


class AblationConfig(Config):
    """A table of all evaluations of the run: models against one of them, paired by question and by seed."""

    baseline: str = Field(pattern=LABEL_PATTERN)
    """Label of the model that the others are compared with."""
    published: Published | None = None
    """What to show beside it. None: nothing."""


class MethodsConfig(Config):
    """A table of the methods of test-time scaling that the run measured: Control, Scaling and Performance."""

    published: Published | None = None
    """What to show beside it. None: nothing."""


class PipelineConfig(Config):
    """A run of several stages."""

    output: RunFolder
    """Folder of the run folders."""
    matrix: dict[Name, list[AxisValue] | dict[AxisValue, Fields]] = Field(default_factory=dict)
    """Axis -> its values; or each value with what it sets ("curate.selection.method": "random"). Stages that name the
    first axis are run value by value: all of them for the first, then all for the next."""
    stages: list[StageStep] = Field(min_length=1)
    ray_cpus: int | None = Field(default=None, ge=1)
    """Logical CPUs of a Ray cluster of the run's own; a job uses the cluster that it was submitted to. None: the
    cluster that there is, by Ray's rules."""
    report: str | None = None
    """HTML report of the eval stage, within `output`. None: none is written."""
    ablation: AblationConfig | None = None
    """What to compare in `ablation.md` and `ablation.json`, within `output`. None: nothing."""
    methods: MethodsConfig | None = None
    """Written as `methods.md` and `methods.json`, within `output`. None: not written."""

    @field_validator("matrix", mode="before")
    @classmethod
    def _numbers_are_texts(cls, matrix: object) -> object:
        if not isinstance(matrix, dict):
            return matrix
        return {axis: _as_texts(axis, values) for axis, values in matrix.items()}

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if any(step.label == "matrix" for step in self.stages):
            raise ValueError("stages: no stage can be called matrix: `--set matrix.AXIS=` sets the matrix")
        if twice := _repeated(step.label for step in self.stages):
            raise ValueError(f"stages: {twice} is given more than once; each has one run folder (set `name`)")
        if self.report is not None and (location(self.report).name != self.report or not self.report.endswith(".html")):
            raise ValueError(f"report: must be the name of an .html file within `output`, not {self.report!r}")
        evaluations = [step for step in self.stages if step.stage == "eval"]
        if self.report is not None and not evaluations:
            raise ValueError("report: there is no eval stage to report on; leave it out")
        if self.report is not None and any(step.each for step in evaluations):
            raise ValueError("report: shows models measured once; for an eval stage with `each`, give `ablation`")
        for name in ("ablation", "methods"):
            if getattr(self, name) is not None and not evaluations:
                raise ValueError(f"{name}: there is no eval stage to compare; leave it out")
        if self.methods is not None and any(step.each for step in evaluations):
            raise ValueError("methods: compares models measured once; for an eval stage with `each`, give `ablation`")
        return self

    @model_validator(mode="after")
    def _axes_are_known(self) -> Self:
        for step in self.stages:
            if twice := _repeated(step.each):
                raise ValueError(f"stages: {step.label}: each: {twice} is given more than once")
            if unknown := [axis for axis in step.each if axis not in self.matrix]:
                known = ", ".join(self.matrix) or "none"
                raise ValueError(f"stages: {step.label}: each: {unknown[0]!r} is no axis of the matrix; it has {known}")
        return self

    @model_validator(mode="after")
    def _axes_are_used(self) -> Self:
        labels = {step.label for step in self.stages}
        for axis, values in self.matrix.items():
            users = [step.label for step in self.stages if axis in step.each]
            if axis in labels:
                raise ValueError(f"matrix: {axis}: a stage has this name too; rename one")
            if not users:
                raise ValueError(f"matrix: {axis}: no stage has it in its `each`; leave it out")
            if not values:
                raise ValueError(f"matrix: {axis}: has no value; give at least one")
            for value, fields in values.items() if isinstance(values, dict) else ():
                for field in fields:
                    label, dot, _ = field.partition(".")
                    if not dot or label not in users:
                        raise ValueError(
                            f"matrix: {axis}: {value}: {field!r}: write it as stage.field, of a stage with {axis} in "
                            f"its `each` ({', '.join(users)})"
                        )
        return self


def _as_texts(axis: object, values: object) -> object:
    """Values of an axis, whole numbers as texts.

    Raises:
        ValueError: they are no values of an axis.
    """
    if not isinstance(values, list | dict):
        raise ValueError(f"{axis}: must be a list of values, or a mapping of values to what they set, not {values!r}")
    texts = []
    for value in values:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or not re.fullmatch(VALUE_PATTERN, text) or len(text) > MOST_LETTERS:
            raise ValueError(
                f"{axis}: {value!r:.80} cannot be part of a folder's name; give a whole number, or a text of letters, "
                f"digits, _, ., + and - that begins with a letter or digit, of at most {MOST_LETTERS} ('0.5' in quotes)"
            )
        texts.append(text)
    if twice := _repeated(texts):
        raise ValueError(f"{axis}: {twice} is given more than once")
    if isinstance(values, list):
        return texts
    for value, fields in values.items():
        if not isinstance(fields, dict | NoneType):
            raise ValueError(f"{axis}: {value}: must be a mapping of stage.field to a value, not {fields!r:.80}")
    return {text: fields or {} for text, fields in zip(texts, values.values(), strict=True)}


def _repeated(values: Iterable[str]) -> str | None:
    return next((value for value, times in Counter(iter(values)).items() if times > 1), None)
