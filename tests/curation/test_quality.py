from dataclasses import replace
from typing import Any

import pytest

from s1ray.curation.config import DomainConfig, DomainRule, QualityConfig
from s1ray.curation.quality import quality_reason
from s1ray.curation.records import SourceRow

SOUND = SourceRow(id="1", question="What is 2 + 2?", solution="4", answer="4", source="MATH")


def reason(config: QualityConfig | None = None, **changes: Any) -> str | None:
    return quality_reason(replace(SOUND, **changes), config or QualityConfig())


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Find x. [asy] draw((0,0)); [/asy]", "figure in Asymptote code"),
        ("Find x. ![Image](a.png)", "figure missing"),
        ("p1. Find x.", "inconsistent numbering"),
        ("Part p999. Find x.", "inconsistent numbering"),
        ("p0. and p1000 are fine, and so is p. 12", None),
        ("**3** Find x.", "bold number"),
        ("**Problem** 3", "bold number"),
        ("**Problem** without", None),
        ("3 then **Problem**", None),
        ("**two words** 3", None),
        ("**a**\nthen 3", None),
        ("It\u00e2\u20ac\u2122s caf\u00c3\u00a9", "mis-decoded text"),
        ("It\u2019s caf\u00e9 at 90\u00b0", None),
        ("  ", "empty question"),
    ],
)
def test_patterns(question: str, expected: str | None) -> None:
    assert reason(question=question) == expected


def test_aime_questions_skip_every_pattern() -> None:
    for question in ("[asy] draw(); [/asy]", "p1. x", "**3** x"):
        assert reason(question=question, source="qq8933/AIME_1983_2024") is None
        assert reason(QualityConfig(formatting=False), question=question) is None


def test_a_missing_solution_is_no_api_error() -> None:
    assert reason(solution=None) == "missing solution"
    assert reason(solution=" ") == "missing solution"
    assert reason(solution=None, error="recitation") == "API error"
    assert reason(QualityConfig(require=["answer"]), answer="") == "missing answer"
    assert reason(QualityConfig(require=[]), solution=None, answer=None) is None


def test_long_questions() -> None:
    assert reason(QualityConfig(max_words=2), question="one two three") == "too long"
    assert reason(QualityConfig(max_words=2), question="one two") is None


def test_domains_come_from_the_source_then_from_rules() -> None:
    config = DomainConfig(
        mapping={"Prealgebra": "Algebra"},
        rules=[DomainRule(domain="Geometry", question="triangle"), DomainRule(domain="Physics", source="^jee")],
        otherwise="Other",
    )
    triangle, block = replace(SOUND, question="a triangle"), replace(SOUND, question="a block")
    assert config.domain_of(replace(triangle, domain="Prealgebra")) == "Algebra"
    assert config.domain_of(replace(triangle, domain="Topology")) == "Topology"
    assert config.domain_of(triangle) == "Geometry"
    assert config.domain_of(replace(block, source="jeebench")) == "Physics"
    assert config.domain_of(block) == "Other"
    assert DomainConfig().domain_of(block) is None
