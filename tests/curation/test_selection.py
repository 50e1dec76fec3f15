import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.config import ConfigError
from s1ray.curation import selection
from s1ray.curation.config import BestSources, SelectionConfig, TrustedRule
from s1ray.curation.features import Features
from s1ray.curation.selection import HOW, Pool, geometric_rank

Method = Literal["s1", "algorithm1", "random", "longest", "diverse"]
METHODS: tuple[Method, ...] = get_args(Method)
DOMAINS = ("geometry", "algebra", "counting", "logic")


@dataclass(frozen=True)
class Candidate:
    """A row, as a reader of these tests sees it."""

    id: str
    domain: str
    length: int
    source: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict, hash=False)


def pool_of(rows: Sequence[Candidate], config: SelectionConfig) -> Pool:
    """The rows as selection gets them; ids become numbers in the order of the ids."""
    place = {name: number for number, name in enumerate(sorted(row.id for row in rows))}
    names = sorted({row.domain for row in rows})

    def bits(row: Candidate) -> int:
        return sum(
            (
                rule.source in row.source
                and (rule.min_length is None or row.length > rule.min_length)
                and rule.metadata.items() <= row.metadata.items()
            )
            << number
            for number, rule in enumerate(config.trusted)
        )

    return Pool(
        ids=np.array([place[row.id] for row in rows], np.uint64),
        lengths=np.array([row.length for row in rows], np.int32),
        domains=np.array([names.index(row.domain) for row in rows], np.int32),
        domain_names=names,
        trusted=np.array([bits(row) for row in rows], np.uint64),
        weight_sources=[np.array([name in row.source for row in rows], bool) for name in config.weight_sources],
    )


def select(rows: Sequence[Candidate], config: SelectionConfig, seed: int) -> dict[str, str]:
    chosen = selection.select(pool_of(rows, config), config, seed)
    return {rows[row].id: HOW[how] for row, how in zip(chosen.rows.tolist(), chosen.how.tolist(), strict=True)}


def unmatched(rows: Sequence[Candidate], config: SelectionConfig) -> list[str]:
    return selection.unmatched(pool_of(rows, config), config)


def benchmark_weights(rows: Sequence[Candidate], sources: list[str]) -> dict[str, float]:
    return selection.benchmark_weights(pool_of(rows, SelectionConfig(weight_sources=sources)))


@st.composite
def pools(draw: st.DrawFn) -> list[Candidate]:
    rows = draw(st.lists(st.tuples(st.sampled_from(DOMAINS), st.integers(0, 50)), min_size=1, max_size=60))
    return [Candidate(id=f"q{i:03d}", domain=domain, length=length) for i, (domain, length) in enumerate(rows)]


@given(pools(), st.data(), st.sampled_from(METHODS), st.integers(0, 2**31))
def test_exact_size_no_repeats_and_the_same_whatever_the_order_of_rows(
    pool: list[Candidate], data: st.DataObject, method: Method, seed: int
) -> None:
    size = data.draw(st.integers(1, len(pool)))
    weights = {} if method == "algorithm1" else {"geometry": 2.0, "nowhere": 1.0}
    config = SelectionConfig(method=method, size=size, weights=weights)
    chosen = select(pool, config, seed)
    assert len(chosen) == size
    assert set(chosen) <= {row.id for row in pool}
    shuffled = list(pool)
    random.Random(seed).shuffle(shuffled)
    assert list(select(shuffled, config, seed).items()) == list(chosen.items())


@given(pools(), st.integers(0, 1000))
def test_a_pool_as_large_as_the_set_is_taken_whole(pool: list[Candidate], seed: int) -> None:
    methods: tuple[Method, ...] = ("s1", "diverse")
    for method in methods:
        chosen = select(pool, SelectionConfig(method=method, size=len(pool), weights={"logic": 1.0}), seed)
        assert set(chosen) == {row.id for row in pool}


@given(pools(), st.data(), st.integers(0, 1000))
def test_trusted_rows_are_always_in_and_never_twice(pool: list[Candidate], data: st.DataObject, seed: int) -> None:
    trusted = {row.id for row in pool if row.domain == "logic"}
    marked = [Candidate(row.id, row.domain, row.length, "AIME" if row.id in trusted else "MATH") for row in pool]
    size = data.draw(st.integers(max(1, len(trusted)), len(pool)))
    chosen = select(marked, SelectionConfig(size=size, trusted=[TrustedRule(source="AIME")]), seed)
    assert len(chosen) == size
    assert {row for row, how in chosen.items() if how == "trusted"} == trusted


def test_another_seed_gives_another_set() -> None:
    pool = [Candidate(f"q{i}", DOMAINS[i % 4], i) for i in range(400)]
    config = SelectionConfig(size=40)
    assert select(pool, config, 0) == select(pool, config, 0)
    assert set(select(pool, config, 0)) != set(select(pool, config, 1))


def test_an_exhausted_domain_leaves_the_draw() -> None:
    pool = [Candidate(f"small{i}", "small", i) for i in range(3)] + [Candidate(f"big{i}", "big", i) for i in range(97)]
    chosen = select(pool, SelectionConfig(size=50, uniform_share=1.0), 3)
    assert sum(name.startswith("small") for name in chosen) == 3


def test_ranks_follow_two_to_the_minus_rank() -> None:
    rng, n, draws = random.Random(0), 3, 70_000
    counts = Counter(geometric_rank(rng, n) for _ in range(draws))
    # Lengths 10, 30, 20 have ranks 2, 0, 1, hence p proportional to 1/4, 1, 1/2.
    for rank, expected in ((0, 4 / 7), (1, 2 / 7), (2, 1 / 7)):
        assert abs(counts[rank] / draws - expected) < 4 * math.sqrt(expected * (1 - expected) / draws)


@given(st.integers(1, 5000), st.integers(0, 2**32))
def test_ranks_stay_below_n(n: int, seed: int) -> None:
    rng = random.Random(seed)
    assert all(0 <= geometric_rank(rng, n) < n for _ in range(20))


def test_the_first_part_is_uniform_over_domains_and_the_second_follows_the_weights() -> None:
    pool = [Candidate(f"{domain}{i}", domain, i) for domain in DOMAINS for i in range(5000)]
    config = SelectionConfig(size=4000, uniform_share=0.5, weights={"geometry": 3.0, "algebra": 1.0})
    chosen = select(pool, config, 0)
    part: dict[str, Counter[str]] = {how: Counter() for how in ("uniform", "weighted")}
    for name, how in chosen.items():
        part[how][name.rstrip("0123456789")] += 1
    assert all(abs(part["uniform"][domain] - 500) < 90 for domain in DOMAINS)
    assert set(part["weighted"]) == {"geometry", "algebra"}
    assert abs(part["weighted"]["geometry"] - 1500) < 90


def test_benchmark_weights_are_those_of_s1() -> None:
    rows = [Candidate(f"a{i}", domain, 1, "qq8933/AIME_1983_2024") for i, domain in enumerate(["nt"] * 6 + ["geo"] * 2)]
    rows += [Candidate(f"g{i}", domain, 1, "Idavidrein/gpqa") for i, domain in enumerate(["phys"] * 5 + ["geo"] * 3)]
    # ratio = 0.5 * 8 / 8; geo: 2 + int(3 * 0.5), phys: int(5 * 0.5)
    assert benchmark_weights(rows, ["AIME", "gpqa"]) == {"nt": 6.0, "geo": 3.0, "phys": 2.0}
    assert benchmark_weights(rows, ["AIME"]) == {"nt": 6.0, "geo": 2.0}
    assert benchmark_weights(rows, []) == {}


def test_trusted_rules_look_at_length_and_metadata() -> None:
    rows = [
        Candidate("short", "d", 5600, "openaimath/Algebra", {"right": True}),
        Candidate("wrong", "d", 9000, "openaimath/Algebra", {"right": False}),
        Candidate("taken", "d", 5601, "openaimath/Algebra", {"right": True}),
    ]
    rule = TrustedRule(source="openaimath", min_length=5600, metadata={"right": True})
    chosen = select(rows, SelectionConfig(size=1, trusted=[rule]), 0)
    assert chosen == {"taken": "trusted"}


def test_too_few_rows_say_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"asks for 5 questions, but 1 are left.*selection.method=all"):
        select([Candidate("q", "d", 1)], SelectionConfig(size=5), 0)


def test_too_many_trusted_rows_say_what_to_do() -> None:
    rows = [Candidate(f"q{i}", "d", 1, "AIME") for i in range(3)]
    with pytest.raises(ConfigError, match="takes 3 questions, more than"):
        select(rows, SelectionConfig(size=2, trusted=[TrustedRule(source="AIME")]), 0)


def test_what_matches_no_row_is_reported() -> None:
    rows = [Candidate(id="a", domain="algebra", length=3, source="AIME", metadata={})]
    trusted = [TrustedRule(source="AIME"), TrustedRule(source="MATH", min_length=5600)]
    found = unmatched(rows, SelectionConfig(trusted=trusted, weight_sources=["GPQA", "AIME"]))
    assert len(found) == 2
    assert "trusted.1: matches no row" in found[0]
    assert "'GPQA'" in found[1]
    assert unmatched(rows, SelectionConfig(weights={"algebra": 1, "geometry": 1})) == [
        "selection.weights: no row that is left has the domain 'geometry'"
    ]


@pytest.mark.parametrize("lengths", [1, 30, 2000])
def test_rows_that_no_draw_reaches_change_nothing(lengths: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(lengths)
    sources = rng.choices(["AIME", "MATH"], [1, 99], k=1000)
    pool = [Candidate(f"q{i:03d}", rng.choice(DOMAINS), rng.randrange(lengths), source)
            for i, source in enumerate(sources)]  # fmt: skip
    config = SelectionConfig(size=40, trusted=[TrustedRule(source="AIME")], weights={"logic": 3.0, "geometry": 1.0})
    chosen = [select(pool, config, seed) for seed in range(5)]
    monkeypatch.setattr(selection, "_longest_of_domains", lambda pool, count: np.arange(len(pool)))
    assert [select(pool, config, seed) for seed in range(5)] == chosen


def test_algorithm_1_has_trusted_rows_and_equal_domains_alone() -> None:
    pool = [Candidate(f"{domain}{i}", domain, i) for domain in DOMAINS for i in range(2000)]
    pool += [Candidate(f"aime{i}", "geometry", 1, "AIME") for i in range(50)]
    trusted = [TrustedRule(source="AIME")]
    config = SelectionConfig(method="algorithm1", size=2050, trusted=trusted)
    chosen = select(pool, config, 0)
    assert Counter(chosen.values()) == {"trusted": 50, "uniform": 2000}
    drawn = Counter(name.rstrip("0123456789") for name, how in chosen.items() if how == "uniform")
    assert all(abs(drawn[domain] - 500) < 90 for domain in DOMAINS)
    # s1's own code with all of its set uniform draws the same.
    assert chosen == select(pool, SelectionConfig(size=2050, trusted=trusted, uniform_share=1.0), 0)
    with pytest.raises(ValueError, match="leave weights and weight_sources out"):
        SelectionConfig(method="algorithm1", weight_sources=["AIME"])


@pytest.mark.parametrize(("by", "expected"), [("length", [2, 3, 4]), ("left", [0, 1, 4])])
def test_only_the_best_sources_count(tmp_path: Path, by: Literal["length", "left"], expected: list[int]) -> None:
    columns = {"source_index": [0, 0, 1, 1, 2, 1, 1], "length": [5, 5, 9, 7, 8, 90, 90]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    features, left = Features([tmp_path / "a.parquet"]), np.arange(5)
    chosen = selection.best_sources(features, left, BestSources(count=2, by=by))
    assert chosen.tolist() == expected
    assert selection.best_sources(features, left, None) is left
    assert selection.best_sources(features, left, BestSources(count=9)).tolist() == left.tolist()
