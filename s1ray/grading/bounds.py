"""Real numbers between bounds: intervals, inequalities of one variable ("|x - 1| < 2"), unions, what is left out."""

from __future__ import annotations

import itertools
import re
from fractions import Fraction

from s1ray.grading.numbers import parse_number
from s1ray.grading.splitting import spaces_free
from s1ray.grading.values import ALL_REALS, Inequality, Items, Piece, Reals, Scalar, Value, Words

NAME = re.compile(
    r"\s*((?:[a-zA-Z]|\\[a-zA-Z]+)(?:_\{?\w{1,4}\}?|')?(?:\((?:[a-zA-Z]|\\[a-zA-Z]+)(?:,[ a-zA-Z]+)?\))?"
    r"|\([a-zA-Z](?:, ?[a-zA-Z])+\))\s*"
)
"""A variable, "f(x)" or "(x, y)"."""
_COMMAND = re.compile(r"\\[A-Za-z]+")
_ABSOLUTE = re.compile(r"\|([a-zA-Z])(?:([-+])([^|]+))?\|")
_TURNED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
_DIRECTION = {"<": "<", "\\le": "<", ">": ">", "\\ge": ">"}


def inequality(sides: tuple[str, ...], signs: tuple[str, ...]) -> Inequality | Reals:
    """Two or three sides; the values of a variable, where it stands alone on one."""
    if len(sides) == 2 and (NAME.fullmatch(sides[1]) or _ABSOLUTE.fullmatch(sides[1])):
        sides, signs = (sides[1], sides[0]), (_TURNED[signs[0]],)
    if len(sides) == 3 and _DIRECTION[signs[0]] == ">":
        sides, signs = (sides[2], sides[1], sides[0]), (_TURNED[signs[1]], _TURNED[signs[0]])
    if len(sides) == 3 and {_DIRECTION[sign] for sign in signs} != {"<"}:
        return Inequality(sides, signs)
    name = sides[-2]
    if NAME.fullmatch(name):
        if len(sides) == 3:
            low, _, high = sides
            return Reals((_piece(low, high, signs[0] == "\\le", signs[1] == "\\le"),), spaces_free(name))
        if not _mentions(sides[1], name):
            return Reals((_half_line(signs[0], sides[1]),), spaces_free(name))
    return _around(sides, signs) or Inequality(sides, signs)


def as_reals(value: Value) -> Reals | None:
    """A value as real numbers between bounds, where it can be meant so: "(0, 5]" can."""
    if isinstance(value, Reals):
        return value
    if isinstance(value, Items) and value.brackets in ("()", "[]", "(]", "[)") and len(value.items) == 2:
        low, high = (text_of(item) for item in value.items)
        return Reals((_piece(low, high, value.brackets[0] == "[", value.brackets[1] == "]"),))
    if isinstance(value, Items) and value.brackets == "" and value.alternatives:
        return union([as_reals(item) for item in value.items])
    return None


def points(value: Value) -> Reals | None:
    r"""A set of numbers as intervals of one point each, for unions: "\{5\}"."""
    if not isinstance(value, Items) or value.brackets != "{}" or not value.items:
        return None
    texts = [text_of(item) for item in value.items]
    return Reals(tuple(Piece(text, text, True, True) for text in texts)) if all(texts) else None


def union(parts: list[Reals | None], name: str | None = None) -> Reals | None:
    """All that is in one of several; None, where one is None."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    pieces = tuple(piece for part in known for piece in part.pieces)
    return Reals(_merged(pieces) or pieces, name or next((part.name for part in known if part.name), None))


def all_but(removed: list[str], name: str | None = None) -> Reals:
    """All real numbers but some points."""
    numbers = [_number(point) for point in removed]
    if None not in numbers:
        removed = [point for _, point in sorted(zip(numbers, removed, strict=True), key=lambda pair: pair[0] or 0)]
    bounds = [None, *removed, None]
    return Reals(tuple(Piece(low, high, False, False) for low, high in itertools.pairwise(bounds)), name)


def without(whole: Reals, removed: Reals, name: str | None = None) -> Reals | None:
    """What is in one and not in the other, where all bounds are numbers."""
    taken, given = _merged(removed.pieces), _merged(whole.pieces)
    if taken is None or given is None:
        return all_but([piece.low or "" for piece in removed.pieces], name) if _open_to_all(whole, removed) else None
    left = []
    for piece in given:
        rest: Piece | None = piece
        for hole in taken:
            if rest is None or not _overlap(rest, hole):
                continue
            before = Piece(rest.low, hole.low, rest.low_closed, not hole.low_closed) if hole.low is not None else None
            if before is not None and not _empty(before):
                left.append(before)
            rest = (
                Piece(hole.high, rest.high, not hole.high_closed, rest.high_closed) if hole.high is not None else None
            )
        if rest is not None and not _empty(rest):
            left.append(rest)
    return Reals(tuple(left), name) if left else None


def text_of(value: Value) -> str:
    """The text of a leaf."""
    return value.text if isinstance(value, Scalar | Words) else ""


def _around(sides: tuple[str, ...], signs: tuple[str, ...]) -> Reals | None:
    """An inequality of a distance: "|x| < 2", "1 < |x - 3| < 2"."""
    match = _ABSOLUTE.fullmatch(sides[-2].strip())
    if match is None:
        return None
    name, centre = match[1], _number(match[3]) if match[3] else Fraction(0)
    far = _number(sides[-1])
    if centre is None or far is None or far <= 0:
        return None
    centre = -centre if match[2] == "+" else centre
    near = _number(sides[0]) if len(sides) == 3 else Fraction(0)
    if near is None or near < 0:
        return None
    closed = signs[-1] in ("\\le", "\\ge")
    if _DIRECTION[signs[-1]] == ">":
        left = Piece(None, _text(centre - far), False, closed)
        return Reals((left, Piece(_text(centre + far), None, closed, False)), name)
    if len(sides) == 2:
        return Reals((Piece(_text(centre - far), _text(centre + far), closed, closed),), name)
    inner = signs[0] == "\\le"
    left = Piece(_text(centre - far), _text(centre - near), closed, inner)
    return union([Reals((left, Piece(_text(centre + near), _text(centre + far), inner, closed)))], name)


def _half_line(sign: str, bound: str) -> Piece:
    closed = sign in ("\\le", "\\ge")
    return _piece(None, bound, False, closed) if _DIRECTION[sign] == "<" else _piece(bound, None, closed, False)


def _piece(low: str | None, high: str | None, low_closed: bool, high_closed: bool) -> Piece:
    low = None if low is None or spaces_free(low) in ("-\\infty", "-\\infty ") else low.strip()
    high = None if high is None or spaces_free(high) in ("\\infty", "+\\infty") else high.strip()
    return Piece(low, high, low_closed and low is not None, high_closed and high is not None)


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"(?<![A-Za-z\\]){re.escape(name.strip())}(?![A-Za-z])", _COMMAND.sub(" ", text)) is not None


def _merged(pieces: tuple[Piece, ...]) -> tuple[Piece, ...] | None:
    """The same numbers in ascending intervals that do not touch; None, where a bound is no number."""
    if any(bound is not None and _number(bound) is None for piece in pieces for bound in (piece.low, piece.high)):
        return None
    merged: list[Piece] = []
    for piece in sorted((piece for piece in pieces if not _empty(piece)), key=lambda p: (*_low(p), not p.low_closed)):
        last = merged[-1] if merged else None
        if last is None or not _touch(last, piece):
            merged.append(piece)
            continue
        if (*_high(piece), piece.high_closed) > (*_high(last), last.high_closed):
            merged[-1] = Piece(last.low, piece.high, last.low_closed, piece.high_closed)
    return tuple(merged)


def _touch(left: Piece, right: Piece) -> bool:
    """Whether nothing lies between two, of which the first begins first."""
    end, begin = _high(left), _low(right)
    return begin < end or (begin == end and (left.high_closed or right.low_closed))


def _overlap(one: Piece, other: Piece) -> bool:
    first, second = sorted((one, other), key=_low)
    end, begin = _high(first), _low(second)
    return begin < end or (begin == end and first.high_closed and second.low_closed)


def _empty(piece: Piece) -> bool:
    low, high = _low(piece), _high(piece)
    return low > high or (low == high and not (piece.low_closed and piece.high_closed))


def _low(piece: Piece) -> tuple[int, Fraction]:
    return (-1, Fraction(0)) if piece.low is None else (0, _number(piece.low) or Fraction(0))


def _high(piece: Piece) -> tuple[int, Fraction]:
    return (1, Fraction(0)) if piece.high is None else (0, _number(piece.high) or Fraction(0))


def _open_to_all(whole: Reals, removed: Reals) -> bool:
    """Whether single points, of which some are no plain numbers, are taken out of all reals."""
    return whole.pieces == ALL_REALS.pieces and all(piece.low == piece.high for piece in removed.pieces)


def _number(text: str) -> Fraction | None:
    number = parse_number(text.strip())
    return None if number is None or number.percent else number.value


def _text(number: Fraction) -> str:
    return str(number.numerator) if number.denominator == 1 else f"\\frac{{{number.numerator}}}{{{number.denominator}}}"
