"""Reads a response from left to right, by the delimiters of its plan alone, and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s1ray.thinking.accounting import account
from s1ray.thinking.counts import Accounting
from s1ray.thinking.plan import ForcingPlan

LONGEST = 300
"""Tokens of a response whose room is not known."""


@dataclass
class Case:
    """One response of a hostile model."""

    plan: ForcingPlan
    prompt: list[int]
    room: int | None
    output: list[int]
    counted: Accounting
    """By the forcer that was there, or from the ids."""
    eos: int


def occurs(part: Sequence[int], ids: Sequence[int]) -> bool:
    return any(tuple(ids[i : i + len(part)]) == tuple(part) for i in range(len(ids) - len(part) + 1))


def split(case: Case) -> tuple[list[list[int]], list[list[int]]]:
    """Blocks of thinking and parts of the answer, by the delimiters alone."""
    plan, ids = case.plan, case.output
    start, end = list(plan.start), list(plan.end)
    inside = opens(plan, case.prompt)
    at = 0
    if not inside and ids[: len(start)] == start:
        at, inside = len(start), True
    blocks: list[list[int]] = []
    parts: list[list[int]] = []
    while True:
        if inside:
            stop = next((i for i in range(at, len(ids)) if ids[i : i + len(end)] == end), None)
            blocks.append(ids[at:stop])
            if stop is None:
                return blocks, parts
            at = stop + len(end)
        again = next((i for i in range(at, len(ids)) if plan.reopen and ids[i : i + len(start)] == start), None)
        parts.append(ids[at:again])
        if again is None:
            return blocks, parts
        at, inside = again + len(start), True


def opens(plan: ForcingPlan, prompt: list[int]) -> bool:
    """Whether a prompt of these tests ends inside thinking."""
    length = len(plan.start)
    begins = [i for i in range(len(prompt)) if tuple(prompt[i : i + length]) == plan.start]
    return bool(begins) and not set(prompt[begins[-1] + length :]) & set(plan.end_triggers)


def faults(case: Case) -> list[str]:
    """What is wrong with a response."""
    plan, output, counted = case.plan, case.output, case.counted
    blocks, parts = split(case)
    found = []
    # A forced end has a line break and a hand-over before its delimiter, and may be cut off by the room.
    forced = len(plan.newline) + len(plan.cut) if counted.end_forced or len(output) == case.room else 0
    if plan.max_tokens is not None and sum(map(len, blocks)) > plan.max_tokens + forced:
        found.append("thinks longer than its maximum")
    if plan.max_tokens is not None and counted.thinking_tokens > plan.max_tokens:
        found.append("counts more than its maximum")
    found += [
        f"{marker} in the answer" for part in parts for marker in (*plan.answer_ban, plan.end) if occurs(marker, part)
    ]
    if not plan.reopen:
        found += ["opens the thinking again" for part in parts if occurs(plan.start, part)]
    most = plan.answer_max_tokens
    if most is not None and sum(map(len, parts)) > most + 1:
        found.append("a longer answer than allowed")
    beginning = list(plan.cut[plan.cut_answer :])
    last = parts[-1] if parts else []
    # Where it would use up what is left of the maximum it is not forced, but a model may write it all the same.
    fits = most is None or sum(map(len, parts[:-1])) + len(beginning) < most
    if beginning and fits and last[: len(beginning)] == beginning and counted.end_forced:
        last = last[len(beginning) :]
    limit = LONGEST if case.room is None else case.room
    needed = 1 + (len(plan.end) if opens(plan, case.prompt) else 0)
    if limit >= needed and not any(i not in (case.eos, *plan.blank_ids) for i in last):
        found.append("no answer, although there was room for one")
    if not counted.answer_cut and output[-1] != case.eos and case.room is not None:
        found.append("was cut, and does not say so")
    if counted.answer_cut and output[-1] == case.eos and most is None:
        found.append("ended by itself, and says that it was cut")
    again = account(plan, case.prompt, output, room=case.room)
    if again.thinking_tokens != counted.thinking_tokens and case.room is not None:
        found.append(f"counted {again.thinking_tokens} from the ids, {counted.thinking_tokens} as they came")
    return found
