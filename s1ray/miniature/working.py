"""How a question is worked out on paper: passes over its steps, slips, and re-checks after "Wait".

A pass is either careful (one step a line) or quick (several steps a line, see `Domain.stride`); it ends in a line "So
X". A slip changes what a line says; some slips are noticed at once and corrected in a line that begins with "Wait". A
re-check is a careful pass made afresh after a line that begins with "Wait". While no answer has been found more often
than every other, another re-check follows; once passes have disagreed, a line "Most say X" says which answer won. So
the last line always names the answer to give.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

from s1ray.miniature.domains import AnyDomain, Spec

RECHECK_LINES = ("Wait, check.", "Wait, once more.", "Wait, step by step.")
"""How a re-check begins when there is no disagreement yet."""

MAXIMUM_PASSES = 9
"""Where a working gives up looking for agreement; slips are rare, so this is hardly ever reached."""


@dataclass(frozen=True)
class Habits:
    """How somebody works: probabilities, all between 0 and 1; the defaults are those of the corpus."""

    quick_first: float = 0.8
    """That the first pass is a quick one. Re-checks are always careful."""
    quick_slip: float = 0.08
    """Slips per line of a quick pass."""
    careful_slip: float = 0.03
    """Slips per line of a careful pass."""
    notice: float = 0.4
    """That a slip is seen at once."""
    rechecks: tuple[float, ...] = (0.6, 0.2, 0.1, 0.05, 0.03, 0.02)
    """Weights of making 0, 1, 2, ... re-checks, before any that a disagreement asks for."""


def one_pass(domain: AnyDomain, spec: Spec, *, stride: int = 1) -> tuple[list[str], str]:
    """The lines of one pass without slips, and its answer; `stride` steps go on a line."""
    return slipping_pass(domain, spec, random.Random(0), stride=stride, slip=0.0, notice=0.0)


def slipping_pass(
    domain: AnyDomain, spec: Spec, rng: random.Random, *, stride: int, slip: float, notice: float
) -> tuple[list[str], str]:
    """The lines of one pass and the answer it reaches, with slips at rate `slip` a line, noticed at rate `notice`."""
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
    """A whole working with its re-checks, and the answer that it settles on (which slips can make a wrong one)."""
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
        if passes >= MAXIMUM_PASSES or (agreed and passes > rechecks):
            return "\n".join(lines), answer
        lines.append(rng.choice(RECHECK_LINES) if agreed else f"Wait, {ranked[0][0]} or {ranked[1][0]}?")
