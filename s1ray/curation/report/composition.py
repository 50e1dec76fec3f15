"""What a pool is made of, and what the questions that were chosen from it: by domain, source and length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s1ray.curation.names import NameCounts
from s1ray.curation.report.scanning import batches, value_counts
from s1ray.storage import Location

if TYPE_CHECKING:
    import pyarrow as pa

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


def compositions(chosen: Sequence[Location], dropped: Sequence[Location], unit: str) -> list[Composition]:
    """By domain, source and length.

    Args:
        chosen: files of the questions.
        dropped: files of all other rows.
        unit: of lengths ("words", "tokens").
    """
    own, rest = _Counts(chosen), _Counts(dropped)
    bins = own.bins + rest.bins
    lengths = _composition(f"length of the working ({unit})", bins, own.bins, sorted(bins, key=_bin_key), _bin_name)
    return [
        _by_name("domain", own.domains, rest.domains),
        _by_name("source", own.sources, rest.sources),
        lengths,
    ]


class _Counts:
    """Rows of some files by domain, by source, and by length (bin b: at least 2^(b-1), and below 2^b)."""

    def __init__(self, files: Sequence[Location]) -> None:
        self.domains, self.sources, self.bins = NameCounts(), NameCounts(), Counter[int | None]()
        for _, _, batch in batches(files, ["domain", "source", "length"]):
            self.domains.add(value_counts(batch.column("domain")))
            self.sources.add(value_counts(batch.column("source")))
            self._add_lengths(batch.column("length"))

    def _add_lengths(self, length: pa.Array) -> None:
        import numpy as np

        known = length.drop_null().to_numpy()
        counts = np.bincount(np.frexp(np.maximum(known, 0).astype(np.float64))[1])
        self.bins.update({bin_: count for bin_, count in enumerate(counts.tolist()) if count})
        if length.null_count:
            self.bins[None] += length.null_count


def _by_name(by: str, own: NameCounts, rest: NameCounts) -> Composition:
    level = max(own.level, rest.level)
    chosen = own.at(level)
    pool = chosen + rest.at(level)
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
        return str(bin_) if bin_ else "0 (no working)"
    return f"{2 ** (bin_ - 1):,} to {2**bin_ - 1:,}"
