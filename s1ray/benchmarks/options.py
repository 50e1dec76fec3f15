"""The order in which the options of a multiple-choice question are asked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from s1ray.grading.choices import CHOICES


def letters(count: int) -> str:
    """The letters of so many options."""
    return CHOICES[:count]


def ordered(question: str, options: Sequence[str], seed: int) -> tuple[list[str], str]:
    """Options in an order drawn for the question, and the right one's letter.

    The order is that of SHA-256 over seed, question and option, so it is the same in every process, on every machine
    and in whatever order a file has the rows. (s1's harness shuffles with the process's random state, so its order
    depends on what was loaded before.)

    Args:
        question: its text.
        options: texts; the first is right.
        seed: of the order.
    """

    def key(index: int) -> tuple[bytes, int]:
        drawn = "\0".join((str(seed), question, options[index]))
        return hashlib.sha256(drawn.encode("utf-8", "surrogatepass")).digest(), index

    order = sorted(range(len(options)), key=key)
    return [options[index] for index in order], letters(len(options))[order.index(0)]
