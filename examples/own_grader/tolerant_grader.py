"""A grader of your own: measured quantities, which are right within one per cent.

A reference "9.81 m/s^2" accepts "9.8" and "g = 9.79"; s1ray's own rules would compare the numbers exactly.
"""

from __future__ import annotations

import math
import re

from s1ray.grading import Grade, extract_answer, grade

TOLERANCE = 0.01
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def tolerant(gold: str, text: str, *, kind: str | None = None) -> Grade:
    """Grade an answer text against a reference; what is no quantity is left to s1ray's rules.

    Args:
        gold: the reference answer.
        text: the response's answer text, without its thinking.
        kind: "answer_kind" in the question's metadata, where it has one.
    """
    reference = NUMBER.match(gold.strip())
    if reference is None:
        return grade(gold, text, kind=kind)
    extraction = extract_answer(text)
    # In "g = 9.79 m/s^2" the value follows the equals sign.
    found = None if extraction is None else NUMBER.search(extraction.value.rpartition("=")[2])
    if found is None:
        # An answer that cannot be read off is not correct.
        return Grade("unparsable", None, "no answer")
    correct = math.isclose(float(found[0]), float(reference[0]), rel_tol=TOLERANCE)
    return Grade("correct" if correct else "incorrect", found[0], f"within {TOLERANCE:.0%}")
