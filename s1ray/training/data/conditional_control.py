r"""Conditional control: the training texts of s1's two trained baselines to budget forcing.

Token-conditional control tells the model in the question how many tokens it may think for; step-conditional control has
it write its thinking as numbered steps that count down (arXiv 2501.19393, sections 3.1 and 5.2, formats in the
appendix). Each is a fine-tuning run of its own. The question names the smallest power of two that the trace's own
length does not exceed, so that the model learns the number as an upper bound.

    ...question\n\nThink for up to 4 steps.<|im_end|>\n<|im_start|>assistant\n
    <|im_start|>4 steps left\n{step}\n<|im_start|>3 steps left\n{step}\n<|im_start|>answer\n...

The count starts at the number in the question, as s1's own code that reads such texts assumes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from s1ray.errors import InputError
from s1ray.thinking.format import ThinkingFormat

Control = Literal["none", "token", "step"]


def upper_bound(length: int) -> int:
    """The smallest power of two that is at least `length`."""
    return 1 << max(0, length - 1).bit_length()


def split_steps(thinking: str) -> list[str]:
    """The steps of a trace: the parts between its blank lines."""
    return [step.strip("\n") for step in re.split(r"\n\s*\n", thinking.strip()) if step.strip()]


def ask(question: str, limit: int, unit: Literal["tokens", "steps"]) -> str:
    """The question with its limit."""
    return f"{question}\n\nThink for up to {limit} {unit}."


def step_marker(thinking_format: ThinkingFormat, control_tokens: Sequence[str]) -> str:
    """The text before each step's count: the control token that both of the format's delimiters begin with.

    Raises:
        InputError: they share none, so steps could not be told from the end of the thinking.
    """
    delimiters = (thinking_format.start, thinking_format.end)
    found = [token for token in control_tokens if token and all(text.startswith(token) for text in delimiters)]
    if not found:
        raise InputError(
            f"conditional_control step: the delimiters of thinking format {thinking_format.name!r} "
            f"({thinking_format.start!r}, {thinking_format.end!r}) begin with no common control token that could mark "
            "the steps; use format s1, or one like it"
        )
    return max(found, key=len)


def count_down(steps: Sequence[str], limit: int, marker: str) -> str:
    """The steps of a trace, each below the number of steps that are left; ends in a line break."""
    return "".join(f"{marker}{limit - done} steps left\n{step}\n" for done, step in enumerate(steps))
