r"""Whether two expressions are equal, by evaluation: exactly where they are rational, else to 50 digits, at points.

Nothing is simplified: two expressions are the same if they agree wherever both are real, at points of both signs (whole
numbers for variables that are named like counters). That is exact for constants as far as 50 digits tell, and for
functions as certain as random tests are (Schwartz 1980). The LaTeX is read by latex2sympy, which evaluates nothing.
Imported in the child process only (`child`): sympy takes a second to import, and anything may take for ever.
"""

from __future__ import annotations

import math
import random
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy
from latex2sympy2_extended import latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig

from s1ray.grading.numbers import parse_number, rounds

DIGITS = 60
"""Of evaluation; `AGREE` of them must agree."""
AGREE = sympy.Float(10, DIGITS) ** -45
HUGE = 10**15
POINTS = 10
STEP_POINTS = 80
"""The same for functions with steps, which agree at most points."""
_STEPS = (sympy.floor, sympy.ceiling, sympy.Mod, sympy.sign)
ENOUGH = 4
"""Points where both expressions are real, at least, for a yes."""

_READING = ConversionConfig(
    interpret_as_mixed_fractions=True,
    interpret_simple_eq_as_assignment=False,
    interpret_contains_as_eq=False,
    lowercase_symbols=False,
)
_COUNTERS = frozenset("nmkjNMK")
_DECIMAL = re.compile(r"(?<![\w.])(\d*)\.(\d+)(?!\d)")
_REPEATING = re.compile(r"\d*\.\d*\\(?:overline|bar)\{\d+\}")
_DEGREES = re.compile(r"(\([^()]*\)|\\frac\{[^{}]*\}\{[^{}]*\}|[\d.]+|\\?[A-Za-z]+)\^\{\\circ\}")
_NO_NUMERAL = re.compile(r"\d_|(?<![_\d])\d+ +\d|!!")
"""A numeral with a base, which the parser would drop; "1 2", which it would add."""
_SEVERAL_POINTS = re.compile(r"\d\.\d+\.\d")
_CIS = re.compile(r"\\?cis ?(?:\(([^()]*)\)|((?:\\frac\{[^{}]*\}\{[^{}]*\}|[\d.]+|\\?[A-Za-z]+)(?:\^\{\\circ\})?))")
_CASED = re.compile(r"\\[A-Za-z]+|(?<!_)(?<!_\{)I")
_CASED_SYMBOLS = {"\\gamma": "g_{gamma}", "\\Gamma": "G_{gamma}", "I": "\\iota "}
"""Letters that the parser takes for constants: Euler's, the imaginary unit."""
_DOUBLE_FACTORIAL = re.compile(r"(?<![\d.!)}])(\d{1,3})!!(?!!)")
_THOUSANDS = re.compile(r"(?<![\d,])\d{1,3}(?:,\d{3})+(?![\d,])")


class UnreadableError(Exception):
    """The text is no expression."""


class Algebra:
    """`equality.Leaves` by sympy."""

    def equal(self, gold: str, answer: str) -> bool:
        """Whether two expressions have the same value, whatever their variables are."""
        try:
            one, other = expression(gold), expression(answer)
        except UnreadableError:
            return False
        return _same(one, other) or _rounded(gold, other) or _rounded(answer, one)

    def near(self, one: str, other: str) -> bool:
        """Whether two values differ by a hundredth at most."""
        try:
            first, second = _value(expression(one), {}), _value(expression(other), {})
        except UnreadableError:
            return False
        return first is not None and second is not None and bool(abs(first - second) <= abs(first) / 100)

    def multiples(self, gold: tuple[str, str], answer: tuple[str, str], *, positive: bool) -> bool:
        """Whether the difference of two sides is that of two others times a constant (a positive one, if asked)."""
        try:
            one = expression(gold[0]) - expression(gold[1])
            other = expression(answer[0]) - expression(answer[1])
        except UnreadableError:
            return False
        symbols = sorted(one.free_symbols | other.free_symbols, key=str)
        if not symbols or one.free_symbols != other.free_symbols:
            return False
        ratios = []
        for point in _points(symbols):
            left, right = _value(one, point), _value(other, point)
            if left is None or right is None:
                continue
            if abs(left) < AGREE or abs(right) < AGREE:
                if max(abs(left), abs(right)) > AGREE:
                    return False
                continue
            ratios.append(left / right)
        if len(ratios) < ENOUGH:
            return False
        return all(_agree(ratio, ratios[0]) for ratio in ratios) and (not positive or bool(sympy.re(ratios[0]) > 0))


@lru_cache(maxsize=512)
def expression(text: str) -> Any:
    """A canonical text as a sympy expression.

    Raises:
        UnreadableError: it is none.
    """
    if _SEVERAL_POINTS.search(text):
        raise UnreadableError(text)
    text = _REPEATING.sub(_as_fraction, text)
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    text = _DECIMAL.sub(_as_fraction, text)
    text = _CIS.sub(lambda match: f"e^{{i\\cdot ({match[1] or match[2]})}}", text)
    text = _DEGREES.sub(r"(\1\\cdot \\frac{\\pi}{180})", text).replace("\\$", "")
    text = re.sub(r"(?<=[\d}\)])%", "\\\\cdot \\\\frac{1}{100}", text)
    text = re.sub(r"(?<=[A-Za-z])'+", lambda match: "_{" + "p" * len(match[0]) + "}", text)
    text = _CASED.sub(lambda match: _CASED_SYMBOLS.get(match[0], match[0]), text)
    text = _double_factorials(text)
    if not text.strip() or "\\ldots" in text or _NO_NUMERAL.search(text):
        raise UnreadableError(text)
    try:
        read = latex2sympy(text, normalization_config=None, conversion_config=_READING)
    except Exception:
        raise UnreadableError(text) from None
    if not isinstance(read, sympy.Expr):
        raise UnreadableError(text)
    symbol = sympy.Symbol("i")
    return read.subs(symbol, sympy.I) if symbol in read.free_symbols else read


def _double_factorials(text: str) -> str:
    """With the product that "7!!" is in its place."""
    return _DOUBLE_FACTORIAL.sub(lambda match: str(math.prod(range(int(match[1]), 1, -2))), text)


def _as_fraction(match: re.Match[str]) -> str:
    number = parse_number(match[0])
    if number is None:
        return match[0]
    return f"(\\frac{{{number.value.numerator}}}{{{number.value.denominator}}})"


def _same(one: Any, other: Any) -> bool:
    if one == other:
        return True
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    if not symbols:
        return _same_constant(one, other)
    real, complex_, compared = 0, 0, []
    steps = one.has(*_STEPS) or other.has(*_STEPS)
    for point in _points(symbols, STEP_POINTS if steps else POINTS):
        left, right = _value(one, point), _value(other, point)
        if left is None or right is None:
            continue
        if _is_real(left) and _is_real(right):
            if not _agree(left, right):
                return False
            real += 1
        elif _is_real(left) != _is_real(right):
            return False
        else:
            compared.append((left, right))
            complex_ += 1
    if real >= ENOUGH:
        return True
    if complex_ >= ENOUGH:
        return all(_agree(left, right) for left, right in compared)
    # Functions that are not known, or no point in common.
    return bool(sympy.simplify(one - other) == 0)


def _same_constant(one: Any, other: Any) -> bool:
    exact = [_exact(expr) for expr in (one, other)]
    if None not in exact:
        return bool(exact[0] == exact[1])
    left, right = _value(one, {}), _value(other, {})
    if left is None or right is None:
        return False
    if left.is_infinite or right.is_infinite:
        return bool(left == right)
    if 0 in exact and max(abs(left), abs(right)) < AGREE:
        # Digits that cancel look like a small number; so does a small number.
        return bool((one - other).equals(0))
    return _agree(left, right) and (abs(left) < HUGE or _no_difference(one, other))


def _no_difference(one: Any, other: Any) -> bool:
    """Whether two huge values, whose first digits agree, agree in what stands behind the point, too."""
    difference = (one - other).evalf(15, maxn=500)
    return bool(abs(difference) < AGREE)


def _exact(expr: Any) -> Any:
    """The rational that an expression is, where nothing but arithmetic is needed; else None."""
    if expr.is_Rational:
        return expr
    if expr.has(sympy.Pow, sympy.Add, sympy.Mul, sympy.factorial) and not expr.has(sympy.Symbol, sympy.NumberSymbol):
        done = expr.doit()
        if done.is_Rational:
            return done
    return None


def _value(expr: Any, point: dict[Any, Any]) -> Any:
    """A number of `DIGITS` digits, or None where there is none."""
    try:
        value = expr.subs(point).doit().evalf(DIGITS) if point else expr.doit().evalf(DIGITS)
    except Exception:
        return None
    if value.is_infinite and value != sympy.zoo:
        return value
    return value if value.is_number and value.is_finite and not value.has(sympy.nan, sympy.zoo) else None


def _is_real(value: Any) -> bool:
    if value.is_infinite:
        return True
    real, imaginary = value.as_real_imag()
    return bool(abs(imaginary) <= AGREE * max(1, abs(real)))


def _agree(left: Any, right: Any) -> bool:
    if left == right:
        return True
    if left.is_infinite or right.is_infinite:
        return False
    return bool(abs(left - right) <= AGREE * max(abs(left), abs(right)))


def _points(symbols: list[Any], count: int = POINTS) -> list[dict[Any, Any]]:
    """The same points each time: small rationals of both signs, whole numbers for counters."""
    source = random.Random(1)
    points = []
    for index in range(count):
        point = {}
        for symbol in symbols:
            if str(symbol) in _COUNTERS:
                point[symbol] = sympy.Integer(source.randint(2, 30))
            else:
                sign = 1 if index % 2 == 0 else source.choice((-1, 1))
                point[symbol] = sympy.Rational(sign * source.randint(3, 400), source.randint(7, 90))
        points.append(point)
    return points


def _rounded(text: str, exact: Any) -> bool:
    """Whether a text is a decimal, long enough, that an irrational or rational value rounds to."""
    number = parse_number(text)
    if number is None or number.places is None or exact.free_symbols:
        return False
    value = _value(exact, {})
    if value is None or not _is_real(value) or value.is_infinite:
        return False
    real = value.as_real_imag()[0]
    return rounds(number, Fraction(str(sympy.Float(real, 60))))
