"""The procedural teacher: works a question out step by step, as a large reasoning model would for s1.

It slips, notices or not, re-checks none to several times, and is not always right (s1 kept traces whether right or
wrong; of its final thousand 53.6 % were right, here nearly all are).
"""

from __future__ import annotations

from dataclasses import replace

from s1ray.miniature.questions import Row, problem_of
from s1ray.miniature.seeding import generator
from s1ray.miniature.working import Habits, think

WRONG_KEPT = 0.3
"""Part of its wrong results that the teacher does not see; the others it works out anew."""


HASTY_DOMAINS = frozenset({"boolean", "cups", "last_digit", "sequence", "walk"})
"""Where the teacher likes to try it quickly first, several steps at once, and is careful only when it checks. A student
learns the habit but is worse at it: there a "Wait" can pay."""

HASTE = 0.85
"""How often the first pass is a quick one in a hasty domain."""


class ProceduralTeacher:
    """Writes traces; the same seed and question give the same trace, in whatever order questions come."""

    def __init__(self, seed: int = 0, habits: Habits | None = None):
        self.seed = seed
        self.careful = replace(habits or Habits(), quick_first=0.0)
        self.hasty = replace(self.careful, quick_first=HASTE)

    def solve(self, question: Row) -> tuple[str, str]:
        """The thinking and the attempt ("Final Answer: X") on a row made by `s1ray.miniature.pool`.

        Raises:
            ValueError: the row's metadata has no specification of the question.
        """
        problem = problem_of(question)
        rng = generator("teacher", self.seed, question["id"])
        habits = self.hasty if problem.domain in HASTY_DOMAINS else self.careful
        while True:
            thinking, answer = think(problem.rules, problem.spec, rng, habits)
            if answer == problem.answer or rng.random() < WRONG_KEPT:
                return thinking, f"Final Answer: {answer}"
