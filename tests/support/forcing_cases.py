"""Random budgets for tests that hold two ways of forcing against each other, and what is tolerated where they part.

Floating-point sums depend on the shape of a batch and on the library that computes them, so a real model may choose
differently between two ids that it finds equally good in all digits but the last few. Only such a tie is no fault.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s1ray.generation import GenerationRequest
from s1ray.generation.prompts import prompt_ids_of
from s1ray.thinking import ForcingPlan, ThinkingBudget, TokenizedFormat, make_plan
from s1ray.thinking.actions import RowAction
from s1ray.thinking.replaying import replay
from s1ray.thinking.schedule import Schedule

TIE = 1e-4
"""Difference of two log-probabilities below which rounding may decide."""


@dataclass(frozen=True)
class Case:
    """One combination of format, budget, prompt and room."""

    format: str
    budget: ThinkingBudget
    plan: ForcingPlan
    prompt_ids: list[int]
    room: int


@dataclass(frozen=True)
class Vocabulary:
    """Words that the model of a test is fond of."""

    waits: Sequence[str]
    bans: Sequence[tuple[str, ...]]


def random_case(
    rng: random.Random,
    formats: Sequence[TokenizedFormat],
    words: Vocabulary,
    prompts: Sequence[Sequence[int]],
    *,
    schedules: float = 0.0,
) -> Case:
    """Draws until a budget is one that its format can express.

    Args:
        rng: draws.
        formats: of which one is drawn.
        words: for waits and bans.
        prompts: of which one is drawn.
        schedules: share of the cases in which a schedule writes the waits.
    """
    while True:
        tokenized = rng.choice(formats)
        fmt = tokenized.format
        maximum: Any = rng.choice([None, "auto", 0, 1, 5, 17, 40, 90, 150])
        bound = 60 if maximum in (None, "auto") else maximum
        texts: list[Any] = [None, rng.choice(words.waits), rng.sample(list(words.waits), 2)]
        ends = [None, None, f"\nTime: so\n{fmt.end}\n", f"Stop{fmt.end}"]
        try:
            budget = ThinkingBudget(
                max_tokens=maximum,
                min_tokens=rng.choice([0, 0, bound // 2]),
                waits=rng.choice([0, 0, 1, 2, 5]) if maximum != 0 else 0,
                wait_text=rng.choice(texts),
                end_text=rng.choice(ends),
                grace=rng.choice([0, 0, bound // 2]),
                ban=rng.choice([(), (), *words.bans]),
                answer_reserve=rng.choice([None, 0, 30]),
                loops=rng.choice([0, 2, 4]),
                answer_max_tokens=rng.choice([None, None, 1, 6, 20]),
                reopen=rng.choice(["forbid", "forbid", "allow"]),
            )
            schedule = None
            if rng.random() < schedules:
                budget = budget.model_copy(update={"waits": 0, "min_tokens": 0})
                schedule = random_schedule(rng, words)
            plan = make_plan(tokenized, budget, schedule=schedule)
        except ValueError:
            continue
        prompt = list(rng.choice(prompts))
        turn = rng.random()
        if turn < 0.4:
            prompt += tokenized.encode(f"{fmt.start}\n")
        elif turn < 0.5:
            prompt += tokenized.encode(f"{fmt.start}\nSo\n{fmt.end}")
        room = rng.choice([1, 10, 50, 100, 150, 200])
        return Case(fmt.name, budget, plan, prompt, room)


def random_schedule(rng: random.Random, words: Vocabulary) -> Schedule:
    """One that acts within a few lines."""
    return Schedule(
        phase_tokens=rng.choice([10, 40, 100]),
        p_end=rng.choice([0.0, 1.0]),
        wait_text=rng.choice(list(words.waits)),
        after="\n",
        slow_words=tuple(rng.sample(list(words.waits), 1)) + tuple(rng.choice(words.bans)[:1]),
    )


def miniature_prompts(tokenizer: Any, rng: random.Random, number: int) -> list[list[int]]:
    """Questions of the miniature's benchmark, in its chat template."""
    from s1ray.miniature.pool import build_benchmark

    return [
        prompt_ids_of(GenerationRequest(id="", messages=[{"role": "user", "content": row.question}]), tokenizer)
        for row in rng.sample(build_benchmark(), number)
    ]


def parting(
    case: Case, one: Sequence[int], other: Sequence[int], swallowed: Collection[int], eos_ids: Collection[int]
) -> tuple[int, RowAction | None]:
    """The position at which two outputs part, and what the forcer wanted there.

    Args:
        case: what both were generated for.
        one: an output.
        other: another one.
        swallowed: positions at which stops were swallowed in `other`.
        eos_ids: of the model.
    """
    at = next(i for i in range(min(len(one), len(other))) if one[i] != other[i])
    known = [position for position in swallowed if position < at]
    forcer = replay(case.plan, case.prompt_ids, other[:at], swallowed=known, room=case.room, stop_ids=eos_ids)
    return at, forcer.action


def equally_good(action: RowAction | None, one: int, other: int, logprobs: Mapping[int, float]) -> bool:
    """Whether the model finds two ids equally good; an id that probability moves to is as good as the best of those."""

    def goodness(token_id: int) -> float:
        meant = {token_id}
        if action is not None and action.move_to == token_id:
            meant.update(action.ban)
        return max(logprobs.get(i, -1e9) for i in meant)

    print(f"ids part: {one} {goodness(one)}, {other} {goodness(other)}")
    return abs(goodness(one) - goodness(other)) < TIE
