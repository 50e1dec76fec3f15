"""What ties the stages of a recipe together: texts in braces, filled with run folders and values of axes."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from s1ray.config import ConfigError
from s1ray.pipelines.config import PipelineConfig, StageStep
from s1ray.pipelines.matrix import Cell, folder_of
from s1ray.storage import Location


@dataclass(frozen=True)
class Filling:
    """What the texts of one cell can name."""

    output: Location
    matrix: Mapping[str, Sequence[str]]
    at: Mapping[str, str]
    earlier: Mapping[str, StageStep]
    """The stages before it."""

    @classmethod
    def of(cls, config: PipelineConfig, cell: Cell, output: Location) -> Filling:
        """That of a cell."""
        labels = [step.label for step in config.stages]
        earlier = config.stages[: labels.index(cell.step.label)]
        matrix = {axis: list(values) for axis, values in config.matrix.items()}
        return cls(output, matrix, cell.at, {step.label: step for step in earlier})

    def fill(self, value: JsonValue, where: str) -> JsonValue:
        """A value with what stands in braces in its texts replaced.

        Args:
            value: of a field.
            where: the field, for the error.

        Raises:
            ConfigError: braces hold something else than an earlier stage or an axis, or do not match.
        """
        if isinstance(value, dict):
            return {key: self.fill(inner, f"{where}.{key}") for key, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(inner, f"{where}.{index}") for index, inner in enumerate(value)]
        if not isinstance(value, str):
            return value
        try:
            parts = list(string.Formatter().parse(value))
        except ValueError as error:
            raise ConfigError(
                f"stages: {where}: {value!r}: {error}; a brace of the text itself is written twice"
            ) from None
        text = ""
        for literal, name, other, conversion in parts:
            text += literal
            if name is not None:
                found = None if conversion else self._named(name, other or "", where)
                if found is None:
                    known = ", ".join(f"{{{name}}}" for name in (*self.earlier, *self.at)) or "none"
                    raise ConfigError(
                        f"stages: {where}: {value!r} names no earlier stage of the recipe; there are {known} (a brace "
                        "of the text itself is written twice)"
                    )
                text += found
        # A field that takes a number takes the axis' value as one.
        return int(text) if len(parts) == 1 and parts[0][1] in self.at and text.isdecimal() else text

    def _named(self, name: str, other: str, where: str) -> str | None:
        """A stage's folder, or an axis' value; None: there is neither."""
        if name in self.at and not other:
            return self.at[name]
        step = self.earlier.get(name)
        if step is None or (other and not step.each):
            return None
        at = dict(self.at) | self._others(other, step, where)
        if absent := [axis for axis in step.each if axis not in at]:
            raise ConfigError(
                f"stages: {where}: {{{name}}} is run for each {absent[0]}, and here it is not said for which; write "
                f"{{{name}:{absent[0]}={self.matrix[absent[0]][0]}}}"
            )
        return str(folder_of(self.output, name, {axis: at[axis] for axis in self.matrix if axis in step.each}))

    def _others(self, other: str, step: StageStep, where: str) -> dict[str, str]:
        """Axis -> value of "data=random,seed=0"."""
        found = {}
        for part in filter(None, other.split(",")):
            axis, _, value = (text.strip() for text in part.partition("="))
            if axis not in step.each or value not in self.matrix[axis]:
                known = "; ".join(f"{axis}={'|'.join(self.matrix[axis])}" for axis in step.each)
                raise ConfigError(
                    f"stages: {where}: {{{step.label}:{other}}}: {part!r} is no axis and value of "
                    f"{step.label} (a brace of the text itself is written twice); there are {known}"
                )
            found[axis] = value
        return found
