r"""What an answer says, read off its canonical notation: a scalar with its unit, words, a list, set, tuple or
interval, a matrix, an equation or inequality, real numbers between bounds, a ratio, a numeral with a base.

`read` never fails: what it does not know is a scalar, which algebra may understand.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace

from s1ray.grading.numbers import Number, number_in_words, parse_number
from s1ray.grading.units import Unit, split_unit

MAX_ITEMS = 200
"""Items of a list at most; longer ones are read as one scalar."""
_MAX_DEPTH = 8


@dataclass(frozen=True)
class Scalar:
    """One value: a number, or an expression for algebra."""

    text: str
    number: Number | None = None
    unit: Unit | None = None


@dataclass(frozen=True)
class Words:
    """An answer in words, without case, articles and punctuation; words of one meaning are the same word."""

    text: str


@dataclass(frozen=True)
class Named:
    r"""A value and whose it is: "x = 5", "f(x) = 2x", "x \in \{1, 2\}"."""

    name: str
    value: Value


@dataclass(frozen=True)
class Chain:
    """Sides between equals signs, at least two; of an equation, or of a calculation."""

    sides: tuple[str, ...]
    approximate: bool = False


@dataclass(frozen=True)
class Inequality:
    r"""Sides and the signs between them ("<", "\le", ">", "\ge")."""

    sides: tuple[str, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True)
class Items:
    """A list (no brackets), set, tuple, vector or interval."""

    items: tuple[Value, ...]
    brackets: str
    """"", "{}", "()", "[]", "(]" or "[)"."""
    alternatives: bool = False
    """Joined by "or"."""


@dataclass(frozen=True)
class Matrix:
    """Rows of entries."""

    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True)
class Piece:
    """Real numbers between two bounds; None: without bound."""

    low: str | None
    high: str | None
    low_closed: bool
    high_closed: bool


@dataclass(frozen=True)
class Reals:
    """A union of intervals, of the values of a variable where one is named."""

    pieces: tuple[Piece, ...]
    name: str | None = None


@dataclass(frozen=True)
class Ratio:
    """A ratio ("3:4", "1:2:3"), or a time of day."""

    parts: tuple[str, ...]
    unit: Unit | None = None


@dataclass(frozen=True)
class Based:
    """A numeral with a base: digits without leading zeros, in upper case."""

    digits: str
    base: int


Value = Scalar | Words | Named | Chain | Inequality | Items | Matrix | Reals | Ratio | Based

ALL_REALS = Reals((Piece(None, None, False, False),))
MEANINGS = {
    "yes": "yes true correct", "no": "no false", "none": (
        "none|no solution|no solutions|no real solution|no real solutions|no such|empty set|the empty set|no values|"
        "no value|no roots|no real roots|no answer exists|does not have a solution|has no solution"
    ),
    "undefined": "undefined|dne|does not exist|doesnt exist|not defined|limit does not exist|no limit|indeterminate",
    "infinity": "infinity|infinitely many|infinite|infinitely many solutions|unbounded|diverges to infinity",
}  # fmt: skip
_SAME_WORD = {
    phrase: meaning
    for meaning, phrases in MEANINGS.items()
    for phrase in (phrases.split("|") if "|" in phrases else phrases.split())
}
_REALS = re.compile(
    r"\\mathbb\{R\}|(?:the )?(?:set of )?all real(?: numbers?| values)?|all reals|real numbers|ℝ", re.IGNORECASE
)
_BASE = re.compile(r"(?P<digits>-?[0-9A-Za-z]+(?:\.[0-9A-Za-z]+)?)_\{?(?P<base>\d{1,2})\}?")
_BASE_WORDS = re.compile(r"(?P<digits>[0-9A-Za-z]+) (?:in )?base (?P<base>\d{1,2})", re.IGNORECASE)
_NAME = re.compile(
    r"\s*((?:[a-zA-Z]|\\[a-zA-Z]+)(?:_\{?\w{1,4}\}?|')?(?:\((?:[a-zA-Z]|\\[a-zA-Z]+)(?:,[ a-zA-Z]+)?\))?"
    r"|\([a-zA-Z](?:, ?[a-zA-Z])+\))\s*"
)
_WORD_NAME = re.compile(r"[A-Za-z][A-Za-z ]{1,40}")
# "AB", "\frac{NO}{BO}", "S_{1}:S_{2}", "\angle ABC": what is asked for, of geometry.
_QUANTITY = re.compile(r"(?:\\angle ?|\\frac|\\overline|[|{}/:() ]|[A-Z](?:_\{?\w{1,6}\}?)?)+")
_SIGNS = re.compile(r"\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|<|>")
_OPEN, _CLOSE = "([{", ")]}"
_MATRIX = re.compile(
    r"(?:\\left)?[(\[]?\\begin\{([pb]?matrix|array|smallmatrix)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}[)\]]?", re.DOTALL
)
_VECTOR = re.compile(r"\\langle(.*)\\rangle|<(.*)>")
_BUILDER = re.compile(r" ?([a-zA-Z])(?:\\in ?\\mathbb\{R\})? ?(?::|\||\\text\{:\}) ?(.*)")
_COMMAND = re.compile(r"\\[A-Za-z]+")


def read(text: str, depth: int = 0) -> Value:
    """The value of an answer in canonical notation."""
    text = _peeled(text)
    if depth > _MAX_DEPTH:
        return Scalar(text)
    if (number := parse_number(text)) is not None:
        return Scalar(text, number)
    for reading in (_phrase, _based, _matrix, _union, _joined, _plus_or_minus, _related, _bracketed, _ratio):
        value = reading(text, depth)
        if value is not None:
            return value
    return _quantity(text)


def items_of(text: str, separators: str = ",;") -> list[str]:
    """Split at separators outside brackets."""
    parts, depth, begin = [], 0, 0
    for index, character in enumerate(text):
        if character in _OPEN:
            depth += 1
        elif character in _CLOSE:
            depth -= 1
        elif depth <= 0 and character in separators:
            parts.append(text[begin:index])
            begin = index + 1
    return [part.strip() for part in [*parts, text[begin:]]]


def spaces_free(text: str) -> str:
    """A formula without spaces, but between letters."""
    return re.sub(r"(?<![A-Za-z]) +| +(?![A-Za-z])", "", text)


def spelling(text: str) -> str:
    """What two answers in words share, whatever their case, spaces and final full stop; the brackets of a list are not
    said.
    """
    bare = re.sub(r"\s+", "", text).casefold().rstrip(".")
    return bare[1:-1] if bare.startswith("[") and bare.endswith("]") and "[" not in bare[1:] else bare


def trivial(text: str) -> bool:
    """Whether an answer only says that something is itself ("0 = 0"), which is true of every answer."""
    sides = [spaces_free(side) for side in text.split("=")]
    return len(sides) > 1 and len(set(sides)) == 1


def _peeled(text: str) -> str:
    """Without braces and brackets around one value: "(12)", "{5}"."""
    text = text.strip().removeprefix("\\approx ").removeprefix("\\approx").strip()
    while len(text) > 2 and (
        text[0] + text[-1] == "{}" or (text[0] + text[-1] == "()" and len(items_of(text[1:-1])) == 1)
    ):
        if not _encloses(text):
            break
        text = text[1:-1].strip()
    return text


def _encloses(text: str) -> bool:
    """Whether the first bracket is closed by the last."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character in _OPEN) - (character in _CLOSE)
        if depth == 0:
            return index == len(text) - 1
    return False


def _phrase(text: str, depth: int) -> Value | None:
    if _REALS.fullmatch(text):
        return ALL_REALS
    if text in ("\\emptyset", "\\{\\}", "\\{ \\}"):
        return Words("none")
    if not re.fullmatch(r"[A-Za-z][A-Za-z' \-]+[.!]?", text) and not re.fullmatch(r"\d{1,9} ?(?:st|nd|rd|th)", text):
        return None
    number = number_in_words(text)
    if number is not None:
        return Scalar(text, number)
    bare = re.sub(r"[^a-z ]", "", text.lower().replace("-", " ")).strip()
    bare = re.sub(r"^(?:the|a|an|there (?:is|are)|it (?:is|has)) ", "", bare)
    if bare in _SAME_WORD:
        meaning = _SAME_WORD[bare]
        return Scalar("\\infty") if meaning == "infinity" else Words(meaning)
    quantity = number_in_words(bare.rpartition(" ")[0])
    if quantity is not None:
        return Scalar(text, quantity)
    # Two letters, or three without a vowel, are a product of variables.
    if len(bare) == 2 or (len(bare) == 3 and not set(bare) & set("aeiou ")):
        return None
    return Words(bare)


def _based(text: str, depth: int) -> Value | None:
    match = _BASE.fullmatch(text.replace(" ", "")) or _BASE_WORDS.fullmatch(text)
    if match is None or not re.search(r"\d", match["digits"]):
        return None
    sign, digits = ("-", match["digits"][1:]) if match["digits"][0] == "-" else ("", match["digits"])
    return Based(sign + (digits.upper().lstrip("0") or "0"), int(match["base"]))


def _matrix(text: str, depth: int) -> Value | None:
    if vector := _VECTOR.fullmatch(text):
        return Items(_read_all(vector[1] or vector[2], depth), "()")
    match = _MATRIX.fullmatch(text)
    if match is None:
        return None
    rows = [row for row in match[2].split("\\\\") if row.strip()]
    return Matrix(tuple(tuple(read(cell, depth + 1) for cell in row.split("&")) for row in rows))


def _union(text: str, depth: int) -> Value | None:
    match _split_command(text, r"\\cup(?![a-zA-Z])|(?<=[)\]]) ?U ?(?=[(\[])"):
        case [_]:
            pass
        case parts:
            name, parts[0] = _membership(parts[0])
            pieces = [as_reals(read(part, depth + 1)) for part in parts]
            if all(piece is not None for piece in pieces):
                return Reals(tuple(part for piece in pieces if piece for part in piece.pieces), name)
            return None
    match _split_command(text, r"\\setminus(?![a-zA-Z])|(?<=\}) ?- ?(?=\\\{)"):
        case [whole, without]:
            name, whole = _membership(whole)
            removed = read(without, depth + 1)
            if _REALS.fullmatch(whole.strip()) and isinstance(removed, Items) and removed.brackets == "{}":
                return _without([_text_of(item) for item in removed.items], name)
    return None


def _without(points: list[str], name: str | None) -> Reals:
    numbers = [(parse_number(point), point) for point in points]
    if all(number is not None for number, _ in numbers):
        points = [point for _, point in sorted(numbers, key=lambda pair: pair[0].value if pair[0] else 0)]
    bounds = [None, *points, None]
    return Reals(tuple(Piece(low, high, False, False) for low, high in itertools.pairwise(bounds)), name)


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
    if re.fullmatch(r"-?0,\d+", text):
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
        return Reals(tuple(piece for value in reals for piece in value.pieces), reals[0].name)
    flat: list[Value] = []
    for value in values:
        # "\pm 1, \pm 2" is one list of four.
        flat.extend(
            value.items if isinstance(value, Items) and value.brackets == "" and value.alternatives else [value]
        )
    return Items(tuple(flat), "", alternatives)


def _grouped(text: str) -> bool:
    """Whether the commas are those of one number."""
    return (
        re.fullmatch(
            r"[-+]?\\?\$?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?:%|\\?\$|€|£)?(?: ?[A-Za-z][A-Za-z/ ]*(?:\^\{\d\})?)?", text
        )
        is not None
    )


def _plus_or_minus(text: str, depth: int) -> Value | None:
    if "\\pm" not in text and "\\mp" not in text:
        return None
    if "=" in text or (text[:1] in _OPEN and _encloses(text)):
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
    match _split_command(text, r"\\ne(?![a-zA-Z])"):
        case [left, right] if _NAME.fullmatch(left) and right.strip():
            removed = [_text_of(item) for item in _as_items(read(right, depth + 1))]
            return _without(removed, left.strip())
    signs = _outside(text, _SIGNS)
    if signs and "=" not in text:
        sides = _cut(text, signs)
        if all(sides) and len(sides) in (2, 3):
            return _inequality(tuple(sides), tuple(match[0] for match in signs))
        return None
    equals = _outside(text, re.compile(r"=|\\approx(?![a-zA-Z])|\\equiv(?![a-zA-Z])"))
    if not equals:
        return None
    sides = _cut(text, equals)
    if not all(sides):
        return read(sides[-1], depth + 1) if sides[-1] and len(sides) == 2 else None
    approximate = any(match[0] == "\\approx" for match in equals)
    if any(pattern.fullmatch(sides[0].strip()) for pattern in (_NAME, _WORD_NAME, _QUANTITY)):
        name = spaces_free(sides[0])
        if len(sides) == 2:
            return Named(name, read(sides[1], depth + 1))
        if _NAME.fullmatch(sides[1]) and len(sides) == 3:
            return Named(name, read(sides[2], depth + 1))
        return Named(name, Chain(tuple(sides[1:]), approximate))
    return Chain(tuple(sides), approximate)


def _inequality(sides: tuple[str, ...], signs: tuple[str, ...]) -> Value:
    if len(sides) == 2:
        left, right = sides
        (sign,) = signs
        if _NAME.fullmatch(left) and not _mentions(right, left):
            return _half_line(left, sign, right)
        if _NAME.fullmatch(right) and not _mentions(left, right):
            return _half_line(right, _TURNED[sign], left)
    elif _NAME.fullmatch(sides[1]) and len({_DIRECTION[sign] for sign in signs}) == 1:
        low, name, high = sides
        first, second = signs
        if _DIRECTION[first] == ">":
            low, high, first, second = high, low, _TURNED[second], _TURNED[first]
        return Reals((_piece(low, high, first == "\\le", second == "\\le"),), spaces_free(name))
    return Inequality(sides, signs)


_TURNED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
_DIRECTION = {"<": "<", "\\le": "<", ">": ">", "\\ge": ">"}


def _half_line(name: str, sign: str, bound: str) -> Reals:
    closed = sign in ("\\le", "\\ge")
    bounds = (None, bound, False, closed) if _DIRECTION[sign] == "<" else (bound, None, closed, False)
    return Reals((_piece(*bounds),), spaces_free(name))


def _piece(low: str | None, high: str | None, low_closed: bool, high_closed: bool) -> Piece:
    low = None if low is None or spaces_free(low) in ("-\\infty", "-\\infty ") else low.strip()
    high = None if high is None or spaces_free(high) in ("\\infty", "+\\infty") else high.strip()
    return Piece(low, high, low_closed and low is not None, high_closed and high is not None)


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"(?<![A-Za-z\\]){re.escape(name.strip())}(?![A-Za-z])", _COMMAND.sub(" ", text)) is not None


def _bracketed(text: str, depth: int) -> Value | None:
    if text.startswith("\\{") and text.endswith("\\}") and not _outside(text[2:-2], re.compile(r"\\\}")):
        inner = text[2:-2]
        if builder := _BUILDER.fullmatch(inner):
            # "\\{x : x > 3\\}"
            condition = read(builder[2], depth + 1)
            if isinstance(condition, Reals):
                return condition
        return Items(_expanded(_read_all(inner, depth)), "{}")
    if text[:1] not in ("(", "[") or text[-1:] not in (")", "]") or not _encloses(text):
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
    parts = items_of(value.replace("\\colon", ":"), ":")
    if len(parts) < 2 or len(parts) > 10 or any(not part for part in parts):
        return None
    return Ratio(tuple(parts), unit)


def _quantity(text: str) -> Value:
    value, unit = split_unit(text)
    number = parse_number(value)
    if number is None and value != text:
        inner = read(value, _MAX_DEPTH)
        value = _text_of(inner)
    if number is None and value != text and not value:
        value = text
    if number is None and re.fullmatch(r"-?0,\d+", value):
        number = parse_number(value.replace(",", "."))
    if number is None and unit is None and _is_prose(value):
        return Words(" ".join(re.sub(r"[^a-z0-9 ]", " ", value.lower()).split()))
    return Scalar(value, number, unit)


def _is_prose(text: str) -> bool:
    return any(len(word) >= 4 for word in re.findall(r"[A-Za-z]+", _COMMAND.sub(" ", text)))


def as_reals(value: Value) -> Reals | None:
    """A value as real numbers between bounds, where it can be meant so: "(0, 5]" can."""
    if isinstance(value, Reals):
        return value
    if isinstance(value, Items) and value.brackets in ("()", "[]", "(]", "[)") and len(value.items) == 2:
        low, high = (_text_of(item) for item in value.items)
        return Reals((_piece(low, high, value.brackets[0] == "[", value.brackets[1] == "]"),))
    if isinstance(value, Items) and value.brackets == "" and value.alternatives:
        pieces = [as_reals(item) for item in value.items]
        if all(piece is not None for piece in pieces):
            return Reals(tuple(part for piece in pieces if piece for part in piece.pieces))
    return None


def _as_items(value: Value) -> tuple[Value, ...]:
    return value.items if isinstance(value, Items) else (value,)


def _is_set(value: Value) -> bool:
    return isinstance(value, Items) and value.brackets == "{}"


def _text_of(value: Value) -> str:
    return value.text if isinstance(value, Scalar | Words) else ""


def _outside(text: str, pattern: re.Pattern[str]) -> list[re.Match[str]]:
    """Matches outside brackets."""
    depths, depth = [], 0
    for character in text:
        depth += (character in _OPEN) - (character in _CLOSE)
        depths.append(depth)
    return [match for match in pattern.finditer(text) if depths[match.start()] <= 0]


def _cut(text: str, matches: list[re.Match[str]]) -> list[str]:
    begins = [0, *(match.end() for match in matches)]
    ends = [*(match.start() for match in matches), len(text)]
    return [text[begin:end].strip() for begin, end in zip(begins, ends, strict=True)]


def _split_command(text: str, pattern: str) -> list[str]:
    return _cut(text, _outside(text, re.compile(pattern)))
