"""The filters in order, on the features of all rows: quality, leaks, duplicates, domains, the cap, difficulty.

Broken rows go first, so that a broken copy never replaces a sound one, and leaks before duplicates, so that a leak does
not take a clean row with it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from s1ray.curation.answers import Read, equal_rows_and_answers, near_rows_and_answers
from s1ray.curation.config import CurationConfig, DeduplicationConfig
from s1ray.curation.cross_source import cross_source
from s1ray.curation.deduplication import equal_rows
from s1ray.curation.difficulty.rates import REASONS
from s1ray.curation.features import Features, band_name
from s1ray.curation.funnel import Drops, Flags, Funnel, Rows
from s1ray.curation.near_duplicates import BANDS, NearDuplicates, near_duplicates, shared_bands
from s1ray.curation.text.blocks import Hashes
from s1ray.storage import Location

log = logging.getLogger("s1ray")

READ_ROWS = 100_000
"""Rows whose texts are compared together, more where a group is larger."""
GRAMS = "grams"
"""Folder in which the n-grams of the sources are compared."""


def cheap_filters(features: Features, read: Read, config: CurationConfig, work: Location) -> Funnel:
    """The filters that need nothing but features: quality, decontamination, deduplication.

    Args:
        features: of all rows.
        read: reads texts, for the few rows whose keys are not enough.
        config: the stage's.
        work: folder for what a finished run does not keep.
    """
    funnel = Funnel(len(features))
    funnel.drop("quality", _by_word(*features.codes("quality")))
    funnel.drop("decontamination", _by_word(*features.codes("leak")))
    _deduplicate(funnel, features, read, config.deduplication, work)
    return funnel


def domain_filters(funnel: Funnel, features: Features, config: CurationConfig) -> None:
    """Drop what has no domain, and what is more than `cap_per_domain`.

    Args:
        funnel: after the cheap filters.
        features: of all rows, with their domains.
        config: the stage's.
    """
    domains, _ = features.codes("domain")
    codes, words = features.codes("domain_by")
    funnel.drop("domains", _by_word(np.where(domains < 0, codes, -1), words))
    if config.cap_per_domain is not None:
        over = _over_cap(funnel.left, domains, features.column("draw"), config.cap_per_domain)
        funnel.drop("cap", [Drops("over cap_per_domain", over)])


def difficulty_filter(funnel: Funnel, codes: npt.NDArray[np.uint8]) -> None:
    """Drop what is too easy (s1, step C) or too hard, and what is not known.

    Args:
        funnel: after the cheap filters.
        codes: of each row, as in `difficulty.rates`; shape (N,).
    """
    funnel.drop("difficulty", [Drops(reason, np.flatnonzero(codes == code)) for code, reason in REASONS.items()])


def _by_word(codes: npt.NDArray[np.int32], words: Sequence[str]) -> Iterator[Drops]:
    for code, word in enumerate(words):
        yield Drops(word, np.flatnonzero(codes == code))


def _deduplicate(funnel: Funnel, features: Features, read: Read, config: DeduplicationConfig, work: Location) -> None:
    left, drops = funnel.cause == 0, list[Drops]()

    def mark(reason: str, copies: Rows, kept: Rows) -> None:
        drops.append(Drops(reason, copies, kept))
        left[copies] = False

    def keyed(key: str) -> tuple[Rows, Hashes, Hashes]:
        rows = features.repeated(key, left)
        return rows, features.column(key, rows), features.column("answer_key", rows)

    found = equal_rows(*keyed("exact_key"))
    mark("same text", found.copies, found.kept)
    found = equal_rows_and_answers(*keyed("normal_key" if config.normalised else "exact_key"), read)
    mark("same text but for spelling", found.copies, found.kept)
    funnel.conflicts = found.conflicts
    # They would have one id: of what cannot be right both, one is asked, and both are listed.
    rows, texts, _ = keyed("exact_key")
    found = equal_rows(rows, texts)
    mark("same text, another answer", found.copies, found.kept)
    if config.jaccard is not None:
        near = _near_duplicates(left, features, read, config.jaccard)
        copies = np.array(sorted(near.kept), np.int64)
        mark("near duplicate", copies, np.array([near.kept[copy] for copy in copies.tolist()], np.int64))
        conflicts = np.array(near.conflicts, np.int64).reshape(-1, 2)
        funnel.conflicts = np.unique(np.concatenate([funnel.conflicts, conflicts]), axis=0)
    if config.cross_source_ngrams:
        shared = cross_source(features, np.flatnonzero(left), work / GRAMS)
        drops.append(Drops("shares 8 words in a row with an earlier source", shared))
    funnel.drop("deduplication", drops)


def _near_duplicates(left: Flags, features: Features, read: Read, jaccard: float) -> NearDuplicates:
    """Rows that are near-equal to an earlier one."""
    names = [band_name(band) for band in range(BANDS)]
    candidates = np.zeros(len(left), np.bool_)
    for name in names:
        candidates[features.repeated(name, left)] = True
    rows = np.flatnonzero(candidates)
    bands = np.stack([features.column(name, rows) for name in names], axis=1)
    answers, kept, conflicts, bounded = features.column("answer_key", rows), dict[int, int](), [], 0
    for places in _whole_groups(shared_bands(bands), READ_ROWS):
        some = rows[places]
        compare = functools.partial(near_duplicates, some, read(some, "question"), bands[places], jaccard)
        found = near_rows_and_answers(some, answers[places], read, compare)
        kept |= found.kept
        conflicts += found.conflicts
        bounded += found.bounded
    if bounded:
        log.warning("curate: %d rows were compared with some of the rows like them only", bounded)
    return NearDuplicates(kept, sorted(conflicts), bounded)


def _whole_groups(labels: Rows, count: int) -> Iterator[Rows]:
    """Places in pieces of about `count`, each with whole groups of equal labels; ascending in each piece."""
    order = np.argsort(labels, kind="stable")
    borders = np.append(np.flatnonzero(np.diff(labels[order])) + 1, len(order))
    begin = 0
    while begin < len(order):
        end = int(borders[min(int(np.searchsorted(borders, begin + count)), len(borders) - 1)])
        yield np.sort(order[begin:end])
        begin = end


def _over_cap(rows: Rows, domains: npt.NDArray[np.int32], draws: npt.NDArray[np.uint64], cap: int) -> Rows:
    """All but `cap` rows of each domain; which ones stay depends on seed and id alone."""
    order = np.lexsort((draws[rows], domains[rows]))
    grouped = domains[rows][order]
    first = np.concatenate(([True], grouped[1:] != grouped[:-1])) if len(rows) else np.array([], bool)
    starts = np.flatnonzero(first)
    rank = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    return np.sort(rows[order[rank >= cap]])
