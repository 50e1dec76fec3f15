"""Domains about numbers: running totals, last digits, equations, sequences, other bases, common divisors."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, ClassVar

from typing_extensions import override

from s1ray.miniature.domains.base import Domain, OperationList, Spec, State, other


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


class Arithmetic(OperationList):
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
    def advance(self, spec: Spec, state: State, step: Any) -> State:
        return min(99, max(0, _operate(state, step)))

    @override
    def slip(self, spec: Spec, state: State, rng: random.Random) -> State:
        return _near(rng, state, 0, 99)


class LastDigit(OperationList):
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
    def advance(self, spec: Spec, state: State, step: Any) -> State:
        return _operate(state, step) % 10

    @override
    def slip(self, spec: Spec, state: State, rng: random.Random) -> State:
        return other(rng, range(10), state)


class Equation(Domain):
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
    def start(self, spec: Spec) -> State:
        return spec["start"]

    @override
    def next_step(self, spec: Spec, state: State, index: int) -> Any | None:
        if index == len(spec["steps"]):
            return None
        step = spec["steps"][-1 - index]
        return self._INVERSE[step[0]] + step[1:]

    @override
    def advance(self, spec: Spec, state: State, step: Any) -> State:
        return min(99, max(0, _operate(state, step)))

    @override
    def slip(self, spec: Spec, state: State, rng: random.Random) -> State:
        return _near(rng, state, 0, 99)

    @override
    def answer(self, spec: Spec, state: State) -> str:
        return str(state)


class Progression(Domain):
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
    def start(self, spec: Spec) -> State:
        return (1, spec["start"], spec["difference"])

    @override
    def next_step(self, spec: Spec, state: State, index: int) -> Any | None:
        return None if state[0] >= spec["term"] else state[2]

    @override
    def advance(self, spec: Spec, state: State, step: Any) -> State:
        return (state[0] + 1, state[1] + step, step + spec["growth"])

    @override
    def slip(self, spec: Spec, state: State, rng: random.Random) -> State:
        return (state[0], _near(rng, state[1], 1, 150), state[2])

    @override
    def line(self, spec: Spec, before: State, steps: Sequence[Any], after: State, index: int) -> str:
        return f"{after[0]}:{''.join(f'+{step}' for step in steps)}={after[1]}"

    @override
    def answer(self, spec: Spec, state: State) -> str:
        return str(state[1])


class BaseConversion(Domain):
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
    def start(self, spec: Spec) -> State:
        return (spec["number"], "")

    @override
    def next_step(self, spec: Spec, state: State, index: int) -> Any | None:
        return None if state[0] == 0 else state[0] % spec["base"]

    @override
    def advance(self, spec: Spec, state: State, step: Any) -> State:
        return (state[0] // spec["base"], f"{step}{state[1]}")

    @override
    def slip(self, spec: Spec, state: State, rng: random.Random) -> State:
        return (max(0, state[0] + rng.choice((-1, 1))), state[1])

    @override
    def line(self, spec: Spec, before: State, steps: Sequence[Any], after: State, index: int) -> str:
        return f"{after[0]},{after[1]}"

    @override
    def answer(self, spec: Spec, state: State) -> str:
        return str(state[1])


class Gcd(Domain):
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
    def start(self, spec: Spec) -> State:
        return (spec["a"], spec["b"])

    @override
    def next_step(self, spec: Spec, state: State, index: int) -> Any | None:
        return None if state[0] == state[1] else min(state)

    @override
    def advance(self, spec: Spec, state: State, step: Any) -> State:
        return (state[0] - step, state[1]) if state[0] > state[1] else (state[0], state[1] - step)

    @override
    def slip(self, spec: Spec, state: State, rng: random.Random) -> State:
        return (_near(rng, state[0], 1, 99), state[1])

    @override
    def line(self, spec: Spec, before: State, steps: Sequence[Any], after: State, index: int) -> str:
        return f"{after[0]},{after[1]}"

    @override
    def answer(self, spec: Spec, state: State) -> str:
        return str(math.gcd(*state))
