import sys
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.config import ConfigError, validate_config
from s1ray.curation.quality import FILTERS, Filter, check_quality, quality_reason, quality_reasons
from s1ray.curation.quality.config import QualityConfig
from s1ray.curation.quality.language import identifier, prose
from s1ray.curation.records import SourceRow
from s1ray.schemas import arrow_schema

SOUND = SourceRow(id="1", question="What is 2 + 2?", solution="4", answer="4", source="MATH")


def quality(**fields: Any) -> QualityConfig:
    return QualityConfig.model_validate(fields)


def reason(config: QualityConfig | None = None, **changes: Any) -> str | None:
    return quality_reason(replace(SOUND, **changes), config or QualityConfig())


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Find x. [asy] draw((0,0)); [/asy]", "asymptote figure"),
        ("Find x. ![Image](a.png)", "image placeholder"),
        ("p1. Find x.", "inconsistent numbering"),
        ("Part p999. Find x.", "inconsistent numbering"),
        ("p0. and p1000 are fine, and so is p. 12", None),
        ("**3** Find x.", "bold number"),
        ("**Problem** 3", "bold number"),
        ("**Problem** without", None),
        ("3 then **Problem**", None),
        ("**two words** 3", None),
        ("**a**\nthen 3", None),
        ("It\u00e2\u20ac\u2122s caf\u00c3\u00a9", "misdecoded text"),
        ("It\u2019s caf\u00e9 at 90\u00b0", None),
        ("  ", "empty question"),
    ],
)
def test_patterns(question: str, expected: str | None) -> None:
    assert reason(question=question) == expected


S1_PATTERNS = ("asymptote_figure", "image_placeholder", "inconsistent_numbering", "bold_number")
NO_PATTERNS = dict.fromkeys(S1_PATTERNS, False)


def test_aime_questions_skip_every_pattern() -> None:
    for question in ("[asy] draw(); [/asy]", "p1. x", "**3** x"):
        assert reason(question=question, source="qq8933/AIME_1983_2024") is None
        assert reason(quality(trusted_figures=[]), question=question, source="qq8933/AIME_1983_2024")


def test_each_pattern_has_its_own_switch() -> None:
    question = "[asy] ![Image] p1. **3** \ufffd"
    for name in (*S1_PATTERNS, "misdecoded_text"):
        others = {other: False for other in (*S1_PATTERNS, "misdecoded_text") if other != name}
        assert reason(quality(**others), question=question) == name.replace("_", " ")
    assert reason(quality(**NO_PATTERNS, misdecoded_text=False), question=question) is None


def test_a_missing_solution_is_no_failed_call() -> None:
    assert reason(solution=None) == "missing solution"
    assert reason(solution=" ") == "missing solution"
    assert reason(solution=None, error="recitation") == "failed call"
    assert reason(quality(failed_call=False), error="recitation") is None
    assert reason(quality(missing_answer=True), answer="") == "missing answer"
    assert reason(quality(missing_solution=False), solution=None, answer=None) is None


def test_words_are_counted() -> None:
    assert reason(quality(too_long=2), question="one two three") == "too long"
    assert reason(quality(too_long=2), question="one two") is None
    assert reason(quality(too_short=3), question="one two") == "too short"
    assert reason(quality(too_short=3), question="one two three") is None


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"require": ["answer"]}, "say `missing_solution: true`"),
        ({"formatting": False}, "switch `asymptote_figure`"),
        ({"max_words": 3}, "it is `too_long`"),
        ({"too_short": 9, "too_long": 3}, "no row would stay"),
        ({"trusted_figures": [""]}, "in the name of every source"),
        ({"language": ["English"]}, "language.0"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(field: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate_config(QualityConfig, field, "test")


@pytest.mark.parametrize(
    "question",
    [
        "In the figure, $AB = 3$. Find $x$.",
        "Rectangle $ABCD$ is divided into four parts as shown in the figure, where $XY = 1$. Find $AB$.",
        "Six rhombi of side length 1 are arranged as shown. What is the perimeter?",
        "Consider the following graph, with links costs listed. How long is the path?",
        "Find the area (see the figure below).",
        "The circle graph below has three sectors. How many students like tea?",
        "The figure is not drawn to scale. Find $x$.",
        r"Find $x$. \includegraphics[width=3cm]{a.png}",
        "The table below shows the prices. How much are 3 pens?",
        "According to the prices given in the following table, find the mean.",
    ],
)
def test_a_figure_that_is_not_there(question: str) -> None:
    assert reason(quality(missing_figure=True), question=question) == "missing figure"
    assert reason(quality(missing_figure=False), question=question) is None


@pytest.mark.parametrize(
    "question",
    [
        "In the figure, find $x$. [asy] draw((0,0)--(1,1)); [/asy]",
        "Find the mean of the table below.\n| a | b |\n|---|---|\n| 1 | 2 |",
        r"The table below shows lists. \begin{tabular}{cc}1 & 2\end{tabular}",
        "The amounts are shown in the table: Tank A: 3 L, Tank B: 4 L.",
        "Solve the system shown below. $$x+y=1$$",
        "Find the area below the graph of $y = |x|$.",
        "The profit is shown by the graph $y=x^2$. Find its least value.",
        "Nine people sit at a round table. They figure out a picture. What is the image of $D$ on the map $f$?",
        "She drew a figure on the table and then another one.",
    ],
)
def test_a_figure_that_is_there_or_not_meant(question: str) -> None:
    assert reason(quality(missing_figure=True, asymptote_figure=False), question=question) is None


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Which of the following is closest in value to 7?", "missing options"),
        ("If $n>1$, which one of the following statements is true?", "missing options"),
        ("Which of the following is larger, $2^{30}$, $3^{20}$ or $5^{10}$?", None),
        ("Which of the following is prime: 4, 6, 7?", None),
        ("Which of the following is prime?\n(A) 4\n(B) 7", None),
        ("(i) $a<b$ (ii) $b<c$. Which of these follows?", None),
        ("Which of the following must be true?\n\n$ab < ac$\n$a+b<c+b$\n$a-b<c-b$", None),
        ("Which of the two is larger?", None),
    ],
)
def test_options_that_are_not_there(question: str, expected: str | None) -> None:
    assert reason(quality(missing_options=True), question=question) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the sum of two and three? What is the sum of two and three?", "repeated text"),
        ("Find it. " + "and so on " * 9, "repeated text"),
        ("Find x\n" + "Loading the next page now\n" * 4, "repeated text"),
        ("Find x" + "!" * 40, "repeated text"),
        ("Find the mean of " + "2, " * 30 + "2", None),
        ("Compute $" + "1 + " * 30 + "1$.", None),
        ("Fill in: ________________________________________ | ---------------------------------------- |", None),
        ("[asy] " + "draw the line there again;\n" * 9 + "[/asy] Find the length of the line.", None),
        ("", "empty question"),
    ],
)
def test_text_that_repeats_itself(question: str, expected: str | None) -> None:
    assert reason(quality(repeated_text=True, **NO_PATTERNS), question=question) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Let $a > 0$. Prove that $a + 1/a \\ge 2$.", "proof question"),
        ("Show that there is a prime between $n$ and $2n$.", "proof question"),
        ("Find the smallest such $n$ and prove that it is the smallest.", None),
        ("Which of these helps to prove that he is right?", None),
        ("The show that we saw took 3 hours.", None),
    ],
)
def test_proofs(question: str, expected: str | None) -> None:
    assert reason(quality(proof_question=True), question=question) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Let $f(x)=x^2$. (a) Find $f(2)$. (b) Prove that $f$ is even.", "several parts"),
        ("1. What is $2+2$?\n2. How many primes are below 9?", "several parts"),
        ("How many $x$ satisfy both?\n(i) $x$ is even.\n(ii) $x$ is prime.", None),
        ("Which is prime? (a) 4 (b) 7", None),
        ("What is the least $n$?\na) When divided by 2, 1 is left.\nb) When divided by 3, 2 are left.", None),
        ("(a) Find $f(2)$.", None),
    ],
)
def test_several_questions_in_one(question: str, expected: str | None) -> None:
    assert reason(quality(several_parts=True), question=question) == expected


FOREIGN = {
    "zh": "已知函数 $f(x)=x^2-2x+3$，求 $f(x)$ 在区间 $[0,3]$ 上的最大值。",
    "fr": "Trouver tous les nombres premiers $p$ tels que $p^2+2$ soit premier.",
    "de": "Bestimme alle reellen Zahlen $x$, für die $x^2-5x+6=0$ gilt.",
    "es": "Hallar el valor de $x$ si $2^{x+1}=32$.",
    "ru": "Найдите все целые числа $n$, для которых $n^2+n$ делится на 6.",
}
ENGLISH = [
    "In triangle $ABC$, $AB=3$. Find $AC$.",
    r"Compute $\\dfrac{1}{2}+\\dfrac{1}{3}$.",
    "For positive integer $n$ let $f(n)=n!$. Find $f(3)$.",
    "A train leaves the old station at noon. How far is it after 2 hours?",
    r"\\[\\int_0^1 x\\,dx\\]",
]


def test_questions_in_other_languages_are_found_and_english_with_much_latex_stays() -> None:
    pytest.importorskip("py3langid", reason="py3langid is an extra (language)")
    english = quality(language=["en"])
    assert {language: reason(english, question=text) for language, text in FOREIGN.items()} == dict.fromkeys(
        FOREIGN, "language"
    )
    assert [reason(english, question=text) for text in ENGLISH] == [None] * len(ENGLISH)
    for language, text in FOREIGN.items():
        assert reason(quality(language=["en", language]), question=text) is None
        assert reason(quality(language=[language]), question=ENGLISH[3]) == "language"
    with pytest.raises(ConfigError, match=r"quality.language: xx is none of the known"):
        check_quality(quality(language=["en", "xx"]))


def test_prose_is_what_is_left_without_formulas() -> None:
    text = r"Soit $a \in A$ et \\(b\\) de \\textbf{x}. [asy] draw(a); [/asy] L'angle $$c$$ donné"
    assert prose(text) == "Soit et de L'angle donné"


def test_a_language_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid", None)
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(ConfigError, match=r'pip install "s1ray\[language\]"'):
        check_quality(quality(language=["en", "io"]))
    assert check_quality(quality(missing_answer=True)) == ["solution", "answer"]


def row_table(rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=arrow_schema(SourceRow))


PIECES = [
    *("[asy]", "![Image]", "p1.", "**3**", "**a", "x", "3", " ", "\n", "\x1f"),
    *("\u00e2\u20ac\u2122", "\u00c3\u00a9", "\ufffd", "\u3000", "\u6570", "\u017f"),
    *("in the figure ", "As Shown", " below", "table ", "which of the following ", "from these ", "options above"),
    *("Prove that ", "show $", "(a) find ", "(b) what ", "1. is ", "2) are ", "?", "verify the "),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
EVERYTHING = quality(
    **{each.name: True for each in FILTERS if each.name not in ("too_short", "too_long", "language")},
    too_short=2,
    too_long=5,
)
FEW = quality(missing_answer=True, too_long=2, **NO_PATTERNS)


@given(
    st.lists(st.tuples(TEXTS, st.none() | TEXTS, st.none() | TEXTS, st.sampled_from(["MATH", "AIME"]), st.booleans())),
    st.sampled_from([quality(), FEW, EVERYTHING]),
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


@given(TEXTS, st.sampled_from([each for each in FILTERS if isinstance(each.suspects, str)]))
def test_no_cheap_test_overlooks_a_row(question: str, chosen: Filter) -> None:
    found = pc.match_substring_regex(pa.array([question]), chosen.suspects)[0].as_py()
    assert found or not chosen.fits(replace(SOUND, question=question), True)
