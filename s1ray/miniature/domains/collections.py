"""Domains about collections: the order of letters, arrows in a graph, counting, what two sets have in common."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence

from typing_extensions import override

from s1ray.miniature.domains.base import Domain, OperationList, Spec, other

LETTERS = string.ascii_uppercase


class LetterByLetter(Domain[tuple[int, str], str]):
    """A domain whose steps lead from letter to letter; the state is (steps taken, the last letter)."""

    @override
    def advance(self, spec: Spec, state: tuple[int, str], step: str) -> tuple[int, str]:
        return (state[0] + 1, step)

    @override
    def answer(self, spec: Spec, state: tuple[int, str]) -> str:
        return state[1]


class Ranking(LetterByLetter):
    """The k-th letter of a list in alphabetical order."""

    name = "ranking"
    phrasings = (
        "Sort {letters}. Which letter is number {rank}?",
        "In alphabetical order, which of {letters} is at place {rank}?",
        "Order the letters {letters}. Give number {rank}.",
    )

    @override
    def make(self, rng: random.Random, level: int) -> Spec:
        rank = level + 1
        return {"letters": "".join(rng.sample(LETTERS, rank + rng.randint(1, 3))), "rank": rank}

    @override
    def fields(self, spec: Spec) -> dict[str, str]:
        return {"letters": " ".join(spec["letters"]), "rank": str(spec["rank"])}

    @override
    def start(self, spec: Spec) -> tuple[int, str]:
        return (0, "")

    @override
    def next_step(self, spec: Spec, state: tuple[int, str], index: int) -> str | None:
        if state[0] == spec["rank"]:
            return None
        letters: str = spec["letters"]
        return min((letter for letter in letters if letter > state[1]), default=max(letters))

    @override
    def slip(self, spec: Spec, state: tuple[int, str], rng: random.Random) -> tuple[int, str]:
        return (state[0], other(rng, spec["letters"], state[1]))

    @override
    def line(
        self, spec: Spec, before: tuple[int, str], steps: Sequence[str], after: tuple[int, str], index: int
    ) -> str:
        return f"{after[0]}:{after[1]}"


class Pointers(LetterByLetter):
    """Follow arrows from letter to letter."""

    name = "pointers"
    phrasings = (
        "Arrows: {arrows}. Start at {start} and follow {hops}. Where do you end?",
        "Given {arrows}, follow {hops} arrows from {start}.",
        "Links {arrows}. From {start}, where are you after {hops} links?",
    )

    @override
    def make(self, rng: random.Random, level: int) -> Spec:
        hops = level + 1
        nodes = rng.sample(LETTERS, hops + 3)
        arrows = [f"{a}>{b}" for a, b in zip(nodes, nodes[1:] + nodes[:1], strict=True)]
        rng.shuffle(arrows)
        return {"arrows": arrows, "start": rng.choice(nodes), "hops": hops}

    @override
    def fields(self, spec: Spec) -> dict[str, str]:
        return {"arrows": " ".join(spec["arrows"]), "start": spec["start"], "hops": str(spec["hops"])}

    @override
    def start(self, spec: Spec) -> tuple[int, str]:
        return (0, spec["start"])

    @override
    def next_step(self, spec: Spec, state: tuple[int, str], index: int) -> str | None:
        if state[0] == spec["hops"]:
            return None
        arrows: list[str] = spec["arrows"]
        return next(arrow[2] for arrow in arrows if arrow[0] == state[1])

    @override
    def slip(self, spec: Spec, state: tuple[int, str], rng: random.Random) -> tuple[int, str]:
        return (state[0], other(rng, [arrow[0] for arrow in spec["arrows"]], state[1]))

    @override
    def line(
        self, spec: Spec, before: tuple[int, str], steps: Sequence[str], after: tuple[int, str], index: int
    ) -> str:
        return f"{after[0]}:{'>'.join([before[1], *steps[:-1], after[1]])}"


class Tally(OperationList[int]):
    """A domain that counts items of its list; the state is the count so far."""

    @override
    def slip(self, spec: Spec, state: int, rng: random.Random) -> int:
        return state + 1 if state == 0 or rng.random() < 0.5 else state - 1

    @override
    def line(self, spec: Spec, before: int, steps: Sequence[str], after: int, index: int) -> str:
        if len(steps) == 1:
            return f"{steps[0]}:{'y' if after > before else 'n'}{after}"
        return f"{' '.join(steps)}={after}"


class Counting(Tally):
    """How many numbers of a list pass a test."""

    name = "counting"
    phrasings = (
        "How many are {test}: {steps}?",
        "Count the {test} numbers in {steps}.",
        "Among {steps}, how many are {test}?",
    )
    stride = 3

    @override
    def make(self, rng: random.Random, level: int) -> Spec:
        numbers = rng.sample(range(10, 100), level + 3)
        test = rng.choice(("even", "odd", f"above {rng.randint(3, 7)}0", f"below {rng.randint(3, 7)}0"))
        return {"start": 0, "steps": [str(number) for number in numbers], "test": test}

    @override
    def fields(self, spec: Spec) -> dict[str, str]:
        return {"test": spec["test"], "steps": " ".join(spec["steps"])}

    @override
    def advance(self, spec: Spec, state: int, step: str) -> int:
        number = int(step)
        match spec["test"].split():
            case ["even"]:
                passes = number % 2 == 0
            case ["odd"]:
                passes = number % 2 == 1
            case ["above", bound]:
                passes = number > int(bound)
            case [_, bound]:
                passes = number < int(bound)
        return state + passes


class Sets(Tally):
    """How many letters two sets have in common."""

    name = "sets"
    phrasings = (
        "How many of {steps} are also in {second}?",
        "Sets {steps} and {second}: how many letters in common?",
        "Count the letters of {steps} that occur in {second}.",
    )
    stride = 3

    @override
    def make(self, rng: random.Random, level: int) -> Spec:
        size = level + 3
        common = rng.randint(0, size - 1)
        letters = rng.sample(LETTERS, 2 * size - common)
        first, second = letters[:size], letters[size - common :]
        rng.shuffle(first)
        rng.shuffle(second)
        return {"start": 0, "steps": first, "second": "".join(second)}

    @override
    def fields(self, spec: Spec) -> dict[str, str]:
        return {"steps": " ".join(spec["steps"]), "second": " ".join(spec["second"])}

    @override
    def advance(self, spec: Spec, state: int, step: str) -> int:
        return state + (step in spec["second"])
