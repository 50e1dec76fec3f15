r"""One spelling for equal answers, so that most comparisons need neither a parser nor a computer algebra system.

`same_text` compares words and LaTeX after removing what carries no meaning (spacing commands, `\left`, `\dfrac` for
`\frac`, `\text{}`, case). `parse_number` reads integers, decimals, fractions, mixed numbers and percentages as exact
rationals: "023", "1,000.50", "-\frac{1}{2}", "50\%".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from s1ray.grading.extraction import unwrap

_SPACING = re.compile(r"\\[!,;:> ]|\\q?quad\b|~|\\thinspace\b")
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|operatorname|mbox)\s*\{([^{}]*)\}")
_SHORT_FRACTION = re.compile(r"\\frac\s*(\d)\s*(\d)")
_SHORT_FRACTION_BRACED = re.compile(r"\\frac\s*(\d)\s*(?=\{)")
_FRACTION = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_ASSIGNMENT = re.compile(r"^\s*(?:[a-zA-Z]|[a-zA-Z]\([a-zA-Z]\))\s*=\s*(?=\S)")
_PLAIN = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+"
_NUMBER = re.compile(rf"(?P<sign>[-+]?)(?P<value>{_PLAIN})(?:[eE](?P<exponent>[-+]?\d{{1,3}}))?")
_RATIO = re.compile(rf"(?P<sign>[-+]?)(?P<over>{_PLAIN})/(?P<under_sign>[-+]?)(?P<under>{_PLAIN})")
_MIXED = re.compile(r"(?P<sign>[-+]?)(?P<whole>\d+)\s+(?P<over>\d+)/(?P<under>\d+)")
_BASE = re.compile(r"(?P<digits>[0-9A-Za-z]+)_\{?(?P<base>\d{1,2})\}?")
_UNIT = re.compile(r"^([-+]?[\d.,]*\d)\s*(?:[€£¥]|\s[a-zA-Z]{2,}(?:\s[a-zA-Z]+)?|(?:\s?[a-zA-Z]{1,2}[²³]))$")
_MAX_CHARACTERS = 200
"""Longer numbers are not final answers."""


@dataclass(frozen=True)
class Number:
    """An exact rational, and how it is written."""

    value: Fraction
    percent: bool = False
    decimal: bool = False


def same_text(gold: str, answer: str) -> bool:
    """Whether two answers are the same words or the same formula, ignoring spelling. Order matters, and so do brackets,
    except those of a list ("[3, 5]" is "3, 5").
    """
    gold, answer = _tidy(gold), _tidy(answer)
    if gold == answer:
        return True
    if gold.startswith("[") != answer.startswith("[") and _unlisted(gold) == _unlisted(answer):
        return True
    gold_value, answer_value = _without_assignment(gold), _without_assignment(answer)
    if gold_value != gold and answer_value != answer:
        return gold == answer
    return gold_value == answer_value


def parse_number(text: str) -> Number | None:
    """Parse a plain number; None if the text is anything else."""
    text = _plain(text)
    if len(text) > _MAX_CHARACTERS:
        return None
    percent = text.endswith("%")
    text = text.removesuffix("%").strip()
    mixed = _MIXED.fullmatch(text)
    if mixed and int(mixed["under"]):
        value = int(mixed["whole"]) + Fraction(int(mixed["over"]), int(mixed["under"]))
        return Number(-value if mixed["sign"] == "-" else value, percent)
    text = text.replace(" ", "")
    ratio = _RATIO.fullmatch(text)
    if ratio:
        under = _rational(ratio["under"])
        if not under:
            return None
        value = _rational(ratio["over"]) / under
        return Number(-value if (ratio["sign"] == "-") != (ratio["under_sign"] == "-") else value, percent)
    number = _NUMBER.fullmatch(text)
    if not number:
        return None
    value = _rational(number["value"]) * Fraction(10) ** int(number["exponent"] or 0)
    return Number(-value if number["sign"] == "-" else value, percent, decimal="." in number["value"])


def without_unit(text: str) -> str:
    """A number's text without a unit in plain words or a currency sign after it ("1,000.99 m²" -> "1,000.99").

    A letter directly after the number stays: "5x" is not 5.
    """
    return _UNIT.sub(r"\1", _plain(text))


def same_number(gold: Number, answer: Number) -> bool:
    """Equality of two numbers. A percentage equals both its figure and its hundredth: "50%" is 50 (with the sign as a
    unit) and 0.5.
    """
    if gold.value == answer.value:
        return True
    if gold.percent == answer.percent:
        return False
    percentage, other = (gold, answer) if gold.percent else (answer, gold)
    return percentage.value / 100 == other.value


def spelling_free(answer: str) -> str:
    """A key that equal answers share, for counting votes: a number's value, or the tidied text."""
    number = parse_number(answer)
    if number is None:
        return _without_assignment(_tidy(answer))
    return f"{number.value}{'%' if number.percent else ''}"


def based_number(text: str) -> tuple[str, int] | None:
    """Digits and base of a numeral with a subscript ("52_8", "1A_{16}"), or None."""
    match = _BASE.fullmatch(_plain(text).replace(" ", ""))
    return (match["digits"].upper().lstrip("0") or "0", int(match["base"])) if match else None


def is_words(text: str) -> bool:
    """Whether an answer consists of words (no digits, operators or LaTeX), which algebra cannot compare."""
    return bool(re.fullmatch(r"[^\W\d_]{2,}(?:[ '\-][^\W\d_]+)*", _plain(text)))


def _rational(text: str) -> Fraction:
    return Fraction(text.replace(",", "").rstrip(".") or "0")


def _latex(text: str) -> str:
    text = unwrap(text).replace("−", "-").replace("–", "-").replace("{,}", ",").replace("\\$", "").replace("\\%", "%")
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\cfrac", "\\frac")
    text = re.sub(r"\\(?:left|right|bigl|bigr|Bigl|Bigr|big|Big|displaystyle|limits)(?![a-zA-Z])", "", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|°|\\degree\b", "", text)
    text = _SPACING.sub(" ", text)
    text = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", text)
    return _SHORT_FRACTION_BRACED.sub(r"\\frac{\1}", text)


def _plain(text: str) -> str:
    r"""A number's text without LaTeX: units in `\\text{}` removed, `\\frac{a}{b}` as a/b (after a space, so that a
    mixed number remains one).
    """
    text = _latex(text).replace("$", "")
    inner = _TEXT.fullmatch(text.strip())
    text = inner.group(1) if inner else _TEXT.sub("", text)
    text = _FRACTION.sub(lambda m: f" {m[1].strip()}/{m[2].strip()}", text)
    text = re.sub(r"^([-+])\s+", r"\1", text.strip())
    return unwrap(re.sub(r"\s+", " ", text))


def _tidy(text: str) -> str:
    text = _TEXT.sub(lambda m: m[1], _latex(text))
    text = re.sub(r"\s+", "", text)
    return text.casefold().rstrip(".")


def _unlisted(text: str) -> str:
    """A list's items without its square brackets."""
    return text[1:-1] if text.startswith("[") and text.endswith("]") and "[" not in text[1:] else text


def _without_assignment(text: str) -> str:
    return _ASSIGNMENT.sub("", text)
