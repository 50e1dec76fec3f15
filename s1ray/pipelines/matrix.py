"""The runs of a recipe: each of its stages, once for each combination of values of its axes.

    matrix: {seed: [0, 1], data: [random, all]}
    stages: pool; curate and train with each: [data, seed]; eval with each: [seed]

gives pool; then for seed 0 curate and train of both data sets, and eval; then the same for seed 1. So the first results
are there early, and a stage runs after those that it reads.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from s1ray.pipelines.config import Fields, PipelineConfig, StageStep
from s1ray.storage import Location, location


@dataclass(frozen=True)
class Cell:
    """One run of a stage of the recipe."""

    step: StageStep
    at: Mapping[str, str]
    """Axis -> value, in the order of the matrix; empty for a stage that is run once."""

    @property
    def title(self) -> str:
        """For people: "train data=random seed=0"."""
        return " ".join([self.step.label, *_parts(self.at)])

    def folder(self, output: Location) -> Location:
        """Its run folder."""
        return folder_of(output, self.step.label, self.at)


def folder_of(output: Location, label: str, at: Mapping[str, str]) -> Location:
    """The run folder of a stage at some values of its axes."""
    return location(output).joinpath(label, *_parts(at))


def cells(config: PipelineConfig) -> Iterator[Cell]:
    """All runs, in their order."""
    first = next(iter(config.matrix), None)
    for along, steps in itertools.groupby(config.stages, key=lambda step: first in step.each):
        group = list(steps)
        for value in config.matrix[first] if along and first is not None else [None]:
            for step in group:
                for at in _combinations(config, step):
                    if value is None or at[str(first)] == value:
                        yield Cell(step, at)


def settings(config: PipelineConfig, cell: Cell) -> Fields:
    """Dotted field -> value that the cell's values of the axes set for its stage."""
    found: Fields = {}
    for axis, value in cell.at.items():
        values = config.matrix[axis]
        for field, content in values[value].items() if isinstance(values, dict) else ():
            label, _, rest = field.partition(".")
            if label == cell.step.label:
                found[rest] = content
    return found


def _combinations(config: PipelineConfig, step: StageStep) -> Iterator[dict[str, str]]:
    axes = [axis for axis in config.matrix if axis in step.each]
    for values in itertools.product(*(config.matrix[axis] for axis in axes)):
        yield dict(zip(axes, values, strict=True))


def _parts(at: Mapping[str, str]) -> list[str]:
    return [f"{axis}={value}" for axis, value in at.items()]
