"""Numbers, with their units, in sentences: "Josh made a profit of $70,000.", "a chance of 25 percent"."""

from __future__ import annotations

import re

from s1ray.grading.notation import MAX_CHARACTERS, canonical
from s1ray.grading.phrases import MEANINGS
from s1ray.grading.reading import read
from s1ray.grading.units import parse_unit
from s1ray.grading.values import Named, Reals, Scalar, Value, Words

WHOLE_MAX = 200
"""Characters of a line that may be an answer as a whole."""
MATH_SPAN = re.compile(
    r"\$\$(?P<a>.{1,2000}?)\$\$|\\\[(?P<b>.{1,2000}?)\\\]|\\\((?P<c>.{1,2000}?)\\\)|(?<!\\)\$(?P<d>[^$]{1,2000}?)(?<!\\)\$",
    re.DOTALL,
)
_NUMBER = re.compile(
    r"[-−]?(?P<currency>(?:[$€£]|\\\$)\s?)?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+|,\d{1,2}(?![\d,]))?(?:/\d+)?"
    r"(?:[eE][-+]?\d{1,3})?(?:\s?\\?%|\s(?:percent|per cent)\b)?"
    r"(?:\s(?:hundred|thousand|million|billion|trillion)\b|(?(currency)[kKM]\b|(?!)))?|[-−]?\.\d+"
)
_JOINED = re.compile(r"\s*(?:,\s*)?(?:\b(?:to|or|and|through)\b|–|—|-|,)\s*$")
_NOT_EXACTLY = re.compile(
    r"(?:\bnot|n't|\bnever|\b(?:rather|other|less|more|fewer|greater|larger|smaller|higher|lower) than"
    r"|\bat (?:least|most)|\binstead of|\bexcept)(?: be| equal to| exactly)?\s*[$(\\]*$"
    r"|(?:[<>≤≥≠]=?|\\(?:le|ge|ne|lt|gt)q?)\s*$",
    re.IGNORECASE,
)
"""Words before a number that say that it is not the answer."""
_STATED = re.compile(
    r"(?:[=≈:→]|\\(?:to|approx|implies|rightarrow)\b|\b(?:is|are|was|were|be|been|equals?|makes?|made|gets?|got|gives?|has"
    r"|have|had|costs?|pays?|takes?|reads?|runs?|sells?|sold|buys?|bought|spends?|spent|saves?|eats?|ate"
    r"|drinks?|wins?|won|needs?|leaves?|left with|remains?|yields?|finds?|keeps?|becomes?|brings?|reach(?:es)?|totals?"
    r"|\w{2,20}ed|(?:increas|decreas|grow|ris|fall)\w{0,3} by"
    r"|(?:total|sum|profit|average|mean|cost|price|amount|difference|distance|height|length|width|area|volume|speed"
    r"|rate|probability|chance|value|result|loss|number|age|product|quotient|remainder) of))"
    r"(?:\s+(?:a total of|about|approximately|exactly|only|just|now|still|then|thus|therefore|up to|equal to|to|at|a|an"
    r"|in total|in all))*[\s$€£*\\(\[{]*$",
    re.IGNORECASE,
)
"""What stands before a number that a sentence with several numbers comes to."""
_COMPARED = re.compile(
    r"[\s*]*(?:[A-Za-z]{1,20}\s)?(?:more|less|fewer|times|higher|lower|greater|smaller|older|younger|taller|shorter)\b"
)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
_PERCENT = re.compile(r"\s?(?:\\?%|(?:percent|per cent)\b)", re.IGNORECASE)
_POWER = r"(?:\^\{?\d\}?|[²³])?"
_UNIT = re.compile(
    rf"\s?(?:(?:square|cubic|sq|cu)\.?\s)?[A-Za-z]{{1,12}}{_POWER}(?:\s?/\s?[A-Za-z]{{1,8}}{_POWER}|\sper\s[A-Za-z]{{1,8}})?"
    r"(?:\s(?:squared|cubed))?(?=[\s,.;:!?)*$]|$)"
)
_NO_UNITS = {"in", "am", "pm", "pound", "pounds", "second", "min"}
"""Units that are more often other words, where a sentence goes on behind them."""
_ANY_UNIT = re.compile(r"\s?(?:[A-Za-z]{1,12}(?:\s?/\s?[A-Za-z]{1,8})?|°[CF]?)(?=[\s,.;]|$)")
_NO_UNIT_WORDS = frozenset(
    ("in", "so", "and", "because", "since", "as", "for", "which", "each", "per", "of", "by", "at", "a", "is", "if")
)
_SEVERAL = re.compile(
    r"\s*(?:,\s*)?(?:to|or|and|through)\b\s*[-−$]?\d|\s*,\s*[-−$]?\d|\s*[-–—+*/^×·:(]\s*\d|\s*\\(?![%])"
)


def is_number(value: str) -> bool:
    """Whether a value is a number, with its unit and its name, as it stands."""
    if not value or len(value) > WHOLE_MAX:
        return False
    read_as = read(canonical(value))
    if isinstance(read_as, Named):
        read_as = read_as.value
    return isinstance(read_as, Scalar) and read_as.number is not None


def leading_number(value: str) -> str | None:
    """The number that a value in prose gives: "72, in total, so the farmer earns that much".

    None: the value is no prose, or gives several.
    """
    if not has_words(value):
        return None
    first = _NUMBER.match(value)
    if "=" in value or first is None:
        return number_in(value)
    rest = value[first.end() :]
    if _SEVERAL.match(rest):
        return None
    # A unit stays with its number, for the comparison.
    unit = _ANY_UNIT.match(rest)
    keep = unit is not None and unit.group().strip().lower() not in _NO_UNIT_WORDS
    return first.group() + (unit.group() if keep and unit else "")


def number_in(line: str) -> str | None:
    """The last number of a line of prose, with its unit.

    None: it is denied, part of a formula, one of several that the line offers ("5 or 7", "4 to 6"), or one among
    others that the line does not come to ("72 clips, which is 24 more than in April").
    """
    line = _BOLD.sub(r"\1", line)
    found = [*_NUMBER.finditer(line)][-50:]
    if not found or not has_words(line):
        return None
    last = found[-1]
    if _NOT_EXACTLY.search(line[: last.start()][-40:]):
        return None
    before, after = line[: last.start()], line[last.end() : last.end() + 2]
    # "x2", "H2O", "2^5", "\\frac{1}{3}" and "(9+1)" hold no number that stands alone.
    if re.search(r"[A-Za-z^_{/*+\\(]\s?$", before[-2:].lstrip()) and not before.endswith((" ", "\\(", "\\$")):
        return None
    if re.match(r"[})^_\\*/+!]|[A-Za-z](?![A-Za-z])", after) and not after.startswith(("\\)", "\\%", "\\]", "\\ ")):
        return None
    joined = _JOINED.search(before)
    if joined and len(found) > 1 and not before[found[-2].end() : joined.start()].strip(" $"):
        return None
    rest = line[last.end() :]
    others = {match.group() for match in _NUMBER.finditer(MATH_SPAN.sub(" ", line))} - {last.group()}
    if others and (not _STATED.search(before[-80:]) or _COMPARED.match(rest)):
        return None
    return last.group().strip() + (measure_after(rest) if not last["currency"] else "")


def measure_after(rest: str) -> str:
    r"""The percent sign or known unit with which a text goes on: "\%", " cm"; empty: none."""
    if percent := _PERCENT.match(rest):
        return percent.group()
    match = _UNIT.match(rest)
    if match is None:
        return ""
    for words in dict.fromkeys((match.group(), match.group().split("/")[0].split(" per ")[0], *_first_word(rest))):
        goes_on = rest[len(words) :].strip(" .,!*$")
        if words.strip().lower() in _NO_UNITS and goes_on:
            continue
        if words.strip() and parse_unit(canonical(words)) is not None:
            return words
    return ""


def _first_word(rest: str) -> tuple[str, ...]:
    word = re.match(r"\s?[A-Za-z]{1,12}(?![A-Za-z^²³/])", rest)
    return () if word is None else (word.group(),)


def has_words(text: str) -> bool:
    """Whether there are words outside formulas."""
    return bool(set(_words(text)) - {"and", "or"})


def is_prose(value: str, words: int = 3) -> bool:
    """Whether a value is a sentence, of as many words at least, and so no answer that can be compared."""
    return len(_words(value)) >= words and not _is_answer(read(canonical(value[:MAX_CHARACTERS])))


def states_value(value: str) -> bool:
    """Whether there is anything in a value that a number or an expression can be compared with."""
    if re.search(r"[\d\\$=^_<>π∞√∅]", value):
        return True
    read_as = read(canonical(value[:MAX_CHARACTERS]))
    return _is_answer(read_as) or not (isinstance(read_as, Words) or len(_words(value)) > 1)


def _is_answer(value: Value) -> bool:
    if isinstance(value, Named):
        value = value.value
    if isinstance(value, Words):
        return value.text in MEANINGS
    return isinstance(value, Reals) or (isinstance(value, Scalar) and value.number is not None)


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]{2,}", re.sub(r"\\(?:begin|end)\{\w+\*?\}|\\[A-Za-z]+", " ", MATH_SPAN.sub("", text)))
