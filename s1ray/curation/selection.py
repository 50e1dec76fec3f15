"""Choosing the final set: s1's pre-selection and Algorithm 1, and the paper's ablations.

s1 (section 2.2; steps D and E of `filter.ipynb`) takes rows of trusted sources first. Then it draws one question at a
time: first a domain, uniformly until 70 % of the set is filled, and after that by the weights that the benchmarks give
to domains (the paper's Algorithm 1, here `algorithm1`, omits this part); then a question of that domain, with
probability proportional to 2^-rank, where rank 0 is the longest. Pre-selected rows stay in the domains' pools: drawing
one adds nothing, but removes it from the pool.

s1 never seeds its generator. Here every draw comes from Python's Mersenne Twister under the configured seed, whose
floats are the same on every machine and version, and rows are ordered by length and id before any draw. So the same
rows in any order give the same set.

Rows are columns of numbers, some thirty bytes a row, so that millions fit on the driver.
"""

from __future__ import annotations

import logging
import math
import random
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from s1ray.config import ConfigError
from s1ray.curation.config import BestSources, SelectionConfig
from s1ray.curation.features import Features
from s1ray.curation.funnel import Flags, Rows

log = logging.getLogger("s1ray")

HOW = ("trusted", "uniform", "weighted", "random", "longest", "diverse", "all")
"""What can choose a row; `Chosen.how` holds positions in it."""
REACH = 64
"""Ranks that a geometric draw can have: below 2^-53 its random numbers have no more steps."""
_OF_S1 = {"trusted", "weights", "weight_sources", "uniform_share"}
"""Fields that only s1's methods look at."""

Rank = Callable[[random.Random, int], int]


@dataclass(frozen=True)
class Pool:
    """What selection knows about N rows that passed every filter; all arrays have the shape (N,)."""

    ids: npt.NDArray[np.uint64]
    """The question ids as numbers; unique."""
    lengths: npt.NDArray[np.int32]
    domains: npt.NDArray[np.int32]
    """Positions in `domain_names`."""
    domain_names: Sequence[str]
    trusted: npt.NDArray[np.uint64] | None = None
    """Bit i: the row fits `SelectionConfig.trusted[i]`. None: there are no rules."""
    weight_sources: Sequence[npt.NDArray[np.bool_]] = field(default=())
    """For each of `SelectionConfig.weight_sources`, the rows that come from it."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Chosen:
    """Rows that selection took, in the order in which it took them; both arrays have the shape (M,)."""

    rows: npt.NDArray[np.int64]
    """Positions in the pool."""
    how: npt.NDArray[np.uint8]
    """Positions in `HOW`."""


def select_rows(features: Features, considered: Flags, config: SelectionConfig, seed: int) -> Chosen:
    """Choose among some rows, as `select` does; says what of the config matches none of them.

    Args:
        features: of all rows.
        considered: the rows that can be chosen; they are the pool.
        config: method and size.
        seed: of all draws.

    Raises:
        ConfigError: there are fewer rows than asked for, or more trusted ones.
    """
    pool = pool_of(features, np.flatnonzero(considered), config)
    for line in unmatched(pool, config):
        log.warning("curate: %s", line)
    return select(pool, config, seed)


def pool_of(features: Features, rows: Rows, config: SelectionConfig) -> Pool:
    """What selection needs to know about some rows."""
    codes, names = features.codes("domain")
    domains = codes[rows]
    del codes
    bits = features.column("from_weight_source", rows) if config.weight_sources else np.empty(0, np.uint8)
    return Pool(
        ids=features.column("id", rows),
        lengths=features.column("length", rows),
        domains=domains,
        domain_names=names,
        trusted=features.column("trusted", rows) if config.trusted else None,
        weight_sources=[(bits >> place & 1).astype(bool) for place in range(len(config.weight_sources))],
    )


def best_sources(features: Features, rows: Rows, config: BestSources | None) -> Rows:
    """Those of some rows that come from the best sources; of equally good ones, from the first.

    Args:
        features: of all rows.
        rows: those that passed every filter.
        config: how many sources, and what makes one good. None: all.
    """
    if config is None:
        return rows
    every = features.column("source_index")
    sources, count = every[rows], int(every.max()) + 1
    left = np.bincount(sources, minlength=count)
    if config.by == "left":
        marks = left / np.maximum(np.bincount(every, minlength=count), 1)
    else:
        marks = np.bincount(sources, features.column("length", rows), count) / np.maximum(left, 1)
    best = np.lexsort((np.arange(count), -marks))[: config.count]
    told = ", ".join(f"{source} ({marks[source]:.2f}, {left[source]:,} rows)" for source in best.tolist())
    log.info("curate: the best sources by %s, of %d: %s", config.by, count, told)
    return rows[np.isin(sources, best)]


def select(pool: Pool, config: SelectionConfig, seed: int) -> Chosen:
    """Choose rows.

    Args:
        pool: rows that passed every filter, in any order.
        config: method and size.
        seed: of all draws.

    Raises:
        ConfigError: there are fewer rows than asked for, or more trusted ones.
    """
    if config.method == "all" and len(pool):
        return _all_by("all", by_length(pool))
    if len(pool) < config.size or not len(pool):
        raise ConfigError(
            f"selection.size asks for {config.size} questions, but {len(pool)} are left after the filters; "
            "ask for fewer, loosen a filter (the funnel shows where rows went), or set selection.method=all"
        )
    rng = random.Random(seed)
    match config.method:
        case "random":
            return _all_by("random", by_length(pool)[rng.sample(range(len(pool)), config.size)])
        case "longest":
            return _all_by("longest", by_length(pool)[: config.size])
        case "diverse":
            drawn = _draw(pool, by_length(pool), config.size, config.size, {}, [], rng, uniform_rank)
            return _all_by("diverse", drawn.rows)
        case _:
            trusted = [] if pool.trusted is None else by_length(pool, np.flatnonzero(pool.trusted)).tolist()
            if len(trusted) > config.size:
                raise ConfigError(
                    f"selection.trusted takes {len(trusted)} questions, more than selection.size ({config.size}); "
                    "narrow the rules, for example with a higher min_length"
                )
            weights = config.weights or benchmark_weights(pool)
            uniform = config.size if config.method == "algorithm1" else round(config.uniform_share * config.size)
            # A draw adds a row or repeats a trusted one, so that no domain gives more rows than both together.
            ordered = by_length(pool, _longest_of_domains(pool, config.size + len(trusted) + REACH))
            return _draw(pool, ordered, config.size, uniform, weights, trusted, rng, geometric_rank)


def without_effect(config: SelectionConfig) -> list[str]:
    """What a config sets and its method does not look at, in a line; none where it looks at everything."""
    unused = {"s1": set[str](), "algorithm1": {"uniform_share"}, "all": {*_OF_S1, "size"}}.get(config.method, _OF_S1)
    if not (idle := sorted(config.model_fields_set & unused)):
        return []
    return [f"warning: selection: method {config.method} does not look at {', '.join(idle)}"]


def unmatched(pool: Pool, config: SelectionConfig) -> list[str]:
    """Parts of the config that match no row, one line each: trusted rules, weight sources, weighted domains."""
    if config.method not in ("s1", "algorithm1"):
        return []
    fitting = 0 if pool.trusted is None else int(np.bitwise_or.reduce(pool.trusted, initial=0))
    there = {pool.domain_names[domain] for domain in np.unique(pool.domains).tolist()}
    found = [
        f"selection.trusted.{index}: matches no row that is left ({rule.model_dump(exclude_defaults=True)})"
        for index, rule in enumerate(config.trusted)
        if not fitting >> index & 1
    ]
    found += [
        f"selection.weight_sources: {source!r} is in the name of no source that is left"
        for source, rows in zip(config.weight_sources, pool.weight_sources, strict=False)
        if not config.weights and not rows.any()
    ]
    return found + [
        f"selection.weights: no row that is left has the domain {domain!r}"
        for domain in config.weights
        if domain not in there
    ]


def by_length(pool: Pool, rows: Rows | None = None) -> Rows:
    """Positions of all rows or of some, the longest first and equally long ones by id."""
    ids, lengths = (pool.ids, pool.lengths) if rows is None else (pool.ids[rows], pool.lengths[rows])
    order: Rows = np.lexsort((ids, -lengths))
    return order if rows is None else rows[order]


def _longest_of_domains(pool: Pool, count: int) -> Rows:
    """The `count` longest rows of each domain, and those that are as long as the last of them."""
    low = int(pool.lengths.min())
    counts = np.bincount(pool.domains, minlength=len(pool.domain_names))
    keys = pool.domains.astype(np.uint64)
    keys <<= np.uint64(32)
    keys += (pool.lengths - low).view(np.uint32)
    keys.sort()
    last = np.cumsum(counts) - np.minimum(counts, count)
    least = (keys[last.clip(max=len(keys) - 1)] & np.uint64(0xFFFFFFFF)).astype(np.int64) + low
    del keys
    return np.flatnonzero(pool.lengths >= least.astype(np.int32)[pool.domains])


def geometric_rank(rng: random.Random, n: int) -> int:
    """A rank below `n`, drawn with probability proportional to 2^-rank (lengths 30, 20, 10: 4/7, 2/7, 1/7)."""
    # The inverse of the distribution function 1 - 2^-(rank+1), cut at n.
    share = 1.0 - 2.0**-n
    return min(int(-math.log2(1.0 - rng.random() * share)), n - 1)


def uniform_rank(rng: random.Random, n: int) -> int:
    """A rank below `n`, all equally likely."""
    return int(rng.random() * n)


def benchmark_weights(pool: Pool) -> dict[str, float]:
    """Weights of domains by how often rows of benchmark-like sources have them.

    s1's formula: with counts a of the first source (AIME) and g of the second (GPQA), the weight of a domain is a +
    int(g * ratio), where ratio makes the second count half as much as the first in all.

    Args:
        pool: with one or two `weight_sources`; none gives no weights.
    """
    if not pool.weight_sources:
        return {}
    kinds = len(pool.domain_names)
    counts = [np.bincount(pool.domains[rows], minlength=kinds).tolist() for rows in pool.weight_sources]
    first, second = counts[0], counts[1] if len(counts) > 1 else [0] * kinds
    ratio = 0.5 * sum(first) / sum(second) if sum(second) else 0.0
    weights = {domain: float(a + int(g * ratio)) for domain, a, g in zip(pool.domain_names, first, second, strict=True)}
    return {domain: weight for domain, weight in sorted(weights.items()) if weight > 0}


class _DomainRows:
    """The rows of one domain that have not been drawn, the longest first."""

    def __init__(self, rows: Rows, left: int) -> None:
        """Take the first rows of `left`, at least as many as draws reach."""
        self.left = left
        self._rows = array("q", rows.tobytes())

    def pop(self, rank: int) -> int:
        self.left -= 1
        return self._rows.pop(rank)


def _draw(
    pool: Pool,
    ordered: Rows,
    size: int,
    uniform: int,
    weights: Mapping[str, float],
    preselected: Sequence[int],
    rng: random.Random,
    rank: Rank,
) -> Chosen:
    """Fill a set to `size`: domains uniformly below `uniform` rows (or when no weighted domain is left), then by
    weight.

    Args:
        pool: the rows.
        ordered: those rows that a draw can reach, the longest first.
        size: of the set.
        uniform: rows that are drawn from all domains equally.
        weights: of domains, for the rest.
        preselected: rows that are in the set already.
        rng: of all draws.
        rank: draws a rank in a domain.
    """
    rows_of = _by_domain(pool, ordered)
    domains = sorted(rows_of)
    weighted = {domain: weight for domain, weight in sorted(weights.items()) if domain in rows_of}
    chosen = dict.fromkeys(preselected, HOW.index("trusted"))
    while len(chosen) < size:
        if len(chosen) < uniform or not weighted:
            how, domain = "uniform", domains[uniform_rank(rng, len(domains))]
        else:
            how, domain = "weighted", rng.choices(list(weighted), list(weighted.values()))[0]
        rows = rows_of[domain]
        chosen.setdefault(rows.pop(rank(rng, rows.left)), HOW.index(how))
        if not rows.left:
            domains.remove(domain)
            weighted.pop(domain, None)
    return Chosen(np.fromiter(chosen, np.int64), np.fromiter(chosen.values(), np.uint8))


def _by_domain(pool: Pool, ordered: Rows) -> dict[str, _DomainRows]:
    domains, kinds = pool.domains[ordered], len(pool.domain_names)
    grouped = ordered[np.argsort(domains, kind="stable")]
    ends, counts = np.cumsum(np.bincount(domains, minlength=kinds)), np.bincount(pool.domains, minlength=kinds)
    pieces = np.split(grouped, ends[:-1])
    return {
        pool.domain_names[domain]: _DomainRows(pieces[domain], int(counts[domain]))
        for domain in np.flatnonzero(counts).tolist()
    }


def _all_by(how: str, rows: npt.NDArray[np.int64]) -> Chosen:
    return Chosen(rows, np.full(len(rows), HOW.index(how), np.uint8))
