r"""What an answer can say: a scalar with its unit, words, a list, set, tuple or interval, a matrix, an equation or
inequality, real numbers between bounds, a ratio, residues, a numeral with a base. `reading` reads them off a text.
"""

from __future__ import annotations

from dataclasses import dataclass

from s1ray.grading.numbers import Number
from s1ray.grading.units import Unit


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


@dataclass(frozen=True)
class Residues:
    r"""Residue classes: "3 \\pmod 7", "n \\equiv 0, 1 \\pmod 4"."""

    residues: tuple[str, ...]
    """Whole numbers as they are written; anything else without spaces."""
    modulus: str
    name: str | None = None


Value = Scalar | Words | Named | Chain | Inequality | Items | Matrix | Reals | Ratio | Based | Residues

ALL_REALS = Reals((Piece(None, None, False, False),))
