"""How a question is worked out on paper: passes over its steps, slips, and re-checks after "Wait".

A pass is either careful (one step per line) or quick (several steps per line, see `Domain.stride`), and ends in a line
"So X". A slip changes the result on a line; some slips are noticed at once and corrected in a line that begins with
"Wait". A re-check is a new careful pass after a line that begins with "Wait". Re-checks continue while no answer leads;
if passes disagreed, a line "Most say X" names the winner. So the last line always names the answer to give.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

from s1ray.miniature.domains import AnyDomain, Spec

RECHECK_LINES = ("Wait, check.", "Wait, once more.", "Wait, step by step.")
"""Lines that begin a re-check when passes agree so far."""

MAX_PASSES = 9
"""A working stops looking for agreement here; slips are rare, so this is hardly ever reached."""


@dataclass(frozen=True)
class Habits:
    """The probabilities that shape a working; the defaults are those of the corpus."""

    quick_first: float = 0.8
    """That the first pass is quick. Re-checks are always careful."""
    quick_slip: float = 0.08
    """Of a slip on a line of a quick pass."""
    careful_slip: float = 0.03
    """Of a slip on a line of a careful pass."""
    notice: float = 0.4
    """That a slip is noticed at once."""
    rechecks: tuple[float, ...] = (0.6, 0.2, 0.1, 0.05, 0.03, 0.02)
    """Weights of 0, 1, 2, ... re-checks; a disagreement adds more."""


def one_pass(domain: AnyDomain, spec: Spec, *, stride: int = 1) -> tuple[list[str], str]:
    """The lines of one pass without slips, `stride` steps per line, and its answer."""
    return slipping_pass(domain, spec, random.Random(0), stride=stride, slip=0.0, notice=0.0)


def slipping_pass(
    domain: AnyDomain, spec: Spec, rng: random.Random, *, stride: int, slip: float, notice: float
) -> tuple[list[str], str]:
    """The lines of one pass and its answer. A line has a slip with probability `slip`, noticed with `notice`."""
    state = domain.start(spec)
    lines: list[str] = []
    index = 0
    while (step := domain.next_step(spec, state, index)) is not None:
        before, first = state, index
        steps: list[Any] = []
        while step is not None and len(steps) < stride:
            state = domain.advance(spec, state, step)
            steps.append(step)
            index += 1
            step = domain.next_step(spec, state, index)
        line = domain.line(spec, before, steps, state, first)
        if rng.random() < slip:
            wrong = domain.slip(spec, state, rng)
            lines.append(domain.line(spec, before, steps, wrong, first))
            if rng.random() < notice:
                lines.append(f"Wait, {line}")
            else:
                state = wrong
        else:
            lines.append(line)
    return lines, domain.answer(spec, state)


def think(domain: AnyDomain, spec: Spec, rng: random.Random, habits: Habits) -> tuple[str, str]:
    """A whole working with its re-checks, and the answer that it settles on, which slips can make wrong."""
    rechecks = rng.choices(range(len(habits.rechecks)), habits.rechecks)[0]
    lines: list[str] = []
    votes: Counter[str] = Counter()
    while True:
        quick = not votes and rng.random() < habits.quick_first
        written, answer = slipping_pass(
            domain,
            spec,
            rng,
            stride=domain.stride if quick else 1,
            slip=habits.quick_slip if quick else habits.careful_slip,
            notice=habits.notice,
        )
        lines += [*written, f"So {answer}"]
        votes[answer] += 1
        ranked = votes.most_common(2)
        agreed = len(ranked) == 1 or ranked[0][1] > ranked[1][1]
        passes = votes.total()
        if agreed and len(ranked) > 1:
            answer = ranked[0][0]
            lines.append(f"Most say {answer}")
        if passes >= MAX_PASSES or (agreed and passes > rechecks):
            return "\n".join(lines), answer
        lines.append(rng.choice(RECHECK_LINES) if agreed else f"Wait, {ranked[0][0]} or {ranked[1][0]}?")
