"""The procedural teacher: it works a question out step by step, as a large reasoning model does for s1.

It makes slips, notices some of them, re-checks its work up to several times, and is not always right. s1 kept traces
whether they were right or wrong: of its final thousand 53.6 % were right; here nearly all are.
"""

from __future__ import annotations

from dataclasses import replace

from s1ray.miniature.questions import problem_of
from s1ray.miniature.seeding import generator
from s1ray.miniature.working import Habits, think
from s1ray.schemas import Question

WRONG_KEPT = 0.3
"""Share of its wrong results that the teacher overlooks; it redoes the others."""

HASTY_DOMAINS = frozenset({"boolean", "cups", "last_digit", "sequence", "walk"})
"""Domains in which the teacher usually starts with a quick pass of several steps per line, and is careful only when it
checks. A student learns the habit but is worse at it, so a forced "Wait" can pay off there."""

HASTE = 0.85
"""Probability that the first pass in a hasty domain is a quick one."""


class ProceduralTeacher:
    """Writes traces. The same seed and question give the same trace, whatever the order of the questions."""

    def __init__(self, seed: int = 0, habits: Habits | None = None):
        self.seed = seed
        self.careful = replace(habits or Habits(), quick_first=0.0)
        self.hasty = replace(self.careful, quick_first=HASTE)

    def solve(self, question: Question) -> tuple[str, str]:
        """The thinking and the attempt ("Final Answer: X") on a question of the miniature.

        Raises:
            InputError: the question's metadata holds no specification of the problem.
        """
        problem = problem_of(question)
        rng = generator("teacher", self.seed, question.id)
        habits = self.hasty if problem.domain in HASTY_DOMAINS else self.careful
        while True:
            thinking, answer = think(problem.rules, problem.spec, rng, habits)
            if answer == problem.answer or rng.random() < WRONG_KEPT:
                return thinking, f"Final Answer: {answer}"
