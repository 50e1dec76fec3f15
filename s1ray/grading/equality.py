r"""Whether two answers say the same: structure by structure, exactly, with the leaves left to a `Leaves`.

Lists and sets are compared without order, tuples and vectors with it; a set is no tuple, an open interval no closed
one. An equation is the same as its multiples; in a calculation ("5 = 2 + 3") every equals sign must hold. Two names
must agree, units must measure the same thing; where one side has none, the other's says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from s1ray.grading.bounds import as_reals
from s1ray.grading.congruences import same_residues
from s1ray.grading.matrices import as_vectors, flat_vector, rows_of
from s1ray.grading.numbers import same_number
from s1ray.grading.reading import read
from s1ray.grading.splitting import spaces_free
from s1ray.grading.units import DEGREE, RADIAN, Unit, same_kind
from s1ray.grading.values import (
    Based,
    Chain,
    Inequality,
    Items,
    Matrix,
    Named,
    Piece,
    Ratio,
    Reals,
    Residues,
    Scalar,
    Value,
    Words,
)

T = TypeVar("T")
_SUM = re.compile(r"[a-z](?:_\{?\w\}?)?(?: ?\+ ?[a-z](?:_\{?\w\}?)?){1,5}")


class Leaves(Protocol):
    """Compares expressions in canonical notation. What cannot be read as mathematics is equal to nothing."""

    def equal(self, gold: str, answer: str) -> bool:
        """Whether two expressions have the same value, whatever their variables are."""

    def near(self, one: str, other: str) -> bool:
        """Whether two values differ by a hundredth at most."""

    def multiples(self, gold: tuple[str, str], answer: tuple[str, str], *, positive: bool) -> bool:
        """Whether the difference of two sides is that of two others times a constant (a positive one, if asked)."""


class Comparison:
    """Compares values; `leaves` decides about expressions."""

    def __init__(self, leaves: Leaves):
        self._leaves = leaves

    def same(self, gold: Value, answer: Value) -> bool:
        """Whether an answer says what the reference says."""
        gold, answer = as_vectors(gold, answer)
        if isinstance(gold, Named) or isinstance(answer, Named):
            return self._named(gold, answer)
        if isinstance(gold, Chain) or isinstance(answer, Chain):
            return self._chains(gold, answer)
        if isinstance(gold, Inequality) or isinstance(answer, Inequality):
            return self._inequalities(gold, answer)
        if isinstance(gold, Residues) or isinstance(answer, Residues):
            return same_residues(gold, answer)
        if isinstance(gold, Matrix) or isinstance(answer, Matrix):
            return self._matrices(gold, answer)
        if isinstance(gold, Reals) or isinstance(answer, Reals):
            return self._reals(gold, answer)
        if isinstance(gold, Items) or isinstance(answer, Items):
            return self._items(gold, answer)
        if isinstance(gold, Words) or isinstance(answer, Words):
            return isinstance(gold, Words) and isinstance(answer, Words) and gold.text == answer.text
        if isinstance(gold, Based) or isinstance(answer, Based):
            return _bases(gold, answer)
        if isinstance(gold, Ratio) or isinstance(answer, Ratio):
            return self._ratios(gold, answer)
        return self._scalars(gold, answer)

    def _named(self, gold: Value, answer: Value) -> bool:
        if isinstance(gold, Named) and isinstance(answer, Named):
            if gold.name == answer.name or (
                {gold.name[1:2], answer.name[1:2]} == {"(", ""} and _of_function(gold, answer)
            ):
                return self.same(gold.value, answer.value)
            return self._equations(gold, answer)
        if isinstance(gold, Named):
            if isinstance(answer, Chain):
                return self._equations(gold, answer) or self.same(gold.value, answer)
            if isinstance(answer, Reals) and answer.name not in (None, gold.name):
                return False
            return self.same(gold.value, answer)
        assert isinstance(answer, Named)
        if isinstance(gold, Chain) and self._equations(gold, answer):
            return True
        return self.same(gold, answer.value)

    def _equations(self, gold: Value, answer: Value) -> bool:
        one, other = _equation(gold), _equation(answer)
        return one is not None and other is not None and self._leaves.multiples(one, other, positive=False)

    def _chains(self, gold: Value, answer: Value) -> bool:
        if isinstance(gold, Chain) and isinstance(answer, Chain):
            if len(gold.sides) == 2 == len(answer.sides):
                return self._equations(gold, answer)
            return len(gold.sides) == len(answer.sides) and all(
                self.same(read(one), read(other)) for one, other in zip(gold.sides, answer.sides, strict=True)
            )
        if isinstance(gold, Chain):
            # A calculation answers with its result; an equation is no answer of one side.
            first, last = read(gold.sides[0]), read(gold.sides[-1])
            return self.same(last, answer) and (gold.approximate or self.same(first, last))
        assert isinstance(answer, Chain)
        sides = [read(side) for side in answer.sides]
        if len({spaces_free(side) for side in answer.sides}) == 1:
            # "0 = 0" is true of every answer.
            return False
        if answer.approximate:
            return self._near(sides) and any(self.same(gold, side) for side in (sides[0], sides[-1]))
        if isinstance(gold, Scalar) and gold.number is not None and len(sides) == 2 and _SUM.fullmatch(answer.sides[0]):
            # "m+n = 113"
            return self.same(gold, sides[1])
        return self.same(gold, sides[-1]) and all(self.same(sides[-1], side) for side in sides[:-1])

    def _near(self, sides: list[Value]) -> bool:
        """Whether all sides of a calculation with approximations are about the same."""
        texts = [side.text for side in sides if isinstance(side, Scalar)]
        return len(texts) == len(sides) and all(self._leaves.near(texts[0], text) for text in texts[1:])

    def _inequalities(self, gold: Value, answer: Value) -> bool:
        one, other = _inequality(gold), _inequality(answer)
        if one is None or other is None:
            return False
        if len(one.sides) == 2 == len(other.sides):
            left, right = _ascending(one), _ascending(other)
            same_kind = ("\\le" in one.signs[0] or "\\ge" in one.signs[0]) == (
                "\\le" in other.signs[0] or "\\ge" in other.signs[0]
            )
            return same_kind and self._leaves.multiples(left, right, positive=True)
        return one.signs == other.signs and all(
            self._leaves.equal(left, right) for left, right in zip(one.sides, other.sides, strict=True)
        )

    def _matrices(self, gold: Value, answer: Value) -> bool:
        one, other = rows_of(gold), rows_of(answer)
        if one is None or other is None:
            return False
        if not (isinstance(gold, Matrix) and isinstance(answer, Matrix)):
            # A vector may be written as a row, as a column or as a tuple.
            one, other = flat_vector(one), flat_vector(other)
        return [len(row) for row in one] == [len(row) for row in other] and all(
            self.same(left, right)
            for left_row, right_row in zip(one, other, strict=True)
            for left, right in zip(left_row, right_row, strict=True)
        )

    def _reals(self, gold: Value, answer: Value) -> bool:
        one, other = as_reals(gold), as_reals(answer)
        if one is None or other is None or len(one.pieces) != len(other.pieces):
            return False
        if one.name and other.name and one.name != other.name:
            return False
        return self._matched(one.pieces, other.pieces, self._pieces)

    def _pieces(self, gold: Piece, answer: Piece) -> bool:
        if (gold.low_closed, gold.high_closed) != (answer.low_closed, answer.high_closed):
            return False
        for one, other in ((gold.low, answer.low), (gold.high, answer.high)):
            if (one is None) != (other is None):
                return False
            if one is not None and other is not None and not self.same(read(one), read(other)):
                return False
        return True

    def _items(self, gold: Value, answer: Value) -> bool:
        if not (isinstance(gold, Items) and isinstance(answer, Items)):
            listed, single = (gold, answer) if isinstance(gold, Items) else (answer, gold)
            assert isinstance(listed, Items)
            if isinstance(single, Words) and not listed.items:
                return single.text == "none"
            # "-b + 2 or 2 - b" is one answer, spelled twice.
            once = len(listed.items) == 1 or (listed.brackets == "" and isinstance(gold, Scalar))
            once = once and (listed.brackets != "{}" or isinstance(single, Scalar))
            return bool(once and listed.items) and all(self.same(item, single) for item in listed.items)
        if not _brackets_agree(gold, answer):
            return False
        if "{}" in (gold.brackets, answer.brackets) or (_of_tuples(gold) and _of_tuples(answer)):
            return self._covers(gold.items, answer.items) and self._covers(answer.items, gold.items)
        if len(gold.items) != len(answer.items):
            return False
        one, other = gold.items, answer.items
        if (gold.brackets == "" and answer.brackets == "()") or (gold.brackets == "()" and answer.brackets == ""):
            # "x = 1, y = 2" for (1, 2)
            one, other = _without_names(one), _without_names(other)
        if gold.brackets == "" == answer.brackets and not _dotted(one) and not _dotted(other):
            return self._matched(one, other, self.same)
        return all(self.same(left, right) for left, right in zip(one, other, strict=True))

    def _covers(self, these: Sequence[Value], those: Sequence[Value]) -> bool:
        return all(any(self.same(item, candidate) for candidate in these) for item in those)

    @staticmethod
    def _matched(these: Sequence[T], those: Sequence[T], same: Callable[[T, T], bool]) -> bool:
        """Whether two sequences are the same in some order. Equality is transitive, so the first match will do."""
        left = list(those)
        for item in these:
            found = next((place for place, candidate in enumerate(left) if same(item, candidate)), None)
            if found is None:
                return False
            del left[found]
        return not left

    def _ratios(self, gold: Value, answer: Value) -> bool:
        if not (isinstance(gold, Ratio) and isinstance(answer, Ratio)):
            ratio, single = (gold, answer) if isinstance(gold, Ratio) else (answer, gold)
            assert isinstance(ratio, Ratio)
            if len(ratio.parts) != 2 or not isinstance(single, Scalar) or _is_time(ratio):
                return False
            return self._leaves.equal(f"\\frac{{{ratio.parts[0]}}}{{{ratio.parts[1]}}}", single.text)
        if _is_time(gold) and _is_time(answer):
            return bool(_times(gold, answer) & _times(answer, gold))
        if not _units_agree(gold.unit, answer.unit) or len(gold.parts) != len(answer.parts):
            return False
        if _is_time(gold) or _is_time(answer):
            return False
        first, second = gold.parts[0], answer.parts[0]
        return all(
            self._leaves.equal(f"\\frac{{{left}}}{{{first}}}", f"\\frac{{{right}}}{{{second}}}")
            for left, right in zip(gold.parts[1:], answer.parts[1:], strict=True)
        )

    def _scalars(self, gold: Value, answer: Value) -> bool:
        assert isinstance(gold, Scalar)
        assert isinstance(answer, Scalar)
        if gold.unit is not None and answer.unit is not None:
            angles = {gold.unit.dimension, answer.unit.dimension}
            if angles == {DEGREE, RADIAN}:
                return self._leaves.equal(_in_radians(gold), _in_radians(answer))
            if not same_kind(gold.unit.dimension, answer.unit.dimension):
                return False
            if gold.unit.dimension == answer.unit.dimension and gold.unit.factor != answer.unit.factor:
                return self._leaves.equal(_in_base(gold), _in_base(answer))
        if gold.number is not None and answer.number is not None:
            return same_number(gold.number, answer.number)
        if spaces_free(gold.text) == spaces_free(answer.text):
            return True
        if self._leaves.equal(gold.text, answer.text):
            return True
        degrees = [scalar.unit is not None and scalar.unit.dimension == DEGREE for scalar in (gold, answer)]
        return (
            any(degrees)
            and not all(degrees)
            and None in (gold.unit, answer.unit)
            and ("\\pi" in gold.text + answer.text and self._leaves.equal(_in_radians(gold), _in_radians(answer)))
        )


def _equation(value: Value) -> tuple[str, str] | None:
    if isinstance(value, Named) and isinstance(value.value, Scalar):
        return value.name, value.value.text
    if isinstance(value, Chain) and len(value.sides) == 2 and not value.approximate:
        return value.sides[0], value.sides[1]
    return None


def _of_function(gold: Named, answer: Named) -> bool:
    """Whether one is "f(x) = ..." and the other "y = ...", of expressions."""
    plain = gold if "(" not in gold.name else answer
    function = answer if plain is gold else gold
    return plain.name == "y" and function.name.endswith("(x)")


def _inequality(value: Value) -> Inequality | None:
    if isinstance(value, Inequality):
        return value
    if isinstance(value, Reals) and value.name and len(value.pieces) == 1:
        (piece,) = value.pieces
        if piece.low is not None and piece.high is None:
            return Inequality((value.name, piece.low), ("\\ge" if piece.low_closed else ">",))
        if piece.high is not None and piece.low is None:
            return Inequality((value.name, piece.high), ("\\le" if piece.high_closed else "<",))
    return None


def _ascending(value: Inequality) -> tuple[str, str]:
    """Smaller side first."""
    left, right = value.sides
    return (left, right) if value.signs[0] in ("<", "\\le") else (right, left)


def _brackets_agree(gold: Items, answer: Items) -> bool:
    if gold.brackets == answer.brackets:
        return True
    kinds = {gold.brackets, answer.brackets}
    if "" in kinds:
        return kinds <= {"", "{}", "()", "[]"}
    return kinds == {"()", "[]"} and len(gold.items) > 2


def _without_names(items: tuple[Value, ...]) -> tuple[Value, ...]:
    if all(isinstance(item, Named) for item in items) and len({getattr(item, "name", "") for item in items}) == len(
        items
    ):
        return tuple(item.value for item in items if isinstance(item, Named))
    return items


def _of_tuples(items: Items) -> bool:
    """Whether a list holds tuples alone, like solutions of a system: one that is there twice says no more."""
    return items.brackets == "" and all(isinstance(item, Items) and item.brackets == "()" for item in items.items)


def _dotted(items: tuple[Value, ...]) -> bool:
    return any(isinstance(item, Scalar) and "\\ldots" in item.text for item in items)


def _bases(gold: Value, answer: Value) -> bool:
    """The answer may omit the reference's base; numerals whose bases are known are compared by value."""
    if isinstance(answer, Based) and (value := _value_of(answer)) is not None:
        if isinstance(gold, Based):
            return gold == answer or _value_of(gold) == value
        return isinstance(gold, Scalar) and gold.number is not None and gold.number.value == value
    if isinstance(gold, Based) and isinstance(answer, Based):
        return gold == answer
    if isinstance(gold, Based):
        digits = spaces_free(answer.text).replace(",", "").upper() if isinstance(answer, Scalar | Words) else ""
        return (digits.lstrip("0") or "0") == gold.digits
    return False


def _value_of(numeral: Based) -> int | None:
    """The value of a whole numeral; None: it is none in its base."""
    try:
        return int(numeral.digits, numeral.base) if numeral.base > 1 else None
    except ValueError:
        return None


def _is_time(ratio: Ratio) -> bool:
    return len(ratio.parts) == 2 and len(ratio.parts[1]) == 2 and all(part.isdigit() for part in ratio.parts)


def _times(time: Ratio, other: Ratio) -> set[tuple[int, str]]:
    """What a time of day can mean beside another one: "2:30 p.m." is 14:30, or 2:30 if the other says no half."""
    hour, minute = int(time.parts[0]), time.parts[1]
    half = _half_of_day(time)
    if half is None:
        return {(hour, minute)}
    of_day = (hour % 12 + (12 if half == "pm" else 0), minute)
    return {of_day} if _half_of_day(other) else {of_day, (hour, minute)}


def _half_of_day(time: Ratio) -> str | None:
    half = time.unit.dimension[0][0] if time.unit is not None else ""
    return half if half in ("am", "pm") else None


def _units_agree(gold: Unit | None, answer: Unit | None) -> bool:
    return gold is None or answer is None or same_kind(gold.dimension, answer.dimension)


def _in_base(scalar: Scalar) -> str:
    assert scalar.unit is not None
    factor = scalar.unit.factor
    return f"({scalar.text})\\cdot \\frac{{{factor.numerator}}}{{{factor.denominator}}}"


def _in_radians(scalar: Scalar) -> str:
    is_degrees = scalar.unit is not None and scalar.unit.dimension == DEGREE
    return f"({scalar.text})\\cdot \\frac{{\\pi}}{{180}}" if is_degrees else scalar.text
