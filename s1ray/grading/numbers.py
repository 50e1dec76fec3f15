r"""Plain numbers, exactly: "1,000.50", "-\frac{1}{2}", "50%", "8.85\cdot 10^{-12}", "0.1\overline{6}", "twelve".

A number is a rational; a decimal is the rational that it spells, and remembers how many digits it gives.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

ROUNDED_DIGITS = 6
"""Significant digits from which on a decimal may stand for a value that it rounds; with fewer it is another value."""
_MAX_DIGITS = 200
"""Longer numbers are not final answers."""

_PLAIN = r"(?:[1-9]\d{0,2}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)(?:\.\d*)?|\.\d+"
_DECIMAL = re.compile(rf"({_PLAIN})(?:\\ldots ?)?")
_SCIENTIFIC = re.compile(rf"(?:({_PLAIN})\\cdot ?)?10\^\{{(-?\d{{1,3}})\}}")
_SIGN = re.compile(r"[-+]")
_RATIO = re.compile(rf"({_PLAIN})/([-+]?)({_PLAIN})")
_FRACTION = re.compile(rf"\\frac\{{([-+]?)({_PLAIN})\}}\{{([-+]?)({_PLAIN})\}}")
_MIXED = re.compile(r"(\d+)(?: ?\\frac\{(\d+)\}\{(\d+)\}| (\d+)/(\d+))")
_REPEATING = re.compile(r"(\d*)\.(\d*)(?:\\overline\{(\d+)\}|\\bar\{(\d+)\}|\((\d+)\))")
_DOTS_ABOVE = re.compile(r"(\d*)\.(\d*)\\dot ?\{?(\d)\}?(?:(\d*)\\dot ?\{?(\d)\}?)?")
_DOTTED = re.compile(r"(\d*)\.(\d*?)(?:(\d)\3{2,}|(\d{2,8})\4+) ?\\ldots")


@dataclass(frozen=True)
class Number:
    """An exact rational, and how it is written."""

    value: Fraction
    percent: bool = False
    places: int | None = None
    """Digits after the point, where it is written as a decimal."""
    digits: int = 0
    """Significant digits of a decimal."""


def parse_number(text: str) -> Number | None:
    """A plain number in canonical notation; None if the text is anything else."""
    if len(text) > _MAX_DIGITS:
        return None
    percent = text.endswith("%")
    text = text.removesuffix("%").strip()
    while text[:1] + text[-1:] in ("()", "{}") and "," not in text and _closed_by_last(text):
        text = text[1:-1].strip()
    sign = 1
    if _SIGN.match(text):
        sign, text = (-1 if text[0] == "-" else 1), text[1:].lstrip()
    number = _unsigned(text)
    if number is None:
        return None
    return Number(sign * number.value, percent, number.places, number.digits)


def same_number(gold: Number, answer: Number) -> bool:
    """Equality of two numbers. A percentage equals both its figure and its hundredth: "50%" is 50 (with the sign as a
    unit) and 0.5. A decimal of `ROUNDED_DIGITS` digits and more equals what it rounds.
    """
    if gold.percent == answer.percent:
        return _close(gold.value, gold, answer.value, answer)
    percentage, other = (gold, answer) if gold.percent else (answer, gold)
    return percentage.value == other.value or _close(percentage.value / 100, None, other.value, other)


def rounds(number: Number, value: Fraction) -> bool:
    """Whether a decimal stands for a value: it has digits enough, and is the value rounded or cut at the last one."""
    if number.places is None or number.digits < ROUNDED_DIGITS:
        return False
    last = Fraction(10) ** -number.places
    is_rounded = abs(value - number.value) <= last / 2
    return is_rounded or (value * number.value > 0 and 0 <= abs(value) - abs(number.value) < last)


def number_in_words(text: str) -> Number | None:
    """The number that words say: "minus three", "one hundred and five", "twenty-five", "one half", "3rd", "third"."""
    words = re.findall(r"[a-z]+|\d+", text.lower().replace("-", " "))
    if not words or len(words) > 12:
        return None
    ordinal = re.fullmatch(r"(\d{1,9}) ?(?:st|nd|rd|th)", text.strip().lower())
    if ordinal:
        return Number(Fraction(int(ordinal[1])))
    sign = 1
    if words[0] in ("minus", "negative"):
        sign, words = -1, words[1:]
    if not words or any(word.isdigit() for word in words):
        return None
    if len(words) == 1 and words[0] in _ORDINALS:
        return Number(Fraction(sign * _ORDINALS[words[0]]))
    under = _PARTS.get(words[-1])
    if under is not None:
        over = 1 if words[:-1] in ([], ["a"], ["one"]) else _cardinal(words[:-1])
        return None if over is None or words == ["quarter"] else Number(Fraction(sign * over, under))
    whole = _cardinal(words)
    return None if whole is None else Number(Fraction(sign * whole))


_UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_SMALL = {word: value for value, word in enumerate(_UNITS)}
_SMALL |= {
    word: 10 * (place + 2)
    for place, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"])
}
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ORDINALS = {
    word: place + 1
    for place, word in enumerate(
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
    )
}
_PARTS = {
    "half": 2,
    "halves": 2,
    "third": 3,
    "thirds": 3,
    "quarter": 4,
    "quarters": 4,
    "fourth": 4,
    "fourths": 4,
    "fifth": 5,
}
_PARTS |= {"fifths": 5, "sixth": 6, "sixths": 6, "seventh": 7, "sevenths": 7, "eighth": 8, "eighths": 8, "ninth": 9}
_PARTS |= {"ninths": 9, "tenth": 10, "tenths": 10, "hundredth": 100, "hundredths": 100}


def _cardinal(words: list[str]) -> int | None:
    total, part, seen = 0, 0, False
    for word in words:
        if word == "and" and seen:
            continue
        if word in _SMALL:
            value = _SMALL[word]
            # "twenty five", but not "five five".
            if part % 100 and not (part % 100 >= 20 and part % 10 == 0 and value < 10):
                return None
            part += value
        elif word == "hundred" and 0 < part < 100:
            part *= 100
        elif word in _LARGE and part:
            total, part = total + part * _LARGE[word], 0
        else:
            return None
        seen = True
    return total + part if seen else None


def _closed_by_last(text: str) -> bool:
    depth = 0
    for index, character in enumerate(text):
        depth += (character in "({") - (character in ")}")
        if depth == 0:
            return index == len(text) - 1
    return False


def _close(gold_value: Fraction, gold: Number | None, answer_value: Fraction, answer: Number) -> bool:
    if gold_value == answer_value:
        return True
    written = [number for number in (gold, answer) if number is not None]
    # Two decimals are two values; one stands for a fraction that it rounds.
    decimals = [number for number in written if number.places is not None]
    if len(decimals) != 1:
        return False
    return rounds(decimals[0], gold_value if decimals[0] is answer else answer_value)


def _unsigned(text: str) -> Number | None:
    if "\\ldots" in text and (match := _DOTTED.fullmatch(text)):
        return _repeating(match[1], match[2], match[3] or match[4])
    if match := _DECIMAL.fullmatch(text):
        return _decimal(match[1])
    if (match := _RATIO.fullmatch(text)) and (under := _rational(match[3])):
        return Number((-1 if match[2] == "-" else 1) * _rational(match[1]) / under)
    if (match := _FRACTION.fullmatch(text)) and (under := _rational(match[4])):
        sign = -1 if (match[1] == "-") != (match[3] == "-") else 1
        return Number(sign * _rational(match[2]) / under)
    if match := _MIXED.fullmatch(text):
        whole, over, denominator = int(match[1]), int(match[2] or match[4]), int(match[3] or match[5])
        return Number(whole + Fraction(over, denominator)) if denominator else None
    if match := _SCIENTIFIC.fullmatch(text):
        factor = _decimal(match[1] or "1")
        return Number(factor.value * Fraction(10) ** int(match[2]))
    if match := _REPEATING.fullmatch(text):
        return _repeating(match[1], match[2], next(group for group in match.groups()[2:] if group))
    if match := _DOTS_ABOVE.fullmatch(text):
        return _repeating(match[1], match[2], match[3] + (match[4] or "") + (match[5] or ""))
    return None


def _decimal(text: str) -> Number:
    plain = text.replace(",", "").replace(" ", "")
    _, point, after = plain.partition(".")
    digits = len(plain.replace(".", "").lstrip("0"))
    return Number(_rational(text), places=len(after) if point else None, digits=digits)


def _rational(text: str) -> Fraction:
    return Fraction(text.replace(",", "").replace(" ", "").rstrip(".") or "0")


def _repeating(whole: str, before: str, period: str) -> Number:
    start = Fraction(int(whole or "0")) + (Fraction(int(before), 10 ** len(before)) if before else 0)
    return Number(start + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(before)))
