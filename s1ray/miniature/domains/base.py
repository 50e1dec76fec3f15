"""A domain of the miniature world: questions whose answer is the end of a chain of easy steps.

All domains have one interface, so teacher, corpus and tests need only this file. A question is a `Spec` (plain JSON).
Its working is a walk: a start state, then one step after another until the domain ends the walk. A model of two
million parameters can take a single step, but not several at once, and that is what makes thinking pay off.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

from typing_extensions import override

Spec = dict[str, Any]
"""The numbers and letters of one question, as JSON values."""

StateT = TypeVar("StateT")
"""What is known after some steps: a running total, a position, a pair of numbers, ..."""
StepT = TypeVar("StepT")
"""One step: an operation as written ("+5"), a number, a letter."""
ValueT = TypeVar("ValueT")

LEVELS = range(1, 7)
"""Difficulty levels; the number of steps is about the level plus one."""


class Domain(ABC, Generic[StateT, StepT]):
    """One kind of question. Instances hold no state; all randomness comes from the `rng` passed in."""

    name: ClassVar[str]
    phrasings: ClassVar[tuple[str, ...]]
    """Templates over the keys of `fields`. No eight words in a row are without data: decontamination would match
    them."""
    stride: ClassVar[int] = 2
    """Steps that a quick pass puts on one line: enough for the miniature to get some lines wrong."""

    @abstractmethod
    def make(self, rng: random.Random, level: int) -> Spec:
        """A random question at `level` (1 to 6)."""

    @abstractmethod
    def fields(self, spec: Spec) -> dict[str, str]:
        """The values that the phrasings of a question mention."""

    @abstractmethod
    def start(self, spec: Spec) -> StateT:
        """The state before the first step."""

    @abstractmethod
    def next_step(self, spec: Spec, state: StateT, index: int) -> StepT | None:
        """Step number `index` (from 0) to take from `state`, or None when the walk is over."""

    @abstractmethod
    def advance(self, spec: Spec, state: StateT, step: StepT) -> StateT:
        """The state after taking `step`."""

    @abstractmethod
    def slip(self, spec: Spec, state: StateT, rng: random.Random) -> StateT:
        """A wrong state that could be written by mistake instead of `state`; the walk can continue from it."""

    @abstractmethod
    def answer(self, spec: Spec, state: StateT) -> str:
        """The answer that follows from the last state."""

    def line(self, spec: Spec, before: StateT, steps: Sequence[StepT], after: StateT, index: int) -> str:
        """The line that says that `steps` were taken, the first of which is number `index`."""
        lead = self.show(before) if index == 0 else ""
        return f"{lead}{''.join(str(step) for step in steps)}={self.show(after)}"

    def show(self, state: StateT) -> str:
        """The written form of a state."""
        return str(state)

    def question(self, spec: Spec, phrasing: int) -> str:
        """The question's text in one of the domain's phrasings."""
        return self.phrasings[phrasing].format(**self.fields(spec))

    def solve(self, spec: Spec) -> str:
        """The exact answer, from a walk without slips."""
        state = self.start(spec)
        index = 0
        while (step := self.next_step(spec, state, index)) is not None:
            state = self.advance(spec, state, step)
            index += 1
        return self.answer(spec, state)


class OperationList(Domain[StateT, str]):
    """A domain whose questions list their operations: `spec["start"]` and `spec["steps"]`, taken in this order.

    The operations of one question are all different, so that a small model can find its place in the list by the
    operation that it took last.
    """

    @override
    def start(self, spec: Spec) -> StateT:
        start: StateT = spec["start"]
        return start

    @override
    def next_step(self, spec: Spec, state: StateT, index: int) -> str | None:
        steps: list[str] = spec["steps"]
        return steps[index] if index < len(steps) else None

    @override
    def answer(self, spec: Spec, state: StateT) -> str:
        return self.show(state)

    @override
    def fields(self, spec: Spec) -> dict[str, str]:
        return {"start": self.show(self.start(spec)), "steps": " ".join(spec["steps"])}


def other(rng: random.Random, values: Sequence[ValueT], value: ValueT) -> ValueT:
    """A random member of `values` that differs from `value`."""
    return rng.choice([candidate for candidate in values if candidate != value])
