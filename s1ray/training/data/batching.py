"""Which examples make an optimizer step, and how they are laid out on the workers.

These are two independent decisions. `global_batch` says which examples a step has: each epoch is a permutation of all
examples that depends on the seed alone, so it is the same for any number of workers, and a resumed run needs to know
only the step. `lay_out` spreads those examples over workers and micro-batches: it decides speed and memory, never the
gradient, because the loss is the mean over the trained tokens of the whole global batch.

Every worker gets the same number of micro-batches (collectives run in lockstep), the fewest that respect the token
limit, and about the same work: packed rows by longest-processing-time-first bin packing, padded rows by cutting the
examples, sorted by length, so that the largest padded micro-batch is as small as possible. Where there are fewer
examples than micro-batches, some stay empty.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING

from s1ray.training.data.schedule import steps_per_epoch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MicroBatch = tuple[int, ...]
"""Indices of the examples of one micro-batch; empty where the worker only takes part in the collectives."""

Layout = list[list[MicroBatch]]
"""[worker][micro-batch]; all workers have the same number of micro-batches."""


def epoch_order(num_examples: int, epoch: int, seed: int) -> npt.NDArray[np.int64]:
    """The order of the examples in an epoch: int64 permutation of length `num_examples`."""
    import numpy as np

    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(num_examples)


def global_batch(step: int, num_examples: int, batch_size: int, seed: int) -> list[int]:
    """Indices of the examples of an optimizer step, counted from 0 over all epochs."""
    epoch, position = divmod(step, steps_per_epoch(num_examples, batch_size))
    order = epoch_order(num_examples, epoch, seed)
    return [int(index) for index in order[position * batch_size : (position + 1) * batch_size]]


def lay_out(
    lengths: Sequence[int], indices: Sequence[int], *, num_workers: int, micro_batch_tokens: int, packing: bool
) -> Layout:
    """Spread a global batch over workers and micro-batches.

    Args:
        lengths: tokens of every example of the data set.
        indices: the examples of this global batch.
        micro_batch_tokens: most tokens of one micro-batch, padding included.
        packing: False: the rows of a micro-batch are padded to its longest.

    Raises:
        ValueError: a single example is longer than a micro-batch.
    """
    for index in indices:
        if lengths[index] > micro_batch_tokens:
            raise ValueError(f"example {index} has {lengths[index]} tokens, a micro-batch {micro_batch_tokens}")
    # The index breaks ties, so the layout depends on the set of examples alone, not on their order.
    longest_first = sorted(indices, key=lambda index: (-lengths[index], index))
    divide = _pack if packing else _pad
    total = sum(lengths[index] for index in indices)
    accumulation = max(1, -(-total // (num_workers * micro_batch_tokens)))
    while (groups := divide(longest_first, lengths, accumulation * num_workers, micro_batch_tokens)) is None:
        accumulation += 1
    groups.sort(key=lambda group: (-_cost(group, lengths, packing), group))
    groups += [()] * (accumulation * num_workers - len(groups))
    # Micro-batches that run at the same time should cost about the same: deal out the sorted groups in rounds.
    return [groups[worker::num_workers] for worker in range(num_workers)]


def padding(layout: Layout, lengths: Sequence[int], packing: bool) -> float:
    """Part of a step's computed tokens that is padding, 0 to 1."""
    batches = [batch for worker in layout for batch in worker if batch]
    computed = sum(_cost(batch, lengths, packing) for batch in batches)
    return 1 - sum(lengths[index] for batch in batches for index in batch) / computed


def _cost(batch: MicroBatch, lengths: Sequence[int], packing: bool) -> int:
    if not batch:
        return 0
    return sum(lengths[i] for i in batch) if packing else len(batch) * max(lengths[i] for i in batch)


def _pack(longest_first: Sequence[int], lengths: Sequence[int], num_groups: int, limit: int) -> list[MicroBatch] | None:
    groups: list[list[int]] = [[] for _ in range(num_groups)]
    lightest = [(0, group) for group in range(num_groups)]
    for index in longest_first:
        load, group = heapq.heappop(lightest)
        if load + lengths[index] > limit:
            return None
        groups[group].append(index)
        heapq.heappush(lightest, (load + lengths[index], group))
    return [tuple(group) for group in groups if group]


def _pad(longest_first: Sequence[int], lengths: Sequence[int], num_groups: int, limit: int) -> list[MicroBatch] | None:
    if len(_cut(longest_first, lengths, limit)) > num_groups:
        return None
    low, high = lengths[longest_first[0]], limit
    while low < high:
        middle = (low + high) // 2
        if len(_cut(longest_first, lengths, middle)) <= num_groups:
            high = middle
        else:
            low = middle + 1
    return _cut(longest_first, lengths, low)


def _cut(longest_first: Sequence[int], lengths: Sequence[int], limit: int) -> list[MicroBatch]:
    """Runs of neighbours, each at most `limit` tokens when padded to its first, longest one."""
    groups: list[MicroBatch] = []
    start = 0
    while start < len(longest_first):
        rows = max(1, limit // lengths[longest_first[start]])
        groups.append(tuple(longest_first[start : start + rows]))
        start += rows
    return groups
