"""Which examples make an optimizer step, and how they are laid out on the workers.

These are two independent decisions. `global_batch` says which examples a step has: each epoch is a permutation of all
examples that depends on the seed alone, so it is the same for any number of workers, and a resumed run needs to know
only the step. `lay_out` spreads those examples over workers and micro-batches: it decides speed and memory, never the
gradient, because the loss is the mean over the trained tokens of the whole global batch.

Every worker gets the same number of micro-batches (collectives run in lockstep), the fewest that respect the token
limit, and about the same work: packed rows by longest-processing-time-first bin packing, padded rows by cutting the
examples, sorted by length, so that the largest padded micro-batch is as small as possible. Work is not tokens alone:
attention costs the square of an example's length (`RowCost`). Where there are fewer examples than micro-batches, some
stay empty. What the workers still wait for each other is said by `busy_share`.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s1ray.training.data.schedule import steps_per_epoch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MicroBatch = tuple[int, ...]
"""Indices of the examples of one micro-batch; empty where the worker only takes part in the collectives."""

Layout = list[list[MicroBatch]]
"""[worker][micro-batch]; all workers have the same number of micro-batches."""


@dataclass(frozen=True)
class RowCost:
    """What an example costs a model, in any unit: whole numbers, so that all workers agree on every comparison."""

    per_token: int = 1
    attention: int = 0
    """For each pair of tokens of the example."""

    def __call__(self, length: int) -> int:
        """The cost of an example of `length` tokens."""
        length = int(length)  # numpy's integers would overflow
        return length * (self.per_token + self.attention * length)


BY_TOKENS = RowCost()
"""Attention costs nothing."""


@functools.lru_cache(maxsize=2)
def epoch_order(num_examples: int, epoch: int, seed: int) -> npt.NDArray[np.int64]:
    """The order of the examples in an epoch: int64 permutation of length `num_examples`."""
    import numpy as np

    order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(num_examples)
    order.setflags(write=False)
    return order


def global_batch(step: int, num_examples: int, batch_size: int, seed: int) -> list[int]:
    """Indices of the examples of an optimizer step, counted from 0 over all epochs."""
    epoch, position = divmod(step, steps_per_epoch(num_examples, batch_size))
    order = epoch_order(num_examples, epoch, seed)
    return [int(index) for index in order[position * batch_size : (position + 1) * batch_size]]


def lay_out(
    lengths: Sequence[int],
    indices: Sequence[int],
    *,
    num_workers: int,
    micro_batch_tokens: int,
    packing: bool,
    cost: RowCost = BY_TOKENS,
) -> Layout:
    """Spread a global batch over workers and micro-batches.

    Args:
        lengths: tokens of every example of the data set.
        indices: the examples of this global batch.
        micro_batch_tokens: most tokens of one micro-batch, padding included.
        packing: False: the rows of a micro-batch are padded to its longest.
        cost: by which the work is spread evenly.

    Raises:
        ValueError: a single example is longer than a micro-batch.
    """
    for index in indices:
        if lengths[index] > micro_batch_tokens:
            raise ValueError(f"example {index} has {lengths[index]} tokens, a micro-batch {micro_batch_tokens}")
    # The index breaks ties, so the layout depends on the set of examples alone, not on their order.
    longest_first = sorted(indices, key=lambda index: (-lengths[index], index))
    total = sum(lengths[index] for index in indices)
    accumulation = max(1, -(-total // (num_workers * micro_batch_tokens)))
    while True:
        count = accumulation * num_workers
        if packing:
            groups = _pack(longest_first, lengths, count, micro_batch_tokens, cost)
        else:
            groups = _pad(longest_first, lengths, count, micro_batch_tokens)
        if groups is not None:
            break
        accumulation += 1
    groups.sort(key=lambda group: (-_work(group, lengths, packing, cost), group))
    groups += [()] * (count - len(groups))
    # Micro-batches that run at the same time should cost about the same: deal out the sorted groups in rounds. Every
    # other round goes backwards, so that no worker gets the largest of each.
    rounds = [groups[start : start + num_workers] for start in range(0, count, num_workers)]
    dealt = [group if number % 2 == 0 else group[::-1] for number, group in enumerate(rounds)]
    return [list(worker) for worker in zip(*dealt, strict=True)]


def padding(layout: Layout, lengths: Sequence[int], packing: bool) -> float:
    """Part of a step's computed tokens that is padding, 0 to 1."""
    batches = [batch for worker in layout for batch in worker if batch]
    computed = sum(_work(batch, lengths, packing, BY_TOKENS) for batch in batches)
    return 1 - sum(lengths[index] for batch in batches for index in batch) / computed


def busy_share(layouts: Iterable[Layout], lengths: Sequence[int], packing: bool, cost: RowCost) -> float:
    """Part of the workers' time that goes into their own micro-batches, 0 to 1.

    In the rest they wait for the worker whose micro-batch is the largest: collectives end each of them. The time of
    the collectives themselves and of the update is not counted.
    """
    worked = waited = 0
    for layout in layouts:
        for batches in zip(*layout, strict=True):
            works = [_work(batch, lengths, packing, cost) for batch in batches]
            worked += sum(works)
            waited += len(works) * max(works)
    return worked / waited


def _work(batch: MicroBatch, lengths: Sequence[int], packing: bool, cost: RowCost) -> int:
    if not batch:
        return 0
    return sum(cost(lengths[i]) for i in batch) if packing else len(batch) * cost(max(lengths[i] for i in batch))


def _pack(
    longest_first: Sequence[int], lengths: Sequence[int], num_groups: int, limit: int, cost: RowCost
) -> list[MicroBatch] | None:
    groups: list[list[int]] = [[] for _ in range(num_groups)]
    tokens = [0] * num_groups
    lightest = [(0, group) for group in range(num_groups)]
    for index in longest_first:
        full = []
        while lightest and tokens[lightest[0][1]] + lengths[index] > limit:
            full.append(heapq.heappop(lightest))
        if not lightest:
            return None
        work, group = heapq.heappop(lightest)
        groups[group].append(index)
        tokens[group] += lengths[index]
        for entry in (*full, (work + cost(lengths[index]), group)):
            heapq.heappush(lightest, entry)
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
