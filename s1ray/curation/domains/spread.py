"""How many domains there are, and how rows and sources spread over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from s1ray.curation.features import Features
from s1ray.curation.funnel import Rows

SMALL = 10
"""A domain with fewer rows is a small one."""
BLOCK = 1 << 18
"""Rows that are counted at once."""
SHOWN = 5
"""Domains that a line names."""


@dataclass(frozen=True)
class Spread:
    """Of some rows; D domains, S sources."""

    names: Sequence[str]
    """The D domains, the largest first."""
    counts: npt.NDArray[np.int64]
    """Rows of each source in each domain; shape (S, D)."""
    by: dict[str, int]
    """Rows by what gave them their domain, or why they have none."""

    @classmethod
    def of(cls, features: Features, rows: Rows) -> Spread:
        """Count rows."""
        codes, names = features.codes("domain")
        codes, sources = codes[rows], features.column("source_index", rows)
        counts = np.zeros((int(sources.max(initial=-1)) + 1, len(names)), np.int64)
        for start in range(0, len(rows), BLOCK):
            some = slice(start, start + BLOCK)
            have = codes[some] >= 0
            np.add.at(counts, (sources[some][have], codes[some][have]), 1)
        del codes, sources
        order = np.argsort(-counts.sum(0), kind="stable")[: int((counts.sum(0) > 0).sum())]
        by_codes, words = features.codes("domain_by")
        by = np.bincount(by_codes[rows], minlength=len(words)).tolist()
        return cls(
            [names[place] for place in order], counts[:, order], {w: n for w, n in zip(words, by, strict=True) if n}
        )

    def line(self) -> str:
        """What to say of them."""
        sizes = self.counts.sum(0)
        if not len(sizes):
            return "no row has a domain"
        largest = ", ".join(
            f"{name:.60} {size:,}" for name, size in zip(self.names[:SHOWN], sizes.tolist(), strict=False)
        )
        line = f"{len(sizes):,} domain(s) of {sizes.sum():,} rows; the largest: {largest}"
        small = int((sizes < SMALL).sum())
        return f"{line}; {small:,} have fewer than {SMALL} rows" if small else line

    def warning(self, sources: Sequence[str]) -> str | None:
        """What to say where most domains are those of one source among several, which selection then favours.

        Args:
            sources: their names.
        """
        there = self.counts > 0
        alone = there & (there.sum(0) == 1)
        if not len(self.names) or there.any(1).sum() < 2 or 2 * (most := int(alone.sum(1).max())) <= len(self.names):
            return None
        source = int(alone.sum(1).argmax())
        share = self.counts[source].sum() / self.counts.sum()
        if share >= most / len(self.names):
            return None
        return (
            f"{most:,} of {len(self.names):,} domains are names that {sources[source]} alone uses, which has "
            f"{share:.0%} of the rows; a draw that treats domains alike favours it: map its names with domains.mapping "
            "or domains.prefixes, best onto one domains.taxonomy"
        )
