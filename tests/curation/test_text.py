r"""The normal form: what changes the problem stays, what is spelling goes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1ray.curation.text import normal_form, tokens

DIFFERENT = [
    # Reason, one problem, another one.
    ("brackets", "Compute 2*(3+4)", "Compute 2*3+4"),
    ("brackets", "What is 88 ÷ 4 ÷ 2?", "What is 88 ÷ (4 ÷ 2)?"),
    ("brackets", "Simplify $(a+b)c$", "Simplify $a+bc$"),
    ("brackets", "Compute $\\frac{1}{2+x}$", "Compute $\\frac{1}{2}+x$"),
    ("brackets", "Compute $\\sqrt{x+1}$", "Compute $\\sqrt{x}+1$"),
    ("brackets", "Compute $-(3^2)$", "Compute $(-3)^2$"),
    ("brackets", "Compute $f(g(x))$", "Compute $f g(x)$"),
    ("brackets", "Is it in (0, 1)?", "Is it in [0, 1]?"),
    ("brackets", "Is it in (0, 1)?", "Is it in $\\{0, 1\\}$?"),
    ("brackets", "Find $|x-1|$", "Find $x-1$"),
    ("brackets", "Find $\\lfloor x \\rfloor$", "Find $\\lceil x \\rceil$"),
    ("brackets", "Find $\\lfloor x \\rfloor$", "Find $x$"),
    ("factorial", "What is 5!", "What is 5"),
    ("factorial", "What is 5!?", "What is 5?"),
    ("factorial", "Compute $n!!$", "Compute $n!$"),
    ("factorial", "Compute $(n+1)!$", "Compute $n+1!$"),
    ("factorial", "Compute $2^{n!}$", "Compute $2^n$"),
    ("prime", "Find f'(2)", "Find f(2)"),
    ("prime", "Find $f''(2)$", "Find $f'(2)$"),
    ("prime", "Find $f^{\\prime}(2)$", "Find $f(2)$"),
    ("prime", "Let $A'$ be the reflection of $A$", "Let $A$ be the reflection of $A$"),
    ("prime", "Find $(fg)'(0)$", "Find $(fg)(0)$"),
    ("prime", "Find the length $A'B'$", "Find the length $AB$"),
    ("power", "Find 3²", "Find 32"),
    ("power", "Find 10³", "Find 103"),
    ("power", "Find x²", "Find x2"),
    ("power", "Find $2^{10}$", "Find $2\\cdot 10$"),
    ("power", "Find $2^{10}$", "Find 210"),
    ("power", "Find $x^{2y}$", "Find $x^2y$"),
    ("power", "Find $x^{ab}$", "Find $x^ab$"),
    ("power", "Find $x^{n+1}$", "Find $x^n+1$"),
    ("power", "Find $2^{3^2}$", "Find $(2^3)^2$"),
    ("power", "Find $f^{(n)}(0)$", "Find $f^{n}(0)$"),
    ("power", "Find $f^{(2)}(x)$", "Find $f^2(x)$"),
    ("power", "Find $x^{-1}$", "Find $x^{1}$"),
    ("power", "Find $\\sin^2 x$", "Find $\\sin 2 x$"),
    ("index", "Find x₁ + x₂", "Find x1 + x2"),
    ("index", "Find H₂O", "Find H2O"),
    ("index", "Convert $52_8$", "Convert 528"),
    ("index", "Find $a_{n+1}$", "Find $a_n+1$"),
    ("index", "Find $a_n$", "Find $a^n$"),
    ("index", "Find $a_{1,2}$", "Find $a_{12}$"),
    ("index", "Find $\\log_2 8$", "Find $\\log 28$"),
    ("sign", "Solve x + 3 = -5", "Solve x + 3 = 5"),
    ("sign", "Solve $x - 3 = 5$", "Solve $x + 3 = 5$"),
    ("sign", "Solve $x \\pm 3 = 5$", "Solve $x + 3 = 5$"),
    ("sign", "It is −3 degrees", "It is 3 degrees"),
    ("sign", "Find $5-3$", "Find $5, 3$"),
    ("sign", "Find $xy - z$", "Find $xyz$"),
    ("sign", "Find $\\sin x - \\cos x$", "Find $\\sin x \\cos x$"),
    ("sign", "Find x-y", "Find xy"),
    ("sign", "Find 3-sqrt(2)", "Find 3sqrt(2)"),
    ("sign", "Find 3-alpha", "Find 3 alpha"),
    ("sign", "Find ab-cd", "Find abcd"),
    ("sign", "Find 3 * 4", "Find 3 / 4"),
    ("sign", "Find 3 + 4", "Find 3 * 4"),
    ("decimal point", "Round 2.5", "Round 25"),
    ("decimal point", "Round .5", "Round 5"),
    ("decimal point", "Round 1.234", "Round 1,234"),
    ("decimal point", "Round 0.05", "Round 0.5"),
    ("list", "The points (5,3)", "The points (53)"),
    ("list", "Which of 5, 3 is it", "Which of 53 is it"),
    ("list", "The set {1, 23}", "The set {12, 3}"),
    ("list", "The set $\\{1, 234\\}$", "The set $\\{1234\\}$"),
    ("list", "The points (1, 234)", "The number 1234"),
    ("list", "Find $f(1,2)$", "Find $f(12)$"),
    ("list", "The ratio is 3:4", "The ratio is 34"),
    ("list", "The ratio is 3:4", "The ratio is 3, 4"),
    ("list", "It costs \\20", "It costs \\30"),
    ("list", "The number 1 23", "The number 12 3"),
    ("list", "Matrix $\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}$",
     "Matrix $\\begin{pmatrix} 1 & 2 & 3 & 4 \\end{pmatrix}$"),
    ("sign", "Compute 011 & 101", "Compute 011 101"),
    ("sign", "Compute 011 | 101", "Compute 011 ^ 101"),
    ("relation", "Solve $x < 3$", "Solve $x \\le 3$"),
    ("relation", "Solve $x < 3$", "Solve $x > 3$"),
    ("relation", "Solve $x = 3$", "Solve $x \\ne 3$"),
    ("relation", "Solve x ≥ 3", "Solve x ≤ 3"),
    ("relation", "Is $a \\in B$", "Is $a \\notin B$"),
    ("relation", "Find $A \\cup B$", "Find $A \\cap B$"),
    ("relation", "Is $7 \\equiv 2$", "Is $7 = 2$"),
    ("letters", "Solve x + X = 3", "Solve x + x = 3"),
    ("letters", "Find n", "Find N"),
    ("letters", "Find $AB + ab$", "Find $ab + ab$"),
    ("letters", "Solve $Ax = b$", "Solve $ax = b$"),
    ("letters", "Find $\\alpha$", "Find $\\beta$"),
    ("letters", "Find $\\Delta$", "Find $\\delta$"),
    ("letters", "Find π", "Find p"),
    ("letters", "Find $\\mathbb{R}$", "Find $R$"),
    ("letters", "Find $\\mathcal{P}$", "Find $P$"),
    ("functions", "Find $\\sin x$", "Find $\\cos x$"),
    ("functions", "Find $\\ln 2$", "Find $\\log 2$"),
    ("functions", "Find √2", "Find 2"),
    ("functions", "Find ∛8", "Find √8"),
    ("functions", "Find $\\sqrt[3]{8}$", "Find $3\\sqrt{8}$"),
    ("functions", "Find $\\sqrt{2x}$", "Find $\\sqrt{2}x$"),
    ("functions", "Find $\\sin\\frac{\\pi}{3}$", "Find $\\frac{\\sin\\pi}{3}$"),
    ("functions", "Find $\\binom{5}{2}$", "Find $\\frac{5}{2}$"),
    ("functions", "Find $\\binom{12}{3}$", "Find $\\binom{1}{23}$"),
    ("functions", "Find $\\overline{AB}$", "Find $\\overrightarrow{AB}$"),
    ("functions", "Find $0.\\overline{12}$", "Find $0.12$"),
    ("functions", "Find $\\lim_{x \\to 0} x$", "Find $\\lim_{x \\to \\infty} x$"),
    ("fraction", "Find $\\frac{1}{2}$", "Find 12"),
    ("fraction", "Find $\\frac{12}{3}$", "Find $\\frac{1}{23}$"),
    ("fraction", "Find $\\frac{a}{b}$", "Find $ab$"),
    ("fraction", "Find $\\frac{a+b}{c}$", "Find $a+\\frac{b}{c}$"),
    ("fraction", "Find $\\frac{a}{bc}$", "Find $\\frac{a}{b}c$"),
    ("fraction", "Find $\\frac{1}{\\frac{2}{3}}$", "Find $\\frac{\\frac{1}{2}}{3}$"),
    ("fraction", "Find $\\left(\\frac{1}{2}\\right)^2$", "Find $\\frac{1}{2^2}$"),
    ("fraction", "Find $\\frac{1}{2}^2$", "Find $\\frac{1}{2^2}$"),
    ("fraction", "Find $2^{\\frac{1}{2}}$", "Find $\\frac{2^1}{2}$"),
    ("fraction", "Find $6/\\frac{2}{3}$", "Find $6/2/3$"),
    ("fraction", "Find $\\frac{x-1}{2}$", "Find $x-\\frac{1}{2}$"),
    ("products of vectors", "Let $\\mathbf{v}$, find $\\mathbf{v} \\times \\mathbf{w}$",
     "Let $\\mathbf{v}$, find $\\mathbf{v} \\cdot \\mathbf{w}$"),
    ("sign", "Find $x$-$y$", "Find $x$ $y$"),
    ("sign", "Find $(x)$-sqrt(2)", "Find $(x)$ sqrt(2)"),
    ("units", "How many is 5%", "How many is 5"),
    ("units", "Find sin 60°", "Find sin 60"),
    ("words", "Find the sum of 3 and 5", "Find the product of 3 and 5"),
    ("words", "Arrange the letters of MADAM", "Arrange the letters of RADII"),
]  # fmt: skip

SAME = [
    ("fraction", "Find $\\dfrac{1}{2}$", "Find $\\frac{1}{2}$"),
    ("fraction", "Find $\\tfrac12$", "Find $\\frac{1}{2}$"),
    ("fraction", "Find $\\frac12$.", "Find 1/2"),
    ("fraction", "Find $\\frac{a+b}{2}$", "Find (a+b)/2"),
    ("fraction", "Find $\\frac{a+b}{c+d}$", "Find (a + b)/(c + d)"),
    ("fraction", "Find $\\frac{x^2}{3}$", "Find x^2/3"),
    ("fraction", "Find $\\frac{1}{x^2}$", "Find 1/x²"),
    ("fraction", "Find $\\frac{\\sqrt{3}}{2}$", "Find √3/2"),
    ("fraction", "Find $2\\frac{1}{2}$", "Find 2½"),
    ("fraction", "Find ¾ of it", "Find $\\frac34$ of it"),
    ("delimiters", "Find $x+1$", "Find \\(x+1\\)"),
    ("delimiters", "Find $$x+1$$", "Find \\[x+1\\]"),
    ("delimiters", "Find $x+1$", "Find x+1"),
    ("delimiters", "If $x=1$, find $y$", "If \\(x=1\\), find \\(y\\)"),
    ("braces", "Find $2^3$", "Find $2^{3}$"),
    ("braces", "Find $2^{10}$", "Find 2^10"),
    ("braces", "Find $x_{1}$", "Find $x_1$"),
    ("braces", "Find $x^{n+1}$", "Find x^(n+1)"),
    ("braces", "Find $x^{-1}$", "Find x^-1"),
    ("braces", "Find ${x} + {y}$", "Find $x+y$"),
    ("braces", "Find $\\sqrt{2}$", "Find $\\sqrt 2$"),
    ("braces", "Find $\\sqrt{2}$", "Find sqrt(2)"),
    ("braces", "Find $\\sqrt{x+1}$", "Find √(x+1)"),
    ("braces", "Find $\\sqrt{2}$", "Find √2"),
    ("looks", "Find $\\left(x+1\\right)^2$", "Find $(x+1)^2$"),
    ("looks", "Find $\\bigl(x+1\\bigr)$", "Find (x+1)"),
    ("looks", "Find $\\displaystyle x$", "Find $x$"),
    ("looks", "Find $x\\, y$ now", "Find $xy$ now"),
    ("looks", "Find $\\text{area}$ of it", "Find area of it"),
    ("looks", "Find $5\\text{ cm}$", "Find 5 cm"),
    ("looks", "Find $5\\,\\mathrm{cm}$", "Find 5cm"),
    ("looks", "Find $\\mathbf{v}$", "Find $v$"),
    ("looks", "Find **the area** of it", "Find the area of it"),
    ("looks", "\\begin{align*} x &= 3 \\\\ y &= 4 \\end{align*}", "$x = 3$ $y = 4$"),
    ("thousands", "Find 1,000", "Find 1000"),
    ("thousands", "Find $1{,}000{,}000$", "Find 1,000,000"),
    ("thousands", "Find $60,\\!000$", "Find 60000"),
    ("thousands", "Find $10\\,000$", "Find 10000"),
    ("products", "Find $3 \\cdot 4$", "Find $3 \\times 4$"),
    ("products", "Find 3 × 4", "Find 3 * 4"),
    ("products", "Find 3·4", "Find 3*4"),
    ("division", "Find $8 \\div 4$", "Find 8 ÷ 4"),
    ("relations", "Solve $x \\le 3$", "Solve x ≤ 3"),
    ("relations", "Solve $x \\leq 3$", "Solve x <= 3"),
    ("relations", "Solve $x \\geqslant 3$", "Solve x ≥ 3"),
    ("relations", "Solve $x \\neq 3$", "Solve x ≠ 3"),
    ("relations", "Is $a \\in B$", "Is a ∈ B"),
    ("relations", "Find $A \\cup B$", "Find A ∪ B"),
    ("relations", "As $x \\to \\infty$", "As x → ∞"),
    ("minus", "Solve x − 3 = 5", "Solve x - 3 = 5"),
    ("minus", "Solve x – 3 = 5", "Solve $x-3=5$"),
    ("Greek", "Find $2\\pi$", "Find 2π"),
    ("Greek", "Find $2\\pi$", "Find 2 pi"),
    ("Greek", "Find $\\alpha + \\beta$", "Find α+β"),
    ("Greek", "Find $\\varphi$", "Find ϕ"),
    ("Greek", "Find $\\Delta$", "Find Δ"),
    ("powers", "Find $x^2 + y^2$", "Find x² + y²"),
    ("powers", "Find $x^{12}$", "Find x¹²"),
    ("powers", "Find $10^{-3}$", "Find 10⁻³"),
    ("powers", "Find 2**10", "Find 2^10"),
    ("indices", "Find $x_1 + x_2$", "Find x₁ + x₂"),
    ("primes", "Find $f'(2)$", "Find f′(2)"),
    ("primes", "Find $f^{\\prime}(2)$", "Find f'(2)"),
    ("primes", "Find f’(2)", "Find f'(2)"),
    ("functions", "Find $\\sin x$", "Find sin x"),
    ("functions", "Find $\\log_2 8$", "Find log_2 8"),
    ("functions", "Find $\\gcd(8,12)$", "Find gcd(8, 12)"),
    ("functions", "Find $\\dbinom{5}{2}$", "Find $\\binom52$"),
    ("functions", "Find $\\operatorname{lcm}(8,12)$", "Find lcm(8,12)"),
    ("functions", "Find ${5 \\choose 2}$", "Find $\\binom{5}{2}$"),
    ("functions", "Solve $x \\equiv 3 \\pmod{7}$", "Solve x ≡ 3 (mod 7)"),
    ("degrees", "Find $\\sin 60^\\circ$", "Find sin 60°"),
    ("degrees", "Find $\\sin 60^{\\circ}$", "Find sin 60 degrees"),
    ("degrees", "Find $\\angle ABC$", "Find ∠ABC"),
    ("percent", "Find $5\\%$ of it", "Find 5% of it"),
    ("percent", "Find 5 percent of it", "Find 5% of it"),
    ("sets", "Find $\\{1, 2, 3\\}$", "Find {1,2,3}"),
    ("sets", "Find $\\mathbb{R}$", "Find ℝ"),
    ("dots", "Find $1, 2, \\ldots, 9$", "Find 1, 2, ..., 9"),
    ("dots", "Find $1 + \\cdots + 9$", "Find 1 + … + 9"),
    ("absolute value", "Find $\\left|x\\right|$", "Find |x|"),
    ("absolute value", "Find $\\lvert x \\rvert$", "Find $|x|$"),
    ("case", "What Is The SUM?", "what is the sum?"),
    ("case", "A train leaves.", "a train leaves"),
    ("punctuation", "First, find the sum.", "first find the sum"),
    ("punctuation", "Find the sum: 3+4", "Find the sum 3+4."),
    ("punctuation", "Two numbers, 3, 4, and 5", "Two numbers 3, 4 and 5"),
    ("punctuation", "Really! Find it", "Really, find it"),
    ("punctuation", "He said — loudly — yes", "He said, loudly, yes"),
    ("punctuation", "A two-digit number", "A two digit number"),
    ("punctuation", "A 10-sided die", "A 10 sided die"),
    ("hyphens", "On the $x$-axis", "On the x-axis"),
    ("hyphens", "On the \\(x\\)-axis", "On the x axis"),
    ("hyphens", "A regular $n$-gon", "A regular n-gon"),
    ("hyphens", "A $2$-digit number", "A 2-digit number"),
    ("hyphens", "It is $b\\text{-}\\textit{eautiful}$", "It is b-eautiful"),
    ("ordinals", "The $n^{\\text{th}}$ term", "The $n$th term"),
    ("ordinals", "The $n$-th term", "The nth term"),
    ("ordinals", "On the $1^{\\text{st}}$ day", "On the 1st day"),
    ("functions", "Solve $x \\equiv 3 \\pmod{7}$", "Solve $x \\equiv 3 \\mod 7$"),
    ("functions", "Find $0.\\bar{3}$", "Find $0.\\overline{3}$"),
    ("looks", "Let $\\mathcal{S}$ be it", "Let ${\\cal S}$ be it"),
    ("hyphens", "All non-negative integers", "All nonnegative integers"),
    ("hyphens", "The co-efficient of $x$", "The coefficient of $x$"),
    ("negations", "Is $a \\not\\in B$", "Is a ∉ B"),
    ("negations", "If $a \\nmid b$", "If $a \\not| b$"),
    ("negations", "If b not= 1", "If $b \\neq 1$"),
    ("quotes", "The word \"math\" is", "The word “math” is"),
    ("quotes", "The word 'math' is", "The word math is"),
    ("quotes", "John’s apples don’t", "John's apples don't"),
    ("spacing", "Find  3+4 \n now", "find 3 + 4 now"),
    ("spacing", "Find $2x$", "Find $2 x$"),
    ("spacing", "Find $x y$", "Find $xy$"),
    ("spacing", "Find\u00a0x", "Find x"),
    ("currency", "It costs $5", "It costs \\$5"),
    ("decimal point", "Round .5", "Round 0.5"),
    ("invisible", "Find\u200b x", "Find x"),
    ("full width", "Find ３＋４", "Find 3+4"),
    ("case", "SOLVE FOR X IF 2X = 3 AND Y = 1", "Solve for x if 2x = 3 and y = 1"),
    ("case", "FIND $\\FRAC{1}{2}$", "find $\\frac{1}{2}$"),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "one", "other"), DIFFERENT)
def test_different_problems_stay_different(reason: str, one: str, other: str) -> None:
    assert normal_form(one) != normal_form(other), reason


@pytest.mark.parametrize(("reason", "one", "other"), SAME)
def test_spellings_of_one_problem_are_equal(reason: str, one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other), reason


def test_pairs_that_were_written_before_the_code_was_read() -> None:
    pairs = [json.loads(line) for line in (Path(__file__).parent / "normal_form_pairs.jsonl").open(encoding="utf-8")]
    assert len(pairs) == 101
    for pair in pairs:
        assert (normal_form(pair["left"]) == normal_form(pair["right"])) is pair["same"], pair


PIECES = [
    # Spellings of one thing, within a question.
    ["\\frac{a+b}{c}", "\\dfrac{a + b}{c}", "(a+b)/c", "\\tfrac{a+b} c"],
    ["\\frac{1}{2}", "\\frac12", "1/2", "½", "\\dfrac{1}{2}"],
    ["x^{2}", "x^2", "x²", "x^{ 2 }"],
    ["x_{1}", "x_1", "x₁"],
    ["\\sqrt{3}", "\\sqrt3", "√3", "sqrt(3)"],
    ["\\sqrt{y+1}", "\\sqrt{ y + 1 }", "√(y+1)", "sqrt(y+1)"],
    ["\\pi", "π", "pi"],
    ["3 \\cdot 4", "3 \\times 4", "3·4", "3 * 4", "3×4"],
    ["x \\le 3", "x\\leq3", "x ≤ 3", "x <= 3"],
    ["x \\neq 3", "x ≠ 3", "x\\ne 3"],
    ["5 - 3", "5 − 3", "5-3"],
    ["1000", "1,000", "1{,}000"],
    ["\\left(y+1\\right)", "(y+1)", "( y + 1 )"],
    ["\\{1, 2\\}", "\\left\\{1,2\\right\\}"],
    ["60^\\circ", "60°", "60^{\\circ}", "60 degrees"],
    ["\\sin z", "sin z", "\\sin{z}"],
    ["f'(2)", "f′(2)", "f^\\prime(2)"],
    ["n!", "n\\text{}!"],
    ["\\binom{n}{k}", "\\dbinom{n}{k}", "\\binom nk", "{n \\choose k}"],
    ["the triangle", "The triangle", "THE  TRIANGLE", "\\text{the triangle}"],
    ["two-digit", "two digit", "Two-Digit"],
    ["if", "If,", "if"],
]


@st.composite
def spelled_twice(draw: st.DrawFn) -> tuple[str, str]:
    pieces = draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=8))
    glue = draw(st.lists(st.sampled_from([" and ", ", then ", ". Find ", "\nGiven that "]), min_size=8, max_size=8))

    def spelling() -> str:
        parts = []
        for piece, between in zip(pieces, glue, strict=False):
            text = draw(st.sampled_from(piece))
            left, right = draw(st.sampled_from([("", ""), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$")]))
            parts += [left, text, right, between]
        return "Let " + "".join(parts) + "it."

    return spelling(), spelling()


@settings(max_examples=300, deadline=None)
@given(spelled_twice())
def test_spelling_never_matters(pair: tuple[str, str]) -> None:
    assert normal_form(pair[0]) == normal_form(pair[1])


FRAGMENTS = [spelling for piece in PIECES for spelling in piece] + [
    "{", "}", "(", ")", "[", "]", "\\{", "\\}", "^", "_", "\\frac", "\\sqrt", "\\binom", "\\text", "\\choose", "&",
    "\\\\", "$", "\\", "'", "''", "!", "!!", ",", ";", ":", ".", "...", "-", "--", "—", "*", "**", "/", "|", "\\|", "%",
    "A", "a", "AB", "xyz", "isn't", "1,234", ".5", "0.5", "7-gon", "10-sided", "degrees", "percent", "?", "\n", "  ",
    "¶", "°", "\u0301", "ß", "İ", "ﬁ", "\\begin{pmatrix}", "\\end{pmatrix}", "\\begin{align*}", "\\pmod{7}", "\\left",
    "\\right.", "\\vec", "\\overline", "\\foo", "x", "12", "×", "\\&",
]  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12), st.sampled_from(["", " "]))
def test_the_normal_form_of_a_normal_form_is_itself(parts: list[str], between: str) -> None:
    form = normal_form(between.join(parts))
    assert normal_form(form) == form


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_a_normal_form(text: str) -> None:
    form = normal_form(text)
    assert normal_form(form) == form


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12), st.sampled_from(["", " "]))
def test_ends_of_sentences_and_lines_change_no_token(parts: list[str], between: str) -> None:
    text = between.join(parts)
    assert [token for token in tokens(text, breaks=True) if token not in (".", "?", "¶")] == tokens(text)


UNITS = ["{", "}", "\\frac{", "^", "{x", "\\sqrt{x}", "1,", "a-", "'", "!", "(", "x^{", "\\", "$", "*", "-", ".", "½"]


@pytest.mark.parametrize("unit", UNITS)
def test_time_is_linear_in_the_text(unit: str) -> None:
    def seconds(length: int) -> float:
        text = unit * length
        start = time.process_time()
        tokens(text)
        return time.process_time() - start

    seconds(100)
    assert seconds(40_000) < 2.0
