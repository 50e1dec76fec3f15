"""Domains by what sources say: taxonomies, mappings, prefixes, rules; how they spread."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.curation.domains import MSC_OF_PATHS, MSC_OF_SUBJECTS
from s1ray.config import ConfigError, validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.domains.config import DomainConfig
from s1ray.curation.domains.given import given_domains
from s1ray.curation.domains.spread import Spread
from s1ray.curation.domains.taxonomy import Taxonomy
from tests.support.curation import filtered

SHARED = Path(os.environ.get("S1RAY_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))


def domains_of(config: dict[str, Any], *rows: tuple[str | None, str, str]) -> list[tuple[str | None, str]]:
    """What rows of a domain, a question and a source get."""
    columns = zip(*rows, strict=True)
    table = pa.table(dict(zip(("domain", "question", "source"), map(list, columns), strict=True)))
    return given_domains(table, validate_config(DomainConfig, config, "test"))


def said(config: dict[str, Any], *domains: str | None) -> list[str | None]:
    return [domain for domain, _ in domains_of(config, *((domain, "1 + 1?", "pool") for domain in domains))]


def test_msc_has_the_classes_that_s1_has_its_domains_from() -> None:
    msc = Taxonomy.named("msc")
    assert len(msc.classes) == len(set(msc.names)) == 61
    assert [each.code for each in msc.classes] == sorted({each.code for each in msc.classes})
    assert msc.find("11") == msc.find(" NUMBER  theory ") == "Number theory"
    assert msc.find("1") is msc.find("") is msc.find("00") is msc.find("Number theory and more") is None
    assert "Diophantine equations" in next(each.about for each in msc.classes if each.code == "11")
    assert all(each.about and "$" not in each.about + each.name for each in msc.classes)


@pytest.mark.parametrize(
    ("taxonomy", "problem"),
    [
        ({"algebra": ""}, "two domains or more"),
        ({"algebra": "", " Algebra ": ""}, "the same but for case"),
        ({"algebra": "", " ": ""}, "without a name"),
        ("dewey", "msc"),
    ],
)
def test_a_taxonomy_that_cannot_be_used_is_refused(taxonomy: object, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        validate_config(DomainConfig, {"taxonomy": taxonomy}, "test")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mapping", {"Algebra": "Algebra"}),
        ("prefixes", {"Algebra": "99"}),
        ("rules", [{"domain": "Riddles", "source": "a"}]),
        ("otherwise", "Other"),
    ],
)
def test_what_the_taxonomy_does_not_have_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"{field}.*the taxonomy has no domain"):
        validate_config(DomainConfig, {"taxonomy": "msc", field: value}, "test")
    data = {
        "output": "unused",
        "sources": [{"kind": "miniature", "size": 1}],
        "domains": {"taxonomy": "msc"},
        "selection": {"weights": {"Algebra": 1}},
    }
    with pytest.raises(ConfigError, match=r"selection.weights: the taxonomy has no domain 'Algebra'"):
        validate_config(CurationConfig, data, "test")


def test_without_a_taxonomy_what_sources_say_is_a_domain() -> None:
    config = {"mapping": {"Prealgebra": "Algebra"}, "prefixes": {"Mathematics -> ": "Mathematics"}}
    assert said(config, "Prealgebra", " Topology ", "Mathematics -> Geometry", None, " ") == [
        "Algebra",
        "Topology",
        "Mathematics",
        None,
        None,
    ]
    rules = [{"domain": "Geometry", "question": "triangle"}, {"domain": "Physics", "source": "^jee"}]
    rows = [("Topology", "a triangle", "x"), (None, "a triangle", "jee"), (None, "b", "jee"), ("", "b", "x")]
    found = domains_of({"rules": rules, "otherwise": "Other"}, *rows)
    assert found == [("Topology", "source"), ("Geometry", "rules"), ("Physics", "rules"), ("Other", "otherwise")]
    assert domains_of({"rules": rules}, *rows)[-1] == (None, "no domain")
    assert domains_of({"rules": rules, "from_sources": False}, *rows)[0] == ("Geometry", "rules")


def test_with_a_taxonomy_every_domain_is_one_of_it() -> None:
    config = {"taxonomy": "msc", "mapping": MSC_OF_SUBJECTS, "rules": [{"domain": "51", "question": "triangle"}]}
    rows = [
        ("Number Theory", "1?", "math"),
        ("Prealgebra", "1?", "math"),
        ("83", "1?", "own"),
        ("Astrology", "1?", "own"),
        ("Astrology", "a triangle?", "own"),
        (None, "1?", "gsm8k"),
    ]
    assert domains_of(config, *rows) == [
        ("Number theory", "source"),
        ("Mathematics education", "mapping"),
        ("Relativity and gravitational theory", "source"),
        (None, "domain not in the taxonomy"),
        ("Geometry", "rules"),
        (None, "no domain"),
    ]
    assert said(config | {"otherwise": "97"}, "Astrology", None) == ["Mathematics education"] * 2


def test_the_longest_prefix_that_ends_with_a_word_decides() -> None:
    config = {"taxonomy": "msc", "prefixes": MSC_OF_PATHS}
    paths = [
        "Mathematics -> Algebra",
        "Mathematics -> Algebra -> Prealgebra -> Integers",
        "Mathematics -> Algebraic Geometry",
        "Mathematics",
        "Mathematics -> Applied Mathematics -> Statistics -> Probability -> Counting Methods -> Other",
    ]
    assert said(config, *paths) == [
        "Field theory and polynomials",
        "Mathematics education",
        None,
        None,
        "Combinatorics",
    ]
    assert said({"prefixes": {"math/": "a", "math/alg": "b"}}, "math/algebra", "math/alg/1", "math") == [
        "a",
        "b",
        "math",
    ]


WORDS = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4).map("/".join)


@given(st.dictionaries(WORDS, st.sampled_from("xyz"), max_size=6), WORDS)
def test_prefixes_are_those_of_a_list_of_words(prefixes: dict[str, str], path: str) -> None:
    words = path.split("/")
    beginnings = ["/".join(words[:size]) for size in range(len(words), 0, -1)]
    expected = next((prefixes[beginning] for beginning in beginnings if beginning in prefixes), path)
    assert said({"prefixes": prefixes}, path) == [expected]


def spread(counts: Sequence[Sequence[int]]) -> Spread:
    sizes = np.array(counts)
    return Spread([f"d{place}" for place in range(sizes.shape[1])], sizes, {})


def test_the_spread_is_told_and_a_source_with_names_of_its_own_is_warned_of() -> None:
    assert spread([[900, 3], [100, 0]]).line() == (
        "2 domain(s) of 1,003 rows; the largest: d0 1,000, d1 3; 1 have fewer than 10 rows"
    )
    assert Spread([], np.zeros((1, 0), np.int64), {}).line() == "no row has a domain"
    warning = spread([[900, 0, 0, 0], [0, 30, 30, 40]]).warning(["math", "omni"])
    assert warning is not None
    assert warning.startswith("3 of 4 domains are names that omni alone uses, which has 10% of the rows")
    for fine in ([[900, 50, 50], [30, 30, 40]], [[1, 1, 1]], [[100, 100, 100], [0, 0, 10]]):
        assert spread(fine).warning(["math", "omni"]) is None


@pytest.mark.skipif(not (SHARED / "omni_math_rule_2821.parquet").exists(), reason="needs the shared data")
def test_one_taxonomy_makes_real_sources_comparable(tmp_path: Path) -> None:
    columns = {"question": "problem", "solution": "solution"}
    data = {
        "output": "unused",
        "deduplication": {"normalised": False, "jaccard": None},
        "sources": [
            {
                "kind": "files",
                "path": str(SHARED / "math_12500.parquet"),
                "columns": columns | {"domain": "subject"},
                "where": {"split": "test"},
            },
            {
                "kind": "files",
                "path": str(SHARED / "omni_math_rule_2821.parquet"),
                "columns": columns | {"domain": "domain"},
            },
            {"kind": "files", "path": str(SHARED / "gsm8k.parquet"), "columns": {"solution": "answer"}, "limit": 1000},
        ],
    }

    def spread_of(domains: dict[str, Any]) -> Spread:
        config = validate_config(CurationConfig, data | {"domains": domains}, "test")
        pool = filtered(config, tmp_path / str(len(domains)))
        return Spread.of(pool.features, np.flatnonzero(pool.features.codes("quality")[0] < 0))

    alone = spread_of({})
    warning = alone.warning(["MATH", "Omni-MATH", "GSM8K"])
    assert len(alone.names) > 90
    assert warning is not None
    assert "that Omni-MATH alone uses" in warning

    rules = [{"domain": "97", "source": "gsm8k"}]
    together = spread_of({"taxonomy": "msc", "mapping": MSC_OF_SUBJECTS, "prefixes": MSC_OF_PATHS, "rules": rules})
    assert set(together.names) <= set(Taxonomy.named("msc").names)
    shared = (together.counts > 0).sum(0) > 1
    assert together.counts[:, shared].sum() > 0.95 * together.counts.sum()
    assert together.by.get("domain not in the taxonomy", 0) + together.by.get("no domain", 0) <= 3
    assert set(together.by) >= {"source", "mapping", "prefixes", "rules"}
