"""What a pool is made of, and what the questions that were chosen from it: by domain, source and length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s1ray.curation.report.scanning import batches, value_counts

SHOWN = 20
"""Groups that a table has; the others are summed."""
NOTHING = "(none)"


@dataclass(frozen=True)
class Share:
    """A group of rows: how many there are in the pool, and among the questions."""

    label: str
    pool: int
    chosen: int


@dataclass(frozen=True)
class Composition:
    """A table of groups."""

    by: str
    shares: list[Share]
    pool: int
    chosen: int

    @property
    def largest(self) -> float:
        """The largest share of any group, in the pool or among the questions."""
        shares = [count / total for s in self.shares for count, total in self.pairs(s) if total]
        return max(shares, default=0) or 1.0

    def pairs(self, share: Share) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows of a group and rows in all: in the pool, and among the questions."""
        return (share.pool, self.pool), (share.chosen, self.chosen)


def compositions(chosen: Sequence[Path], dropped: Sequence[Path], unit: str) -> list[Composition]:
    """By domain, source and length.

    Args:
        chosen: files of the questions.
        dropped: files of all other rows.
        unit: of lengths ("words", "tokens").
    """
    result, rest = _counts(chosen), _counts(dropped)
    pools = [one + other for one, other in zip(result, rest, strict=True)]
    domains, sources, lengths = ((pool, own) for pool, own in zip(pools, result, strict=True))
    return [
        _largest("domain", *domains),
        _largest("source", *sources),
        _composition(f"length of the working ({unit})", *lengths, order=sorted(pools[2], key=_bin_key), name=_bin_name),
    ]


def _counts(files: Sequence[Path]) -> tuple[Counter[Any], Counter[Any], Counter[Any]]:
    """Rows by domain, by source, and by length (bin b: at least 2^(b-1), and below 2^b)."""
    import numpy as np

    domains, sources, bins = Counter[Any](), Counter[Any](), Counter[Any]()
    for _, _, batch in batches(files, ["domain", "source", "length"]):
        domains.update(dict(value_counts(batch.column("domain"))))
        sources.update(dict(value_counts(batch.column("source"))))
        length = batch.column("length")
        known = length.drop_null().to_numpy()
        counts = np.bincount(np.frexp(np.maximum(known, 0).astype(np.float64))[1])
        bins.update({bin_: count for bin_, count in enumerate(counts.tolist()) if count})
        if length.null_count:
            bins[None] += length.null_count
    return domains, sources, bins


def _largest(by: str, pool: Counter[Any], chosen: Counter[Any]) -> Composition:
    return _composition(by, pool, chosen, sorted(pool, key=lambda name: (-chosen[name], -pool[name], str(name))))


def _composition(
    by: str, pool: Counter[Any], chosen: Counter[Any], order: Sequence[Any], name: Any = lambda value: value or NOTHING
) -> Composition:
    shown = order if len(order) <= SHOWN + 1 else order[:SHOWN]
    shares = [Share(name(key), pool[key], chosen[key]) for key in shown]
    if others := order[len(shown) :]:
        sums = (sum(counts[key] for key in others) for counts in (pool, chosen))
        shares.append(Share(f"{len(others):,} others", *sums))
    return Composition(by, shares, pool.total(), chosen.total())


def _bin_key(bin_: int | None) -> int:
    return -1 if bin_ is None else bin_


def _bin_name(bin_: int | None) -> str:
    if bin_ is None:
        return NOTHING
    if bin_ < 2:
        return str(bin_)
    return f"{2 ** (bin_ - 1):,} to {2**bin_ - 1:,}"
