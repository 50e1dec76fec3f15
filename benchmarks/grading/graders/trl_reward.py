"""TRL's reward for mathematics (`trl.rewards.accuracy_reward`); None, "skip the example", is undecided."""

import logging

from loop import run
from trl.rewards import accuracy_reward

logging.disable(logging.CRITICAL)


def judge(gold: str, text: str) -> tuple[str, str]:
    """A verdict on one case."""
    # Its parser looks for formulas; the data sets that it is used with have them between dollars or in a box.
    solution = gold if any(mark in gold for mark in ("$", "\\boxed", "\\(", "\\[")) else f"${gold}$"
    (reward,) = accuracy_reward([[{"role": "assistant", "content": text}]], [solution])
    return {1.0: "correct", 0.0: "incorrect"}.get(reward, "undecided"), str(reward)


judge("1", "1")
run(judge)
