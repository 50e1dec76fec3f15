"""Micro-batches as tensors: packed into one row with positions that restart, or padded on the right.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np
import torch

from s1ray.training.data.dataset import IGNORE as IGNORE
from s1ray.training.data.dataset import Dataset as Dataset
from s1ray.training.data.dataset import Integers


class ModelInputs(TypedDict):
    """The inputs of `LossModel` for one micro-batch: int64 [1, T] packed, [rows, T] padded."""

    input_ids: torch.Tensor
    labels: torch.Tensor
    """The id of the next token, or `IGNORE`."""
    position_ids: torch.Tensor
    segments: NotRequired[tuple[int, ...]]
    """Boundaries of the examples within a row, 0 and T included. Padded rows: each is one segment, (0, T)."""
    cu_seq_lens_q: NotRequired[torch.Tensor]
    """The same boundaries in the keywords of flash attention, which counts through all rows."""
    cu_seq_lens_k: NotRequired[torch.Tensor]
    max_length_q: NotRequired[int]
    max_length_k: NotRequired[int]


def collate(
    dataset: Dataset,
    batch: Sequence[int],
    *,
    packing: bool,
    flash: bool,
    device: torch.device,
    part: tuple[int, int] = (0, 1),
) -> ModelInputs:
    """The tensors of one micro-batch.

    Args:
        batch: indices of the examples; empty gives two tokens without loss, so that the worker can take part in the
            collectives.
        flash: give the examples' boundaries in flash attention's keywords rather than as `segments`.
        part: (i, n) gives the i-th of n equal parts of the packed row's tokens, for workers that share it. The
            boundaries are those of the whole row, which is filled up to a multiple of n with tokens without loss.
    """
    assert packing or part == (0, 1), "only packed rows are shared"
    tokens = [dataset.tokens[index] for index in batch] or [np.zeros(2, dtype=np.int64)]
    labels = [dataset.labels[index] for index in batch] or [np.full(2, IGNORE, dtype=np.int64)]
    if not packing:
        width = max(len(row) for row in tokens)
        positions = np.broadcast_to(np.arange(width), (len(tokens), width)).copy()
        padded: ModelInputs = {
            # Any id will do as padding: it has no loss, and nothing before it attends to it.
            "input_ids": _padded(tokens, width, 0, device),
            "labels": _padded(labels, width, IGNORE, device),
            "position_ids": torch.from_numpy(positions).to(device),
        }
        return _with_bounds(padded, [0, width], flash=flash)
    bounds = [0, *np.cumsum([len(row) for row in tokens]).tolist()]
    index, parts = part
    if fill := -bounds[-1] % parts:
        tokens.append(np.zeros(fill, dtype=np.int64))
        labels.append(np.full(fill, IGNORE, dtype=np.int64))
        bounds.append(bounds[-1] + fill)
    width = bounds[-1] // parts
    mine = slice(index * width, (index + 1) * width)
    inputs: ModelInputs = {
        "input_ids": _row(tokens, mine, device),
        "labels": _row(labels, mine, device),
        "position_ids": _row([np.arange(len(example)) for example in tokens], mine, device),
    }
    return _with_bounds(inputs, bounds, flash=flash)


def _with_bounds(inputs: ModelInputs, bounds: list[int], *, flash: bool) -> ModelInputs:
    """The inputs with the boundaries of the examples, which are the same in each row; attention insists on them."""
    if not flash:
        inputs["segments"] = tuple(bounds)
        return inputs
    rows, device = inputs["input_ids"].shape[0], inputs["input_ids"].device
    ends = [row * bounds[-1] + end for row in range(rows) for end in bounds[1:]]
    inputs["cu_seq_lens_q"] = inputs["cu_seq_lens_k"] = torch.tensor([0, *ends], dtype=torch.int32, device=device)
    inputs["max_length_q"] = inputs["max_length_k"] = max(b - a for a, b in itertools.pairwise(bounds))
    return inputs


def _row(examples: Sequence[Integers], part: slice, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(examples)[part]).unsqueeze(0).to(device)


def _padded(rows: Sequence[Integers], width: int, fill: int, device: torch.device) -> torch.Tensor:
    padded = np.full((len(rows), width), fill, dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return torch.from_numpy(padded).to(device)
