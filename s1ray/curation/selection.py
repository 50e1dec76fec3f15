"""Choosing the final set: s1's pre-selection and Algorithm 1, and the paper's ablations.

s1 (section 2.2; steps D and E of `filter.ipynb`) takes rows of trusted sources first. Then it draws one question at a
time: first a domain, uniformly until 70 % of the set is filled, and after that by the weights that the benchmarks give
to domains (the paper's Algorithm 1 omits this part); then a question of that domain, with probability proportional to
2^-rank, where rank 0 is the longest. Pre-selected rows stay in the domains' pools: drawing one adds nothing, but
removes it from the pool.

s1 never seeds its generator. Here every draw comes from Python's Mersenne Twister under the configured seed, whose
floats are the same on every machine and version, and rows are ordered by length and id before any draw. So the same
rows in any order give the same set.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from s1ray.config import ConfigError
from s1ray.curation.config import SelectionConfig, TrustedRule


@dataclass(frozen=True)
class Candidate:
    """What selection knows about a question."""

    id: str
    domain: str
    length: int
    source: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict, hash=False)


def select(candidates: Sequence[Candidate], config: SelectionConfig, seed: int) -> dict[str, str]:
    """Choose rows.

    Args:
        candidates: rows that passed every filter, with unique ids, in any order.
        config: method and size.
        seed: of all draws.

    Returns:
        Id of each chosen row -> what chose it ("trusted", "uniform", "weighted", "random", "longest", "diverse",
        "all").

    Raises:
        ConfigError: there are fewer rows than asked for.
    """
    if config.method == "all" and candidates:
        return {row.id: "all" for row in sorted(candidates, key=_by_length)}
    if len(candidates) < config.size or not candidates:
        raise ConfigError(
            f"selection.size asks for {config.size} questions, but {len(candidates)} are left after the filters; "
            "ask for fewer, loosen a filter (the funnel shows where rows went), or set selection.method=all"
        )
    rng = random.Random(seed)
    ordered = sorted(candidates, key=_by_length)
    match config.method:
        case "random":
            return dict.fromkeys((row.id for row in rng.sample(ordered, config.size)), "random")
        case "longest":
            return dict.fromkeys((row.id for row in ordered[: config.size]), "longest")
        case "diverse":
            return dict.fromkeys(_draw(ordered, config.size, config.size, {}, {}, rng, uniform_rank), "diverse")
        case _:
            trusted = {row.id: "trusted" for row in ordered if any(_trusted(row, rule) for rule in config.trusted)}
            if len(trusted) > config.size:
                raise ConfigError(
                    f"selection.trusted takes {len(trusted)} questions, more than selection.size ({config.size}); "
                    "narrow the rules, for example with a higher min_length"
                )
            weights = config.weights or benchmark_weights(ordered, config.weight_sources)
            uniform = round(config.uniform_share * config.size)
            return _draw(ordered, config.size, uniform, weights, trusted, rng, geometric_rank)


def unmatched(candidates: Sequence[Candidate], config: SelectionConfig) -> list[str]:
    """Parts of the config that match no row, one line each: trusted rules, weight sources, weighted domains."""
    if config.method != "s1":
        return []
    domains = {row.domain for row in candidates}
    found = [
        f"selection.trusted.{index}: matches no row that is left ({rule.model_dump(exclude_defaults=True)})"
        for index, rule in enumerate(config.trusted)
        if not any(_trusted(row, rule) for row in candidates)
    ]
    found += [
        f"selection.weight_sources: {source!r} is in the name of no source that is left"
        for source in ([] if config.weights else config.weight_sources)
        if not any(source in row.source for row in candidates)
    ]
    return found + [
        f"selection.weights: no row that is left has the domain {domain!r}"
        for domain in config.weights
        if domain not in domains
    ]


def geometric_rank(rng: random.Random, n: int) -> int:
    """A rank below `n`, drawn with probability proportional to 2^-rank (lengths 30, 20, 10: 4/7, 2/7, 1/7)."""
    # The inverse of the distribution function 1 - 2^-(rank+1), cut at n.
    share = 1.0 - 2.0**-n
    return min(int(-math.log2(1.0 - rng.random() * share)), n - 1)


def uniform_rank(rng: random.Random, n: int) -> int:
    """A rank below `n`, all equally likely."""
    return int(rng.random() * n)


def benchmark_weights(candidates: Sequence[Candidate], sources: Sequence[str]) -> dict[str, float]:
    """Weights of domains by how often rows of benchmark-like sources have them.

    s1's formula: with counts a of the first source (AIME) and g of the second (GPQA), the weight of a domain is a +
    int(g * ratio), where ratio makes the second count half as much as the first in all.

    Args:
        candidates: rows that passed the filters.
        sources: one or two parts of source names; empty gives no weights.
    """
    if not sources:
        return {}
    first = Counter(row.domain for row in candidates if sources[0] in row.source)
    second = Counter(row.domain for row in candidates if len(sources) > 1 and sources[1] in row.source)
    ratio = 0.5 * sum(first.values()) / sum(second.values()) if second else 0.0
    weights = {domain: float(first[domain] + int(second[domain] * ratio)) for domain in first.keys() | second.keys()}
    return {domain: weight for domain, weight in sorted(weights.items()) if weight > 0}


def _draw(
    ordered: Sequence[Candidate],
    size: int,
    uniform: int,
    weights: Mapping[str, float],
    preselected: Mapping[str, str],
    rng: random.Random,
    rank: Callable[[random.Random, int], int],
) -> dict[str, str]:
    """Fill a set to `size`: domains uniformly below `uniform` rows (or when no weighted domain is left), then by
    weight.
    """
    pools: dict[str, list[str]] = {}
    for row in ordered:
        pools.setdefault(row.domain, []).append(row.id)
    domains = sorted(pools)
    weighted = {domain: weight for domain, weight in sorted(weights.items()) if domain in pools}
    chosen = dict(preselected)
    while len(chosen) < size:
        if len(chosen) < uniform or not weighted:
            how, domain = "uniform", domains[uniform_rank(rng, len(domains))]
        else:
            how, domain = "weighted", rng.choices(list(weighted), list(weighted.values()))[0]
        pool = pools[domain]
        picked = pool.pop(rank(rng, len(pool)))
        chosen.setdefault(picked, how)
        if not pool:
            domains.remove(domain)
            weighted.pop(domain, None)
    return chosen


def _by_length(row: Candidate) -> tuple[int, str]:
    return -row.length, row.id


def _trusted(row: Candidate, rule: TrustedRule) -> bool:
    return (
        rule.source in row.source
        and (rule.min_length is None or row.length > rule.min_length)
        and all(row.metadata.get(key) == value for key, value in rule.metadata.items())
    )
