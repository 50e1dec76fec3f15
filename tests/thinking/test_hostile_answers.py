"""A model that does everything to think on behind the end of its thinking, and a reader that knows nothing of forcers.

python -m tests.thinking.test_hostile_answers 1000000    # the long run
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from typing import Any

import pytest

from s1ray.thinking.forcer import BudgetForcer
from s1ray.thinking.plan import ForcingPlan
from tests.support.hostile import LONGEST, Case, faults
from tests.support.toy import (
    ANSWER,
    COLON,
    COMMA,
    EOS,
    FINAL,
    HMM,
    NEWLINE,
    THINK,
    TURN,
    VOCAB,
    WAIT,
    X,
    Y,
    drive,
    toy_plan,
)

TOOL = 12
PROMPTS: list[list[int]] = [[], [X, TURN, Y, NEWLINE], [TURN, THINK], [TURN, THINK, X], [THINK], [HMM, COMMA, Y]]

FORMATS: dict[str, dict[str, Any]] = {
    # s1's: both delimiters of two ids, the first of which is a header, too.
    "s1": {},
    "one id each": {
        "start": (THINK,),
        "end": (ANSWER,),
        "end_triggers": (EOS, ANSWER, TOOL),
        "tool_calls": (TOOL,),
        "cut": (ANSWER, NEWLINE, FINAL, COLON),
        "cut_answer": 1,
        "answer_ban": ((THINK,), (ANSWER,), (TURN,)),
    },
    # The start is written in ordinary words, and so is what looks like the end.
    "words": {
        "start": (HMM, COMMA),
        "end": (ANSWER, COLON, FINAL),
        "end_triggers": (EOS, ANSWER),
        "cut": (Y, NEWLINE, ANSWER, COLON, FINAL),
        "cut_answer": 5,
        "end_spellings": ((X, FINAL), (Y, Y, FINAL)),
        "answer_ban": ((HMM, COMMA), (ANSWER,), (X, FINAL), (Y, Y, FINAL)),
    },
}


def draw_plan(rng: random.Random) -> ForcingPlan:
    changes = dict(FORMATS[rng.choice(list(FORMATS))])
    start = changes.get("start", (TURN, THINK))
    if rng.random() < 0.4:
        changes["reopen"] = start if start[0] == HMM else start[:1]
        bans = changes.get("answer_ban", ((TURN,),))
        changes["answer_ban"] = tuple(b for b in bans if b[: len(changes["reopen"])] != changes["reopen"])
    maximum = rng.choice([None, 0, 1, 3, 10, 30])
    return toy_plan(
        max_tokens=maximum,
        min_tokens=rng.choice([0, 0, min(5, 30 if maximum is None else maximum)]),
        waits=0 if maximum == 0 else rng.choice([0, 0, 2]),
        wait_texts=rng.choice([(), ((WAIT,),)]),
        grace=0 if maximum is None else rng.choice([0, min(3, maximum)]),
        loops=rng.choice([0, 2]),
        answer_reserve=rng.choice([None, 0, 4]),
        answer_max_tokens=rng.choice([None, None, 1, 2, 5, 12]),
        **changes,
    )


def hostile(rng: random.Random, plan: ForcingPlan) -> Any:
    """Proposes what opens, ends, half ends, stops, calls tools and says nothing."""
    delimiters = [*plan.start, *plan.end, *plan.reopen, *(i for banned in plan.answer_ban for i in banned)]
    specials = [EOS, EOS, TURN, TOOL, NEWLINE, NEWLINE, *delimiters, *delimiters]
    share = rng.choice([0.2, 0.6, 0.95])
    texts = [list(plan.start), list(plan.end), *map(list, plan.answer_ban), *map(list, plan.end_spellings)]
    queue: list[int] = []

    def propose(step: int) -> int:
        if not queue and rng.random() < share / 2:
            queue.extend(rng.choice(texts))
        if queue:
            return queue.pop(0)
        return rng.choice(specials) if rng.random() < share else rng.randrange(VOCAB)

    return propose


def draw_case(rng: random.Random) -> Case:
    plan, prompt = draw_plan(rng), rng.choice(PROMPTS)
    room = rng.choice([None, None, rng.randint(1, 12), rng.randint(12, 90)])
    if plan.reopen and plan.max_tokens is None:
        room = LONGEST  # nothing else would end the thinking
    forcer = BudgetForcer(plan, prompt, room=room)
    output = drive(forcer, hostile(rng, plan), LONGEST if room is None else room)
    return Case(plan, prompt, room, output, forcer.accounting(), EOS)


def search(count: int, seed: int) -> Counter[str]:
    rng = random.Random(seed)
    return Counter(fault for _ in range(count) for fault in faults(draw_case(rng)))


@pytest.mark.parametrize("seed", range(4))
def test_nothing_that_a_model_writes_gets_thinking_into_its_answer(seed: int) -> None:
    assert not search(2_500, seed)


def test_the_reader_finds_what_an_unruled_answer_does() -> None:
    rng = random.Random(7)
    found: Counter[str] = Counter()
    for _ in range(300):
        case = draw_case(rng)
        case.output = [*case.output[:-1], *case.plan.end, *case.plan.start, X, EOS]
        found.update(faults(case))
    assert len(found) > 3


if __name__ == "__main__":
    number = int(sys.argv[1])
    total: Counter[str] = Counter()
    for seed in range(0, number, 10_000):
        total += search(min(10_000, number - seed), seed)
        print(f"{min(seed + 10_000, number):,} responses: {dict(total) or 'no fault'}", flush=True)
