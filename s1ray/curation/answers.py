r"""Answers that are spelled differently and are the same: "1/2", "\\frac{1}{2}" and "0.5".

Features know answers by keys of their spelling. Where rows look equal and the keys differ, the grading's rules decide,
and rows whose answers are the same get the same key; undecided is not the same. A comparison takes up to some
milliseconds, so of a question with many different answers only the first ones are compared with each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from s1ray.curation.deduplication import EqualRows, equal_rows
from s1ray.curation.funnel import Rows
from s1ray.curation.near_duplicates import NearDuplicates
from s1ray.curation.text.blocks import Hashes
from s1ray.grading import same_answer, spelling_free

Read = Callable[[Rows, str], Sequence[str]]
"""From rows (ascending) and the name of a column to the rows' texts in it."""
MOST_COMPARED = 16
"""Different answers of one question that are compared with each other: a sound question has one."""


def equal_rows_and_answers(rows: Rows, keys: Hashes, answers: Hashes, read: Read) -> EqualRows:
    """As `equal_rows`, where answers that are the same in another notation are no conflict."""
    found = equal_rows(rows, keys, answers)
    same = _same(found.conflicts, read)
    if not same:
        return found
    return equal_rows(rows, keys, _renamed(rows, answers, found.copies, found.kept, same))


def near_rows_and_answers(
    rows: Rows, answers: Hashes, read: Read, compare: Callable[[Hashes], NearDuplicates]
) -> NearDuplicates:
    """Near duplicates, where answers that are the same in another notation are no conflict.

    Args:
        rows: those that are compared, ascending.
        answers: keys of theirs.
        read: reads texts.
        compare: finds near duplicates by keys of answers.
    """
    known = set[tuple[int, int]]()
    while True:
        found = compare(answers)
        new = [pair for pair in found.conflicts if pair not in known]
        same = _same(np.array(new, np.int64).reshape(-1, 2), read)
        if not same:
            return found
        known.update(new)
        copies = np.array(sorted(found.kept), np.int64)
        kept = np.array([found.kept[copy] for copy in copies.tolist()], np.int64)
        answers = _renamed(rows, answers, copies, kept, same)


def _renamed(rows: Rows, keys: Hashes, copies: Rows, kept: Rows, same: Mapping[int, int]) -> Hashes:
    """The keys of answers, where groups of rows have got those of earlier rows.

    Args:
        rows: ascending.
        keys: of their answers.
        copies: rows that repeat another, ascending.
        kept: the row that each repeats: the first of its group, all of which have the same answer, or none.
        same: row -> earlier row with the same answer.
    """
    owner = rows.copy()
    owner[np.searchsorted(rows, copies)] = kept
    renamed = keys.copy()
    for later, earlier in same.items():
        members = owner == owner[np.searchsorted(rows, later)]
        renamed[members] = renamed[np.searchsorted(rows, earlier)]
    return renamed


def _same(pairs: Rows, read: Read) -> dict[int, int]:
    """Rows whose answers are those of earlier rows after all.

    Args:
        pairs: rows that look equal, the earlier first; shape (C, 2).
        read: reads texts.
    """
    if not len(pairs):
        return {}
    rows = np.unique(pairs)
    texts = dict(zip(rows.tolist(), read(rows, "answer"), strict=True))
    groups: dict[int, list[int]] = defaultdict(list)
    for earlier, later in pairs.tolist():
        groups[earlier].append(later)
    same: dict[int, int] = {}
    for first, others in groups.items():
        members = [first, *others]
        for row, place in zip(members, answer_classes([texts[row] for row in members]), strict=True):
            if members[place] != row:
                same.setdefault(row, members[place])
    return same


def answer_classes(answers: Sequence[str]) -> list[int]:
    """For each answer the place of the first that is the same.

    Where there are more than `MOST_COMPARED` different ones, the further ones are known by their spelling alone.
    """
    keys = [spelling_free(answer) for answer in answers]
    by_spelling: dict[str, int] = {}
    different: list[int] = []
    for place, (answer, key) in enumerate(zip(answers, keys, strict=True)):
        if key in by_spelling:
            continue
        compared = different if len(different) <= MOST_COMPARED else ()
        equal = next((first for first in compared if same_answer(answers[first], answer) is True), None)
        by_spelling[key] = place if equal is None else equal
        if equal is None:
            different.append(place)
    return [by_spelling[key] for key in keys]
