"""Which traces are held out of training, to measure the loss on.

The draw depends on the seed alone and is made before training, by question: otherwise a question with several traces
would be learned from one of them and measured on another.
"""

from __future__ import annotations

from collections.abc import Sequence

from s1ray.config import ConfigError
from s1ray.training.config import ValidationConfig


def held_out(question_ids: Sequence[str], config: ValidationConfig, seed: int) -> list[int]:
    """Which rows to hold out, ascending: all rows of as many questions as it takes.

    Args:
        question_ids: each row's question.

    Raises:
        ConfigError: nothing would be left to train on.
    """
    import numpy as np

    wanted = config.size if config.size is not None else max(1, round((config.fraction or 0) * len(question_ids)))
    questions = sorted(set(question_ids))
    order = np.random.Generator(np.random.PCG64([seed, 2])).permutation(len(questions))
    rows_of: dict[str, list[int]] = {question: [] for question in questions}
    for row, question in enumerate(question_ids):
        rows_of[question].append(row)
    chosen: list[int] = []
    for index in order:
        if len(chosen) >= wanted:
            break
        chosen += rows_of[questions[index]]
    if len(chosen) == len(question_ids):
        raise ConfigError(
            f"validation would hold out all {len(question_ids)} usable rows ({wanted} wanted, {len(questions)} "
            "question(s)); lower validation.size or validation.fraction"
        )
    return sorted(chosen)
