"""What a domain of the miniature world is: questions whose answer is the end of a chain of easy steps.

Every domain fits one mould, so that teacher, corpus and tests need to know only this file. A question is a `Spec`
(plain JSON), its working is a walk: a start state, then one step after another until the domain says that the walk is
over. A single step is within reach of a model of two million parameters; several at once are not, which is what makes
thinking pay.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from typing_extensions import override

Spec = dict[str, Any]
"""The numbers and letters of one question, as JSON-able values."""

State = Any
"""What is known after some steps: a running total, a position, a pair of numbers, ..."""

LEVELS = range(1, 7)
"""Difficulty levels; the number of steps is about the level plus one."""


class Domain(ABC):
    """One kind of question. Instances hold no state; every random choice comes from the `rng` handed in."""

    name: ClassVar[str]
    phrasings: ClassVar[tuple[str, ...]]
    """Templates over the keys of `fields`. No run of eight words is without data: decontamination would match it."""
    stride: ClassVar[int] = 2
    """How many steps a quick pass takes at once: enough that the miniature often gets a line of it wrong."""

    @abstractmethod
    def make(self, rng: random.Random, level: int) -> Spec:
        """A random question at `level` (1 to 6)."""

    @abstractmethod
    def fields(self, spec: Spec) -> dict[str, str]:
        """The values that the phrasings of a question mention."""

    @abstractmethod
    def start(self, spec: Spec) -> State:
        """The state before the first step."""

    @abstractmethod
    def next_step(self, spec: Spec, state: State, index: int) -> Any | None:
        """Step number `index` (from 0) to be taken from `state`, or None when the walk is over."""

    @abstractmethod
    def advance(self, spec: Spec, state: State, step: Any) -> State:
        """The state after taking `step`."""

    @abstractmethod
    def slip(self, spec: Spec, state: State, rng: random.Random) -> State:
        """A wrong state that a careless hand could have written instead of `state`; the walk can go on from it."""

    @abstractmethod
    def answer(self, spec: Spec, state: State) -> str:
        """The answer that follows from the last state."""

    def line(self, spec: Spec, before: State, steps: Sequence[Any], after: State, index: int) -> str:
        """The written form of taking `steps`, the first of which is number `index`."""
        lead = self.show(before) if index == 0 else ""
        return f"{lead}{''.join(str(step) for step in steps)}={self.show(after)}"

    def show(self, state: State) -> str:
        """The written form of a state."""
        return str(state)

    def question(self, spec: Spec, phrasing: int) -> str:
        """The question's text in one of the domain's phrasings."""
        return self.phrasings[phrasing].format(**self.fields(spec))

    def solve(self, spec: Spec) -> str:
        """The exact answer, by walking without slips."""
        state = self.start(spec)
        index = 0
        while (step := self.next_step(spec, state, index)) is not None:
            state = self.advance(spec, state, step)
            index += 1
        return self.answer(spec, state)


class OperationList(Domain):
    """A domain whose question lists its operations: `spec["start"]` and `spec["steps"]`, taken in this order.

    The operations of one question are all different: a reader (and a small model) can then find its place in the list
    by the operation that it took last.
    """

    @override
    def start(self, spec: Spec) -> State:
        return spec["start"]

    @override
    def next_step(self, spec: Spec, state: State, index: int) -> Any | None:
        return spec["steps"][index] if index < len(spec["steps"]) else None

    @override
    def answer(self, spec: Spec, state: State) -> str:
        return self.show(state)

    @override
    def fields(self, spec: Spec) -> dict[str, str]:
        return {"start": self.show(self.start(spec)), "steps": " ".join(spec["steps"])}


def other(rng: random.Random, values: Sequence[Any], value: Any) -> Any:
    """A random member of `values` that is not `value`."""
    return rng.choice([candidate for candidate in values if candidate != value])
