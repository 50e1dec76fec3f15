"""The filters in order, on the features of all rows: quality, duplicates, leaks, domains, the cap, difficulty.

Quality comes before duplicates, so that a broken copy never replaces a sound one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from s1ray.curation.config import CurationConfig, DeduplicationConfig
from s1ray.curation.deduplication import cross_source, equal_rows
from s1ray.curation.funnel import Funnel
from s1ray.curation.near_duplicates import near_duplicates

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("s1ray")


def cheap_filters(features: pa.Table, config: CurationConfig, seed: int) -> Funnel:
    """Every filter before difficulty.

    Args:
        features: `Features`, sorted by order, where row i has order i.
        config: the stage's config.
        seed: of the cap's draws.
    """
    columns = {
        name: features.column(name).to_pylist() for name in ("id", "quality", "leak", "leak_label", "domain", "source")
    }
    funnel = Funnel(range(len(features)))
    funnel.drop("quality", {i: (why, "") for i, why in enumerate(columns["quality"]) if why})
    _deduplicate(funnel, features, config.deduplication, columns["id"])
    leaks = zip(columns["leak"], columns["leak_label"], strict=True)
    funnel.drop("decontamination", {i: (why, label) for i, (why, label) in enumerate(leaks) if why})
    funnel.drop("domains", {i: ("no domain", "") for i, domain in enumerate(columns["domain"]) if domain is None})
    if config.cap_per_domain is not None:
        funnel.drop("cap", _over_cap(funnel.alive, columns["id"], columns["domain"], config.cap_per_domain, seed))
    return funnel


def difficulty_filter(funnel: Funnel, solved_by: Mapping[int, Sequence[str] | None]) -> None:
    """Drop what a difficulty model answered correctly (s1, step C), and what has no label.

    Args:
        funnel: after the cheap filters.
        solved_by: row -> models that answered correctly; None where difficulty was not measured.
    """
    drops = {}
    for row in funnel.alive:
        models = solved_by[row]
        if models is None:
            drops[row] = ("difficulty not measured", "")
        elif models:
            drops[row] = ("too easy", ", ".join(models))
    funnel.drop("difficulty", drops)


def _deduplicate(funnel: Funnel, features: pa.Table, config: DeduplicationConfig, ids: Sequence[str]) -> None:
    import pyarrow as pa

    def alive() -> tuple[npt.NDArray[np.int64], pa.Table]:
        rows = np.array(funnel.alive, dtype=np.int64)
        return rows, features.take(pa.array(rows))

    drops: dict[int, tuple[str, str]] = {}

    def mark(reason: str, copies: Mapping[int, int]) -> None:
        for row, kept in copies.items():
            drops.setdefault(row, (reason, f"kept {ids[kept]}"))

    rows, table = alive()
    answers = table.column("answer_key").to_numpy().view(np.uint64)
    found = [("same text", equal_rows(rows, table.column("exact_key").to_numpy(), answers))]
    if config.normalised:
        found.append(("same text but for spelling", equal_rows(rows, table.column("normal_key").to_numpy(), answers)))
    for reason, equal in found:
        mark(reason, equal.kept)
    for one, other in found[-1][1].conflicts:
        log.warning("curate: %s and %s look equal and have different answers; both stay", ids[one], ids[other])
    left = np.array([row not in drops for row in rows.tolist()], dtype=bool)
    rows, table = rows[left], table.filter(pa.array(left))
    if config.jaccard is not None and len(rows):
        band_rows = np.array(table.column("bands").to_pylist(), dtype=np.int64)
        questions = table.column("question").to_pylist()
        mark("near duplicate", near_duplicates(rows, questions, band_rows, config.jaccard).kept)
    if config.cross_source_ngrams:
        grams = [np.array(row, dtype=np.int64) for row in table.column("grams").to_pylist()]
        shared = cross_source(rows, table.column("source_index").to_pylist(), grams)
        for row in sorted(shared):
            drops.setdefault(row, ("shares 8 words in a row with an earlier source", ""))
    funnel.drop("deduplication", drops)


def _over_cap(
    rows: Sequence[int], ids: Sequence[str], domains: Sequence[str], cap: int, seed: int
) -> dict[int, tuple[str, str]]:
    """All but `cap` rows of each domain; which ones stay depends on seed and id alone."""
    by_domain: dict[str, list[tuple[bytes, int]]] = {}
    for row in rows:
        draw = hashlib.sha256(f"{seed}:{ids[row]}".encode()).digest()
        by_domain.setdefault(domains[row], []).append((draw, row))
    return {row: ("over cap_per_domain", "") for drawn in by_domain.values() for _, row in sorted(drawn)[cap:]}
