"""math-verify alone, as its README calls it: parse both, verify. A gold without delimiters gets dollars, as it asks."""

import logging

from loop import run
from math_verify import parse, verify

logging.disable(logging.CRITICAL)


def judge(gold: str, text: str) -> tuple[str, str]:
    """A verdict on one case."""
    delimited = gold if any(mark in gold for mark in ("$", "\\boxed", "\\(", "\\[")) else f"${gold}$"
    reference = parse(delimited) or parse(gold)
    answer = parse(text)
    return "correct" if verify(reference, answer) else "incorrect", str(answer)[:200]


judge("1", "1")
run(judge)
