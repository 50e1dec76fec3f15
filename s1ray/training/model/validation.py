"""The loss on traces that are not trained on.

What is held out is drawn by the seed alone, before training, and by question: the answer to a question that has several
traces would otherwise be learned from one and measured on another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from s1ray.training.config import ValidationConfig

if TYPE_CHECKING:
    import torch

    from s1ray.training.model.engine import Engine


def held_out(question_ids: Sequence[str], config: ValidationConfig, seed: int) -> list[int]:
    """Which rows to hold out, ascending: all rows of as many questions as it takes.

    Args:
        question_ids: each row's question.

    Raises:
        ValueError: nothing would be left to train on.
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
        raise ValueError(
            f"validation would hold out all {len(question_ids)} usable rows ({wanted} wanted, {len(questions)} "
            "question(s)); lower validation.size or validation.fraction"
        )
    return sorted(chosen)


def evaluate(engine: Engine, micro_batches: Sequence[dict[str, Any]]) -> torch.Tensor:
    """Sum the loss over a worker's micro-batches (fp32 scalar), without dropout.

    Every worker must call it, with as many micro-batches as the others.
    """
    import torch

    total = torch.zeros((), dtype=torch.float32, device=engine.device)
    engine.deepspeed.eval()
    with torch.no_grad():
        for inputs in micro_batches:
            total += engine.deepspeed(**inputs)
    engine.deepspeed.train()
    return total
