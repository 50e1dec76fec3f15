"""Domains about numbers: running totals, last digits, equations, sequences, other bases, common divisors."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import ClassVar

from typing_extensions import override

from s1ray.miniature.domains.base import Domain, OperationList, Spec, other


def _near(rng: random.Random, value: int, low: int, high: int) -> int:
    """A wrong number close to `value`: one or two off, or ten off, as slips of a pen are."""
    return other(
        rng,
        [n for n in (value - 10, value - 2, value - 1, value + 1, value + 2, value + 10) if low <= n <= high],
        value,
    )


def _operate(value: int, step: str) -> int:
    number = int(step[1:])
    match step[0]:
        case "+":
            return value + number
        case "-":
            return value - number
        case "*":
            return value * number
        case _:
            return value // number


class Arithmetic(OperationList[int]):
    """A running total between 0 and 99, changed by one-digit additions and subtractions."""

    name = "arithmetic"
    phrasings = (
        "Start with {start} and apply {steps}.",
        "Compute {start} {steps}.",
        "A counter shows {start}. Then {steps}. What does it show?",
        "What is {start} {steps}?",
    )

    @override
    def make(self, rng: random.Random, level: int) -> Spec:
        start = total = rng.randint(1, 99)
        steps: list[str] = []
        while len(steps) < level + 1:
            step = f"{rng.choice('+-')}{rng.randint(1, 9)}"
            if step not in steps and 0 <= _operate(total, step) <= 99:
                steps.append(step)
                total = _operate(total, step)
        return {"start": start, "steps": steps}

    @override
    def advance(self, spec: Spec, state: int, step: str) -> int:
        return min(99, max(0, _operate(state, step)))

    @override
    def slip(self, spec: Spec, state: int, rng: random.Random) -> int:
        return _near(rng, state, 0, 99)


class LastDigit(OperationList[int]):
    """Additions and multiplications of which only the last digit is kept."""

    name = "last_digit"
    phrasings = (
        "Keep only the last digit: {start} {steps}.",
        "Find the last digit of {start} {steps}, going left to right.",
        "Modulo ten, what is {start} {steps}?",
        "Take {start}, then {steps}. Which last digit?",
    )

    @override
    def make(self, rng: random.Random, level: int) -> Spec:
        operations = [f"+{n}" for n in range(1, 10)] + [f"*{n}" for n in (2, 3, 4, 6, 7, 8, 9)]
        return {"start": rng.randint(2, 9), "steps": rng.sample(operations, level + 1)}

    @override
    def advance(self, spec: Spec, state: int, step: str) -> int:
        return _operate(state, step) % 10

    @override
    def slip(self, spec: Spec, state: int, rng: random.Random) -> int:
        return other(rng, range(10), state)


class Equation(Domain[int, str]):
    """An unknown number went through known operations; undo them from the last to the first."""

    name = "equation"
    phrasings = (
        "Solve for x: x {steps} = {result}.",
        "A number x goes through {steps} and gives {result}. Find x.",
        "Which x gives {result} after {steps}?",
        "If x {steps} makes {result}, what is x?",
    )
    _INVERSE: ClassVar[dict[str, str]] = {"+": "-", "-": "+", "*": "/"}

    @override
    def make(self, rng: random.Random, level: int) -> Spec:
        result = rng.randint(2, 40)
        steps: list[str] = []
        while len(steps) < level + 1:
            step = f"{rng.choice('++--*')}{rng.randint(2, 9)}"
            after = _operate(result, step)
            if step not in steps and 1 <= after <= 99 and not (step[0] == "*" and int(step[1:]) > 3):
                steps.append(step)
                result = after
        return {"start": result, "steps": steps}

    @override
    def fields(self, spec: Spec) -> dict[str, str]:
        return {"steps": " ".join(spec["steps"]), "result": str(spec["start"])}

    @override
    def start(self, spec: Spec) -> int:
        return int(spec["start"])

    @override
    def next_step(self, spec: Spec, state: int, index: int) -> str | None:
        if index == len(spec["steps"]):
            return None
        step: str = spec["steps"][-1 - index]
        return self._INVERSE[step[0]] + step[1:]

    @override
    def advance(self, spec: Spec, state: int, step: str) -> int:
        return min(99, max(0, _operate(state, step)))

    @override
    def slip(self, spec: Spec, state: int, rng: random.Random) -> int:
        return _near(rng, state, 0, 99)

    @override
    def answer(self, spec: Spec, state: int) -> str:
        return str(state)


class Progression(Domain[tuple[int, int, int], int]):
    """A sequence whose differences grow by a constant; the state is (term's index, its value, the next difference)."""

    name = "sequence"
    phrasings = (
        "Term 1 is {start}. The first difference is {difference}, growing by {growth}. Find term {term}.",
        "A sequence starts {start} with difference {difference} growing by {growth}. Term {term}?",
        "From {start}, add {difference}, then {growth} more each time. Give term {term}.",
    )

    @override
    def make(self, rng: random.Random, level: int) -> Spec:
        growth = rng.randint(0, 3)
        return {
            "start": rng.randint(1, 40),
            "difference": rng.randint(1, 5 if growth == 3 else 6),
            "growth": growth,
            "term": level + 2,
        }

    @override
    def fields(self, spec: Spec) -> dict[str, str]:
        return {key: str(value) for key, value in spec.items()}

    @override
    def start(self, spec: Spec) -> tuple[int, int, int]:
        return (1, spec["start"], spec["difference"])

    @override
    def next_step(self, spec: Spec, state: tuple[int, int, int], index: int) -> int | None:
        return None if state[0] >= spec["term"] else state[2]

    @override
    def advance(self, spec: Spec, state: tuple[int, int, int], step: int) -> tuple[int, int, int]:
        return (state[0] + 1, state[1] + step, step + spec["growth"])

    @override
    def slip(self, spec: Spec, state: tuple[int, int, int], rng: random.Random) -> tuple[int, int, int]:
        return (state[0], _near(rng, state[1], 1, 150), state[2])

    @override
    def line(
        self, spec: Spec, before: tuple[int, int, int], steps: Sequence[int], after: tuple[int, int, int], index: int
    ) -> str:
        return f"{after[0]}:{''.join(f'+{step}' for step in steps)}={after[1]}"

    @override
    def answer(self, spec: Spec, state: tuple[int, int, int]) -> str:
        return str(state[1])


class BaseConversion(Domain[tuple[int, str], int]):
    """Decimal to another base by repeated division; the state is (what is left to divide, the digits found so far)."""

    name = "base_conversion"
    phrasings = (
        "Write {number} in base {base}.",
        "What is {number} in base {base}?",
        "Convert {number} to base {base}.",
        "Give the base {base} form of {number}.",
    )

    @override
    def make(self, rng: random.Random, level: int) -> Spec:
        digits = level + 2
        base = rng.choice([base for base in (2, 3, 4, 5) if base ** (digits - 1) <= 200])
        return {"number": rng.randint(base ** (digits - 1), min(255, base**digits - 1)), "base": base}

    @override
    def fields(self, spec: Spec) -> dict[str, str]:
        return {"number": str(spec["number"]), "base": str(spec["base"])}

    @override
    def start(self, spec: Spec) -> tuple[int, str]:
        return (spec["number"], "")

    @override
    def next_step(self, spec: Spec, state: tuple[int, str], index: int) -> int | None:
        return None if state[0] == 0 else state[0] % spec["base"]

    @override
    def advance(self, spec: Spec, state: tuple[int, str], step: int) -> tuple[int, str]:
        return (state[0] // spec["base"], f"{step}{state[1]}")

    @override
    def slip(self, spec: Spec, state: tuple[int, str], rng: random.Random) -> tuple[int, str]:
        return (max(0, state[0] + rng.choice((-1, 1))), state[1])

    @override
    def line(
        self, spec: Spec, before: tuple[int, str], steps: Sequence[int], after: tuple[int, str], index: int
    ) -> str:
        return f"{after[0]},{after[1]}"

    @override
    def answer(self, spec: Spec, state: tuple[int, str]) -> str:
        return str(state[1])


class Gcd(Domain[tuple[int, int], int]):
    """The greatest common divisor by subtracting the smaller number from the larger until both are equal."""

    name = "gcd"
    phrasings = (
        "Find the gcd of {a} and {b}.",
        "What is gcd({a}, {b})?",
        "Greatest common divisor of {a} and {b}?",
        "Which largest number divides both {a} and {b}?",
    )

    @override
    def make(self, rng: random.Random, level: int) -> Spec:
        while True:
            a = b = rng.randint(1, 15)
            for _ in range(level + 1):
                if rng.random() < 0.5:
                    a += b
                else:
                    b += a
            if max(a, b) <= 99 and self._length(a, b) == level + 1:
                return {"a": a, "b": b}

    @staticmethod
    def _length(a: int, b: int) -> int:
        steps = 0
        while a != b:
            a, b = (a - b, b) if a > b else (a, b - a)
            steps += 1
        return steps

    @override
    def fields(self, spec: Spec) -> dict[str, str]:
        return {"a": str(spec["a"]), "b": str(spec["b"])}

    @override
    def start(self, spec: Spec) -> tuple[int, int]:
        return (spec["a"], spec["b"])

    @override
    def next_step(self, spec: Spec, state: tuple[int, int], index: int) -> int | None:
        return None if state[0] == state[1] else min(state)

    @override
    def advance(self, spec: Spec, state: tuple[int, int], step: int) -> tuple[int, int]:
        return (state[0] - step, state[1]) if state[0] > state[1] else (state[0], state[1] - step)

    @override
    def slip(self, spec: Spec, state: tuple[int, int], rng: random.Random) -> tuple[int, int]:
        return (_near(rng, state[0], 1, 99), state[1])

    @override
    def line(
        self, spec: Spec, before: tuple[int, int], steps: Sequence[int], after: tuple[int, int], index: int
    ) -> str:
        return f"{after[0]},{after[1]}"

    @override
    def answer(self, spec: Spec, state: tuple[int, int]) -> str:
        return str(math.gcd(*state))
