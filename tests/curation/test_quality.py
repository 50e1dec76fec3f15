from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.curation.config import QualityConfig
from s1ray.curation.quality import quality_reason, quality_reasons
from s1ray.curation.records import SourceRow
from s1ray.schemas import arrow_schema

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


def row_table(rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=arrow_schema(SourceRow))


PIECES = [
    *("[asy]", "![Image]", "p1.", "**3**", "**a", "x", "3", " ", "\n", "\x1f"),
    *("\u00e2\u20ac\u2122", "\u00c3\u00a9", "\ufffd", "\u3000", "\u6570"),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)


@given(
    st.lists(st.tuples(TEXTS, st.none() | TEXTS, st.none() | TEXTS, st.sampled_from(["MATH", "AIME"]), st.booleans())),
    st.sampled_from([QualityConfig(), QualityConfig(require=["solution", "answer"], max_words=2, formatting=False)]),
)
def test_the_reasons_of_a_table_are_those_of_its_rows(
    rows: list[tuple[str, str | None, str | None, str, bool]], config: QualityConfig
) -> None:
    made = [
        replace(
            SOUND, question=question, solution=solution, answer=answer, source=source, error="x" if failed else None
        )
        for question, solution, answer, source, failed in rows
    ]
    expected = [quality_reason(row, config) for row in made]
    assert quality_reasons(row_table([vars(row) for row in made]), config) == expected
