"""Removing duplicates of earlier questions.

Three rules, the first always on: equal text; equal normal form (`text.normal`); and near equality, where one question
only adds words to the other (`near_duplicates`). Of a group of duplicates, the row that comes first in the sources
stays. Groups are sets, so neither the order of rows in a batch nor the number of workers matters.

Rows that look equal while their answers differ are not duplicates: one of the answers is wrong, or the questions differ
in something that the normal form drops. They all stay, and are listed as conflicts.

s1's code has one more rule, which the paper does not mention: each accepted source joins the benchmarks for the sources
after it. `cross_source` is that rule, an option; it depends on the order of the sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from s1ray.curation.text.blocks import Hashes, text_hash

Keys = npt.NDArray[np.int64]
"""64-bit hashes."""


@dataclass(frozen=True)
class EqualRows:
    """Rows whose keys are equal."""

    kept: dict[int, int] = field(default_factory=dict)
    """Order of each row that repeats another -> order of the row that it repeats, which stays."""
    conflicts: list[tuple[int, int]] = field(default_factory=list)
    """Orders of the first row with a key, and of the first row with the same key and another answer; by order."""


def equal_rows(
    orders: npt.NDArray[np.int64], keys: npt.NDArray[np.int64] | Hashes, answers: Hashes | None = None
) -> EqualRows:
    """Rows that repeat an earlier row's key, and rows that would if their answers did not differ.

    A row without an answer repeats whatever has its key.

    Args:
        orders: position of each row in the sources, unique; shape (N,).
        keys: shape (N,).
        answers: keys of the answers, 0 where there is none (`answer_keys`); shape (N,). None: answers do not count.
    """
    if not len(orders):
        return EqualRows()
    said = np.zeros(len(orders), dtype=np.uint64) if answers is None else answers.copy()
    order = np.lexsort((orders, keys))
    starts = np.flatnonzero(np.concatenate(([True], keys[order][1:] != keys[order][:-1])))
    group = np.empty(len(orders), dtype=np.int64)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))
    # Rows without an answer count as rows with the first answer of their group.
    first_answer = np.zeros(len(starts), dtype=np.uint64)
    answered = order[said[order] != 0][::-1]
    first_answer[group[answered]] = said[answered]
    said = np.where(said == 0, first_answer[group], said)

    order = np.lexsort((orders, said, group))
    firsts = np.flatnonzero(
        np.concatenate(([True], (np.diff(group[order]) != 0) | (said[order][1:] != said[order][:-1])))
    )
    kept = np.repeat(order[firsts], np.diff(np.append(firsts, len(order))))
    repeated = order != kept
    first_of_group = orders[np.lexsort((orders, keys))[starts]]
    heads = order[firsts]
    conflicts = [
        (int(first_of_group[group[row]]), int(orders[row]))
        for row in heads[orders[heads] != first_of_group[group[heads]]]
    ]
    copies = dict(zip(orders[order[repeated]].tolist(), orders[kept[repeated]].tolist(), strict=True))
    return EqualRows(copies, sorted(conflicts))


def cross_source(orders: npt.NDArray[np.int64], sources: Sequence[int], grams: Sequence[Keys]) -> set[int]:
    """s1's rule: rows that share an n-gram with an accepted row of an earlier source.

    Args:
        orders: position of each row in the sources; shape (N,).
        sources: index of each row's source.
        grams: hashes of each row's n-grams (`gram_hashes`).
    """
    dropped: set[int] = set()
    seen = np.array([], dtype=np.int64)
    for source in sorted(set(sources)):
        accepted = []
        for row in (row for row, its_source in enumerate(sources) if its_source == source):
            if len(seen) and (seen[np.searchsorted(seen, grams[row]).clip(max=len(seen) - 1)] == grams[row]).any():
                dropped.add(int(orders[row]))
            else:
                accepted.append(grams[row])
        seen = np.unique(np.concatenate([seen, *accepted]))
    return dropped


def gram_hashes(grams: Sequence[str]) -> Keys:
    """Hashes of n-grams."""
    return np.array([text_hash(gram) for gram in grams], dtype=np.uint64).view(np.int64)
