"""Removing duplicates of earlier questions.

Three rules, the first always on: equal text; equal normal form (`text.normal`); and near equality, where one question
only adds words to the other (`near_duplicates`). Of a group of duplicates, the row that comes first in the sources
stays; of equal texts the first that has an answer. Groups are sets, so neither the order of rows in a batch nor the
number of workers matters.

Rows that look equal while their answers differ are not duplicates: one of the answers is wrong, or the questions differ
in something that the normal form drops. They are listed as conflicts, and stay; but of rows with one text to the
letter, which have one id, only the first.

s1's code has one more rule, an option here: `cross_source`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from s1ray.curation.funnel import Rows
from s1ray.curation.text.blocks import Hashes


@dataclass(frozen=True)
class EqualRows:
    """Rows whose keys are equal."""

    copies: Rows
    """Those that repeat another, ascending; shape (M,)."""
    kept: Rows
    """The row that each repeats, which stays; shape (M,)."""
    conflicts: Rows
    """The first row with a key, and the first with the same key and another answer; ascending, shape (C, 2)."""


def equal_rows(rows: Rows, keys: npt.NDArray[np.int64] | Hashes, answers: Hashes | None = None) -> EqualRows:
    """Rows that repeat an earlier row's key, and rows that would if their answers did not differ.

    A row without an answer repeats whatever has its key, so of equal rows the first that has an answer stays.

    Args:
        rows: positions in the sources, ascending; shape (N,).
        keys: shape (N,).
        answers: keys of the answers, 0 where there is none (`answer_keys`); shape (N,). None: answers do not count.
    """
    if not len(rows):
        return EqualRows(rows, rows, np.empty((0, 2), np.int64))
    order, starts = _grouped(keys)
    group = np.empty(len(rows), np.int64)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(rows))))
    answers = np.zeros(len(rows), np.uint64) if answers is None else answers
    said = _with_first_answer(answers, group, len(starts))

    order = np.lexsort((answers == 0, said, group))
    changes = (np.diff(group[order]) != 0) | (said[order][1:] != said[order][:-1])
    firsts = np.flatnonzero(np.concatenate(([True], changes)))
    kept = np.empty(len(rows), np.int64)
    kept[order] = np.repeat(order[firsts], np.diff(np.append(firsts, len(rows))))
    copies = np.flatnonzero(kept != np.arange(len(rows)))
    heads = np.sort(order[firsts])
    first_of_group = np.empty(len(starts), np.int64)
    first_of_group[group[heads[::-1]]] = heads[::-1]
    others = heads[first_of_group[group[heads]] != heads]
    conflicts = np.stack([rows[first_of_group[group[others]]], rows[others]], axis=1)
    return EqualRows(rows[copies], rows[kept[copies]], conflicts[np.lexsort((conflicts[:, 1], conflicts[:, 0]))])


def _grouped(keys: npt.NDArray[np.int64] | Hashes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The places of keys in groups of equal ones, in each group ascending; and where each group begins."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    changes = np.concatenate(([True], ordered[1:] != ordered[:-1])) if len(keys) else np.empty(0, np.bool_)
    return order, np.flatnonzero(changes)


def _with_first_answer(answers: Hashes, group: npt.NDArray[np.int64], groups: int) -> Hashes:
    """The answers, those of rows without one replaced by the first answer of their group."""
    first = np.zeros(groups, np.uint64)
    answered = np.flatnonzero(answers)[::-1]
    first[group[answered]] = answers[answered]
    return np.where(answers == 0, first[group], answers)
