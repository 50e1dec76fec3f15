"""Domains that follow the state of a small thing through changes: a weekday, a ball under cups, a walker, bits."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import ClassVar

from typing_extensions import override

from s1ray.miniature.domains.base import OperationList, Spec, other

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Weekday(OperationList[str]):
    """A weekday moved forth and back by some days."""

    name = "weekday"
    phrasings = (
        "Today is {start}. Move {steps} days. Which weekday?",
        "Starting on {start}, go {steps} days.",
        "Which day is {start} {steps}?",
        "It is {start}. After {steps} days, what day?",
    )

    @override
    def make(self, rng: random.Random, level: int) -> Spec:
        moves = [f"{sign}{days}" for sign in "+-" for days in range(1, 10)]
        return {"start": rng.choice(WEEKDAYS), "steps": rng.sample(moves, level + 1)}

    @override
    def advance(self, spec: Spec, state: str, step: str) -> str:
        return WEEKDAYS[(WEEKDAYS.index(state) + int(step)) % 7]

    @override
    def slip(self, spec: Spec, state: str, rng: random.Random) -> str:
        return other(rng, WEEKDAYS, state)


class Cups(OperationList[int]):
    """A ball under one of six cups while pairs of cups trade places."""

    name = "cups"
    phrasings = (
        "The ball is under cup {start} of 6. Swap {steps}. Where is it?",
        "Six cups, ball under {start}. Swaps: {steps}. Which cup?",
        "A ball starts at cup {start}. After swaps {steps}, which cup?",
    )

    @override
    def make(self, rng: random.Random, level: int) -> Spec:
        start = position = rng.randint(1, 6)
        pairs = [f"{a}-{b}" for a, b in itertools.combinations(range(1, 7), 2)]
        steps: list[str] = []
        while len(steps) < level + 1:
            candidates = [pair for pair in pairs if pair not in steps]
            touching = [pair for pair in candidates if str(position) in pair]
            step = rng.choice(touching if touching and rng.random() < 0.6 else candidates)
            steps.append(step)
            position = self.advance({}, position, step)
        return {"start": start, "steps": steps}

    @override
    def advance(self, spec: Spec, state: int, step: str) -> int:
        a, b = int(step[0]), int(step[2])
        return b if state == a else a if state == b else state

    @override
    def slip(self, spec: Spec, state: int, rng: random.Random) -> int:
        return other(rng, range(1, 7), state)

    @override
    def line(self, spec: Spec, before: int, steps: Sequence[str], after: int, index: int) -> str:
        return f"{' '.join(steps)}={after}"


class Walk(OperationList[tuple[int, int]]):
    """A walker on a grid of ten by ten; the state is (x, y)."""

    name = "walk"
    phrasings = (
        "Start at {start} and walk {steps}. Where are you?",
        "From {start} go {steps}. Give the position.",
        "A robot at {start} moves {steps}. Where does it end?",
    )
    _MOVES: ClassVar[dict[str, tuple[int, int]]] = {"N": (0, 1), "S": (0, -1), "E": (1, 0), "W": (-1, 0)}

    @override
    def make(self, rng: random.Random, level: int) -> Spec:
        start = x, y = rng.randint(0, 9), rng.randint(0, 9)
        steps: list[str] = []
        while len(steps) < level + 1:
            step = f"{rng.choice('NSEW')}{rng.randint(1, 5)}"
            after = self._move((x, y), step)
            if step not in steps and all(0 <= value <= 9 for value in after):
                steps.append(step)
                x, y = after
        return {"start": list(start), "steps": steps}

    def _move(self, state: tuple[int, int], step: str) -> tuple[int, int]:
        dx, dy = self._MOVES[step[0]]
        return (state[0] + dx * int(step[1]), state[1] + dy * int(step[1]))

    @override
    def start(self, spec: Spec) -> tuple[int, int]:
        return tuple(spec["start"])

    @override
    def advance(self, spec: Spec, state: tuple[int, int], step: str) -> tuple[int, int]:
        x, y = self._move(state, step)
        return (min(9, max(0, x)), min(9, max(0, y)))

    @override
    def slip(self, spec: Spec, state: tuple[int, int], rng: random.Random) -> tuple[int, int]:
        return (other(rng, range(10), state[0]), state[1])

    @override
    def show(self, state: tuple[int, int]) -> str:
        return f"{state[0]},{state[1]}"


class Boolean(OperationList[str]):
    """Three truth values, combined position by position with masks: ^ is exclusive or, & is and, | is or."""

    name = "boolean"
    phrasings = (
        "Bits {start}. Apply {steps}. What are the bits?",
        "Evaluate {start} {steps} bit by bit, left to right.",
        "A register holds {start}. After {steps}, what does it hold?",
    )

    @override
    def make(self, rng: random.Random, level: int) -> Spec:
        masks = [f"{value:03b}" for value in range(1, 7)]
        exclusive = rng.sample(masks, len(masks))
        steps: list[str] = []
        while len(steps) < level + 1:
            if rng.random() < 0.65 and exclusive:
                steps.append("^" + exclusive.pop())
            else:
                step = rng.choice(("&" + rng.choice(("110", "101", "011")), "|" + rng.choice(("001", "010", "100"))))
                if step not in steps:
                    steps.append(step)
        return {"start": f"{rng.randrange(8):03b}", "steps": steps}

    @override
    def advance(self, spec: Spec, state: str, step: str) -> str:
        value, mask = int(state, 2), int(step[1:], 2)
        result = value ^ mask if step[0] == "^" else value & mask if step[0] == "&" else value | mask
        return f"{result:03b}"

    @override
    def slip(self, spec: Spec, state: str, rng: random.Random) -> str:
        return other(rng, [f"{value:03b}" for value in range(8)], state)
