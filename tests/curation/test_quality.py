import pytest

from s1ray.curation.config import DomainConfig, QualityConfig
from s1ray.curation.domains import domain_of
from s1ray.curation.quality import quality_reason


def reason(question="What is 2 + 2?", solution="4", answer="4", source="MATH", error=None, **config):
    return quality_reason(question, solution, answer, source, error, QualityConfig(**config))


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
def test_patterns(question, expected):
    assert reason(question) == expected


def test_aime_questions_skip_every_pattern():
    for question in ("[asy] draw(); [/asy]", "p1. x", "**3** x"):
        assert reason(question, source="qq8933/AIME_1983_2024") is None
        assert reason(question, source="math", formatting=False) is None


def test_a_missing_solution_is_no_api_error():
    assert reason(solution=None) == "missing solution"
    assert reason(solution=" ") == "missing solution"
    assert reason(solution=None, error="recitation") == "API error"
    assert reason(answer="", require=["answer"]) == "missing answer"
    assert reason(solution=None, answer=None, require=[]) is None


def test_long_questions():
    assert reason("one two three", max_words=2) == "too long"
    assert reason("one two", max_words=2) is None


def test_domains_come_from_the_source_then_from_rules():
    config = DomainConfig(
        mapping={"Prealgebra": "Algebra"},
        rules=[{"domain": "Geometry", "question": "triangle"}, {"domain": "Physics", "source": "^jee"}],
        otherwise="Other",
    )
    assert domain_of("a triangle", "MATH", "Prealgebra", config) == "Algebra"
    assert domain_of("a triangle", "MATH", "Topology", config) == "Topology"
    assert domain_of("a triangle", "MATH", None, config) == "Geometry"
    assert domain_of("a block", "jeebench", None, config) == "Physics"
    assert domain_of("a block", "MATH", None, config) == "Other"
    assert domain_of("a block", "MATH", None, DomainConfig()) is None
