"""Which examples make an optimizer step, and how they are laid out on the workers.

Two decisions that must not touch each other. `global_batch` says which examples a step has: a permutation of all of
them a epoch, from the seed alone, so it is the same for any number of workers and a resumed run needs nothing but the
step. `lay_out` spreads those examples over workers and micro-batches: it decides speed and memory, never the gradient,
because the loss is the mean over the trained tokens of the whole global batch.

Every worker gets the same number of micro-batches (collectives run in step), the fewest that respect the token limit,
and about the same work: in packed rows by longest-processing-time-first bin packing, in padded ones by cutting the
examples, sorted by length, where the largest padded micro-batch becomes smallest. Where there are fewer examples than
places, micro-batches stay empty.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING

from s1ray.training.data.schedule import steps_per_epoch

if TYPE_CHECKING:
    import numpy as np

MicroBatch = tuple[int, ...]
"""Indices of the examples of one micro-batch; empty: the worker only keeps step with the others."""

Layout = list[list[MicroBatch]]
"""[worker][micro-batch]; all workers have the same number of micro-batches."""


def epoch_order(num_examples: int, epoch: int, seed: int) -> np.ndarray:
    """The order of the examples in an epoch: int64 permutation of length `num_examples`."""
    import numpy as np

    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(num_examples)


def global_batch(step: int, num_examples: int, batch_size: int, seed: int) -> list[int]:
    """Indices of the examples of an optimizer step, counted from 0 over all epochs."""
    epoch, position = divmod(step, steps_per_epoch(num_examples, batch_size))
    order = epoch_order(num_examples, epoch, seed)
    return order[position * batch_size : (position + 1) * batch_size].tolist()


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
        ValueError: an example alone is longer than a micro-batch.
    """
    for index in indices:
        if lengths[index] > micro_batch_tokens:
            raise ValueError(f"example {index} has {lengths[index]} tokens, a micro-batch {micro_batch_tokens}")
    # Longest first; the index breaks ties, so the layout depends on the set of examples alone.
    longest_first = sorted(indices, key=lambda index: (-lengths[index], index))
    divide = _pack if packing else _pad
    total = sum(lengths[index] for index in indices)
    accumulation = max(1, -(-total // (num_workers * micro_batch_tokens)))
    while (groups := divide(longest_first, lengths, accumulation * num_workers, micro_batch_tokens)) is None:
        accumulation += 1
    groups.sort(key=lambda group: (-_cost(group, lengths, packing), group))
    groups += [()] * (accumulation * num_workers - len(groups))
    # Micro-batches that run at the same time should be alike: deal out in rounds of sorted groups.
    return [groups[worker::num_workers] for worker in range(num_workers)]


def padding(layout: Layout, lengths: Sequence[int], packing: bool) -> float:
    """Part of a step's computed tokens that are padding, 0 to 1."""
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
