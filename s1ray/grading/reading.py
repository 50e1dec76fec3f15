r"""Reads what an answer says off its canonical notation, as one of the `values`.

`read` never fails: what it does not know is a scalar, which algebra may understand.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

from s1ray.grading.bounds import NAME, all_but, as_reals, inequality, points, text_of, union, without
from s1ray.grading.congruences import read_residues
from s1ray.grading.matrices import read_matrix
from s1ray.grading.numbers import Number, number_in_words, parse_number
from s1ray.grading.phrases import mixed_case, read_phrase
from s1ray.grading.splitting import OPENING, cut, encloses, items_of, outside, peeled, spaces_free, split_command
from s1ray.grading.units import compound, split_unit
from s1ray.grading.values import (
    Based,
    Chain,
    Inequality,
    Items,
    Named,
    Ratio,
    Reals,
    Scalar,
    Value,
    Words,
)

MAX_ITEMS = 200
"""Items of a list at most; longer ones are read as one scalar."""
_MAX_DEPTH = 8
_BASE = re.compile(r"(?P<digits>-?[0-9A-Za-z]+(?:\.[0-9A-Za-z]+)?)_\{?(?P<base>\d{1,2}|[a-z]{3,9})\}?")
_BASE_WORDS = re.compile(
    r"(?P<digits>[0-9A-Za-z]+) (?:in )?base[- ]"
    r"(?P<base>\d{1,2}|two|three|four|five|six|seven|eight|nine|ten|twelve|sixteen)",
    re.IGNORECASE,
)
_WORD_NAME = re.compile(r"[A-Za-z][A-Za-z ]{1,40}")
# "AB", "\frac{NO}{BO}", "S_{1}:S_{2}", "\angle ABC", "|A \cup B|": what is asked for, of geometry and sets.
_QUANTITY = re.compile(r"(?:\\angle ?|\\frac|\\overline|\\cup ?|\\cap ?|[|{}/:()+ ]|[A-Z](?:_\{?\w{1,6}\}?)?)+")
# "f(3)", "f^{-1}(2)", "P(A | B)", "E[X]".
_ASKED = re.compile(
    r"(?:[fghpqrstuvwFGHNST](?:_\{?\w{1,6}\}?|'{1,2}|\^\{-1\}|\^\{\(\d\)\})?\((?:-?[\d., /]+|\\frac\{-?\d+\}\{\d+\})\)"
    r"|[a-zA-Z]_\{\\?(?:max|min) ?\}|\\(?:max|min) ?[a-zA-Z](?:\([a-z]\))?|\[[A-Z]{3,6}\]"
    r"|\\(?:vec|hat|bar|overline|overrightarrow) ?\{?[a-zA-Z]{1,3}\}?"
    r"|(?:[PE]|\\Pr|\\mathbb\{[PE]\}|Var|Cov) ?[(\[][^=()\[\]]{1,60}[)\]])"
)
_CONSTANTS = ("\\pi", "\\infty")
_SIGNS = re.compile(r"\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|<|>")
_BUILDER = re.compile(r" ?([a-zA-Z]) ?(?:\\in ?\\mathbb\{R\})? ?(?::|\||\\text\{:\}) ?(.*)")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_LABEL = re.compile(
    r"(?:(?:the )?(?:final |correct )?answer(?: is)?|(?:we )?(?:get|have)) ?:? ?(?=[^A-Za-z])", re.IGNORECASE
)
_POINT = re.compile(r"([A-Z](?:_\{?\d{1,2}\}?|'{1,2})?) ?(?=\()")
# "]2, 3]" and "[2, 3[" have open ends.
_OPEN_LEFT = re.compile(r"(^|\\(?:in|cup) ?)\](?=[^][]*[,;][^][]*[][])")
_OPEN_RIGHT = re.compile(r"([\[(][^][()]*[,;][^][()]*)\[(?= ?(?:$|\\cup))")


def read(text: str, depth: int = 0) -> Value:
    """The value of an answer in canonical notation."""
    text = _LABEL.sub("", peeled(text), count=1) if depth == 0 else peeled(text)
    if depth > _MAX_DEPTH:
        return Scalar(text)
    if (number := parse_number(text)) is not None:
        return Scalar(text, number)
    if "]" in text or "[" in text:
        text = _OPEN_RIGHT.sub(r"\1)", _OPEN_LEFT.sub(r"\1(", text))
    for reading in _READERS:
        value = reading(text, depth)
        if value is not None:
            return value
    return _quantity(text)


def _phrase(text: str, depth: int) -> Value | None:
    return read_phrase(text)


def _based(text: str, depth: int) -> Value | None:
    match = _BASE.fullmatch(text.replace(" ", "")) or _BASE_WORDS.fullmatch(text)
    if match is None or not re.search(r"\d", match["digits"]):
        return None
    words = None if match["base"].isdigit() else number_in_words(match["base"])
    if words is None and not match["base"].isdigit():
        return None
    sign, digits = ("-", match["digits"][1:]) if match["digits"][0] == "-" else ("", match["digits"])
    base = int(words.value) if words else int(match["base"])
    return Based(sign + (digits.upper().lstrip("0") or "0"), base)


def _residues(text: str, depth: int) -> Value | None:
    return read_residues(text)


def _matrix(text: str, depth: int) -> Value | None:
    return read_matrix(text, lambda part: read(part, depth + 1))


def _named_matrix(text: str, depth: int) -> Value | None:
    """A matrix or a system with its name, whose signs and commas are its own."""
    left, equals, right = text.partition("=")
    if not equals or not re.match(r" ?(?:\\\{|[(\[])? ?\\begin", right):
        return None
    left = left.strip()
    if not (NAME.fullmatch(left) or _ASKED.fullmatch(left) or re.fullmatch(r"[A-Z]\^(?:\{-?\w{1,3}\}|\w)", left)):
        return None
    value = read_matrix(right.strip(), lambda part: read(part, depth + 1))
    return None if value is None else Named(spaces_free(left), value)


def _compound(text: str, depth: int) -> Value | None:
    """Several units: "3 hours 30 minutes", degrees with minutes."""
    found = compound(text)
    if found is None:
        return None
    value, unit = found
    return Scalar(f"\\frac{{{value.numerator}}}{{{value.denominator}}}", Number(value), unit)


def _union(text: str, depth: int) -> Value | None:
    match split_command(text, r"\\cup(?![a-zA-Z])|(?<=[)\]]) ?U ?(?=[(\[])"):
        case [_]:
            pass
        case parts:
            name, parts[0] = _membership(parts[0])
            values = [read(part, depth + 1) for part in parts]
            if all(_is_set(value) for value in values):
                return Items(tuple(item for value in values for item in _as_items(value)), "{}")
            return union([as_reals(value) or points(value) for value in values], name)
    match split_command(text, r"\\setminus(?![a-zA-Z])|(?<=[}\])]) ?- ?(?=\\\{)"):
        case [whole, removed]:
            name, whole = _membership(whole)
            reals, hole = as_reals(read(whole, depth + 1)), read(removed, depth + 1)
            taken = points(hole) or as_reals(hole)
            return None if reals is None or taken is None else without(reals, taken, name)
    return None


def _membership(text: str) -> tuple[str | None, str]:
    match = re.match(r"\s*([a-zA-Z])\s*\\in(?![a-zA-Z])\s*", text)
    return (match[1], text[match.end() :]) if match else (None, text)


def _joined(text: str, depth: int) -> Value | None:
    if _grouped(text):
        return None
    alternatives = re.search(r"(?<![A-Za-z\\])or(?![A-Za-z])", text) is not None
    joined = re.sub(
        r"\s*,?\s*(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])\s*|\s*\\&\s*|\s*\\wedge\s*|\s*\\vee\s*|\s+&\s+", ", ", text
    )
    parts = items_of(joined, ";") if ";" in joined else [joined]
    parts = items_of(joined) if len(parts) < 2 else parts
    if len(parts) < 2 or len(parts) > MAX_ITEMS or any(not part for part in parts):
        return None
    if re.fullmatch(r"-?0,\d+|-?\d{1,3}(?:\.\d{3})+,\d+", text):
        # A decimal comma.
        return None
    values = [read(part, depth + 1) for part in parts]
    first, others = values[0], values[1:]
    related = any(isinstance(value, Named | Chain | Inequality | Reals) for value in others)
    if isinstance(first, Named) and not related and not isinstance(first.value, Items):
        # "n = 2, 3, 4"
        return Named(first.name, Items((first.value, *others), "", alternatives))
    reals = [value for value in values if isinstance(value, Reals)]
    if len(reals) == len(values) and alternatives:
        return union(list(reals))
    flat: list[Value] = []
    for value in values:
        # "\pm 1, \pm 2" is one list of four.
        flat.extend(
            value.items if isinstance(value, Items) and value.brackets == "" and value.alternatives else [value]
        )
    return Items(_progression(tuple(flat)), "", alternatives)


def _progression(values: tuple[Value, ...]) -> tuple[Value, ...]:
    """Numbers of which the middle is left out, in full: "1, 2, ..., 5"."""
    numbers = [value.number.value if isinstance(value, Scalar) and value.number else None for value in values]
    if len(values) < 4 or text_of(values[-2]).strip() != "\\ldots" or None in (*numbers[:-2], numbers[-1]):
        return values
    given = [number for number in numbers if number is not None]
    step, last = given[1] - given[0], given[-1]
    steps = [right - left for left, right in itertools.pairwise(given[:-1])]
    if not step or any(other != step for other in steps):
        return values
    missing = (last - given[-2]) / step
    if missing.denominator != 1 or not 1 <= missing <= MAX_ITEMS:
        return values
    full = [given[0] + step * place for place in range(len(given) - 2 + int(missing) + 1)]
    return tuple(Scalar(str(number), Number(number)) for number in full)


def _grouped(text: str) -> bool:
    """Whether the commas are those of one number."""
    return (
        re.fullmatch(
            r"[-+]?\\?\$?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?:%|\\?\$|€|£)?(?: ?[A-Za-z][A-Za-z/ ]*(?:\^\{\d\})?)?", text
        )
        is not None
    )


def _plus_or_minus(text: str, depth: int) -> Value | None:
    if not re.search(r"\\[pm][pm](?![a-zA-Z])", text):
        return None
    if "=" in text or (text[:1] in OPENING and encloses(text)):
        return None
    plus = re.sub(r"\\pm\s*", "+", text).replace("\\mp", "-")
    minus = re.sub(r"\\pm\s*", "-", text).replace("\\mp", "+")
    values = (read(plus.lstrip("+"), depth + 1), read(minus.lstrip("+"), depth + 1))
    return Items(values, "", True)


def _related(text: str, depth: int) -> Value | None:
    name, rest = _membership(text)
    if name is not None:
        value = read(rest, depth + 1)
        reals = as_reals(value) if isinstance(value, Items | Reals) and not _is_set(value) else None
        return Named(name, value) if reals is None else replace(reals, name=name)
    match split_command(text, r"\\ne(?![a-zA-Z])"):
        case [left, right] if NAME.fullmatch(left) and right.strip():
            removed = [text_of(item) for item in _as_items(read(right, depth + 1))]
            return all_but(removed, left.strip())
    signs = outside(text, _SIGNS)
    if signs and "=" not in text:
        sides = cut(text, signs)
        if all(sides) and len(sides) in (2, 3):
            return inequality(tuple(sides), tuple(match[0] for match in signs))
        return None
    equals = outside(text, re.compile(r"=|\\approx(?![a-zA-Z])|\\equiv(?![a-zA-Z])"))
    if not equals:
        return None
    sides = cut(text, equals)
    if not all(sides):
        return read(sides[-1], depth + 1) if sides[-1] and len(sides) == 2 else None
    approximate = any(match[0] == "\\approx" for match in equals)
    left = sides[0].strip()
    if left not in _CONSTANTS and any(p.fullmatch(left) for p in (NAME, _WORD_NAME, _QUANTITY, _ASKED)):
        name = spaces_free(sides[0])
        if len(sides) == 2:
            return Named(name, read(sides[1], depth + 1))
        if NAME.fullmatch(sides[1]) and len(sides) == 3:
            return Named(name, read(sides[2], depth + 1))
        return Named(name, Chain(tuple(sides[1:]), approximate))
    return Chain(tuple(sides), approximate)


def _bracketed(text: str, depth: int) -> Value | None:
    if text.startswith("\\{") and text.endswith("\\}") and not outside(text[2:-2], re.compile(r"\\\}")):
        inner = text[2:-2]
        if builder := _BUILDER.fullmatch(inner):
            # "\\{x : x > 3\\}"
            condition = read(builder[2], depth + 1)
            if isinstance(condition, Reals):
                return condition
        return Items(_progression(_expanded(_read_all(inner, depth))), "{}")
    point = _POINT.match(text)
    if point is not None and encloses(text[point.end() :]) and len(items_of(text[point.end() + 1 : -1])) > 1:
        return Named(point[1], read(text[point.end() :], depth + 1))
    if text[:1] not in ("(", "[") or text[-1:] not in (")", "]") or not encloses(text):
        return None
    inner = text[1:-1]
    if len(items_of(inner)) < 2 and text[0] == "(":
        return None
    return Items(_read_all(inner, depth), text[0] + text[-1])


def _read_all(text: str, depth: int) -> tuple[Value, ...]:
    parts = items_of(text)
    return tuple(read(part, depth + 1) for part in parts if part) if len(parts) <= MAX_ITEMS else (Scalar(text),)


def _expanded(values: tuple[Value, ...]) -> tuple[Value, ...]:
    flat: list[Value] = []
    for value in values:
        flat.extend(value.items if isinstance(value, Items) and value.brackets == "" else [value])
    return tuple(flat)


def _ratio(text: str, depth: int) -> Value | None:
    value, unit = split_unit(text)
    value = re.sub(r"(?<=\d) to (?=\d)", ":", value)
    parts = items_of(value.replace("\\colon", ":"), ":")
    if len(parts) < 2 or len(parts) > 10 or any(not part for part in parts):
        return None
    return Ratio(tuple(parts), unit)


def _quantity(text: str) -> Value:
    value, unit = split_unit(text)
    number = parse_number(value)
    if number is None and value != text:
        inner = read(value, _MAX_DEPTH)
        value = text_of(inner)
    if number is None and value != text and not value:
        value = text
    if number is None and re.fullmatch(r"-?0,\d+|-?\d{1,3}(?:\.\d{3})+,\d+", value):
        number = parse_number(value.replace(".", "").replace(",", "."))
    if number is None and unit is None and _is_prose(value):
        return Words(" ".join(re.sub(r"[^a-z0-9 ]", " ", value.lower()).split()))
    return Scalar(value, number, unit)


def _is_prose(text: str) -> bool:
    return any(len(word) >= 4 and not mixed_case(word) for word in re.findall(r"[A-Za-z]+", _COMMAND.sub(" ", text)))


def _as_items(value: Value) -> tuple[Value, ...]:
    return value.items if isinstance(value, Items) else (value,)


def _is_set(value: Value) -> bool:
    return isinstance(value, Items) and value.brackets == "{}"


_READERS = (
    _phrase,
    _based,
    _residues,
    _matrix,
    _named_matrix,
    _compound,
    _union,
    _joined,
    _plus_or_minus,
    _related,
    _bracketed,
    _ratio,
)
"""In this order; the first that knows the text decides."""
