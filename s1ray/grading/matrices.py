r"""Matrices, vectors, and systems in braces, in the notations that people use: environments, "(1, 2)^T", "2i + 3j"."""

from __future__ import annotations

import re
from collections.abc import Callable

from s1ray.grading.numbers import parse_number
from s1ray.grading.splitting import encloses, items_of
from s1ray.grading.values import Items, Matrix, Scalar, Value

Read = Callable[[str], Value]

_MATRIX = re.compile(
    r"(?:\\left)?[(\[]?\\begin\{([pb]?matrix|array|smallmatrix)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}[)\]]?", re.DOTALL
)
_SYSTEM = re.compile(
    r"(?:\\begin\{(cases|dcases|rcases)\}|\\\{ ?\\begin\{(array|aligned|gathered|matrix)\}(?:\{[lcr| ]*\})?)"
    r"(.*)\\end\{(?:\1|\2)\}",
    re.DOTALL,
)
_VECTOR = re.compile(r"\\langle(.*)\\rangle|<(.*)>")
_TRANSPOSED = re.compile(r"(.+?[)\]}]) ?\^ ?(?:\{ ?(?:T|t|\\top|\\intercal) ?\}|[Tt]|\\top|\\intercal) ?", re.DOTALL)
_CONDITION = re.compile(r"(?:if|for|when|where)(?![a-z])[ :]*")
_COEFFICIENT = r"\d+(?:\.\d+)?(?:/\d+)?|(?:\d+ ?)?\\(?:frac\{\w+\}\{\w+\}|sqrt\{\w+\})"
_TERM = re.compile(rf" ?([-+]?) ?({_COEFFICIENT}|) ?(?:\\cdot ?)?(?:\\(?:hat|vec|bar) ?)?\{{?([ijk])(?![a-z])\}}? ?")


def read_matrix(text: str, read: Read) -> Value | None:
    """A matrix, a vector or a system; None: the text is something else."""
    if "\\begin" not in text and not text.startswith(("\\langle", "<", "(", "[")):
        return None
    if vector := _VECTOR.fullmatch(text):
        inner = vector[1] or vector[2]
        return Items(tuple(read(part) for part in items_of(inner) if part), "()")
    if match := _TRANSPOSED.fullmatch(text):
        return _transposed(read(match[1]))
    if match := _SYSTEM.fullmatch(text):
        return _system(match[3], read)
    if match := _MATRIX.fullmatch(text):
        return Matrix(tuple(tuple(read(cell) for cell in row.split("&")) for row in _rows(match[2])))
    return _multiple(text, read)


def unit_vectors(text: str, size: int) -> Items | None:
    """A sum of multiples of i, j and k as a vector of so many entries."""
    entries: dict[str, str] = {}
    place = 0
    while place < len(text):
        match = _TERM.match(text, place)
        if match is None or match[3] in entries or (entries and not match[1]):
            return None
        entries[match[3]] = match[1].replace("+", "") + (match[2] or "1")
        place = match.end()
    names = "ijk"[:size]
    if not set(entries) & {"j", "k"} or not set(entries) <= set(names):
        return None
    texts = [entries.get(name, "0") for name in names]
    return Items(tuple(Scalar(entry, parse_number(entry)) for entry in texts), "()")


def as_vectors(gold: Value, answer: Value) -> tuple[Value, Value]:
    """Two values, of which one may be a sum of unit vectors if the other is a vector."""
    if isinstance(answer, Scalar) and (size := _vector_size(gold)):
        return gold, unit_vectors(answer.text, size) or answer
    if isinstance(gold, Scalar) and (size := _vector_size(answer)):
        return unit_vectors(gold.text, size) or gold, answer
    return gold, answer


def rows_of(value: Value) -> tuple[tuple[Value, ...], ...] | None:
    """The rows of a matrix, or of what may be written for one; None: it is none."""
    if isinstance(value, Matrix):
        return value.rows
    if not isinstance(value, Items) or value.brackets not in ("", "()", "[]"):
        return None
    if value.items and all(isinstance(item, Items) and item.brackets in ("()", "[]") for item in value.items):
        return tuple(item.items for item in value.items if isinstance(item, Items))
    return (value.items,)


def flat_vector(rows: tuple[tuple[Value, ...], ...]) -> tuple[tuple[Value, ...], ...]:
    """A column as a row."""
    return (tuple(row[0] for row in rows),) if all(len(row) == 1 for row in rows) else rows


def _vector_size(value: Value) -> int:
    """The entries of a vector; 0: the value is none."""
    if isinstance(value, Items) and value.brackets == "()":
        return len(value.items)
    if isinstance(value, Matrix) and (len(value.rows) == 1 or all(len(row) == 1 for row in value.rows)):
        return max(len(value.rows), len(value.rows[0])) if value.rows else 0
    return 0


def _transposed(value: Value) -> Value | None:
    if isinstance(value, Items) and value.brackets in ("()", "[]"):
        return Items(value.items, "()")
    if isinstance(value, Matrix) and len({len(row) for row in value.rows}) == 1:
        return Matrix(tuple(zip(*value.rows, strict=True)))
    return None


def _rows(body: str) -> list[str]:
    return [row for row in body.split("\\\\") if row.strip()]


def _system(body: str, read: Read) -> Value | None:
    """Equations that hold together, or the cases of a function: each a pair of value and condition."""
    rows: list[Value] = []
    for row in _rows(body):
        value, _, condition = re.sub(r"&? ?= ?&?", "=", row).partition("&")
        parts = [_CONDITION.sub("", part.strip(" ,.;")) for part in (value, condition)]
        rows.append(Items((read(parts[0]), read(parts[1])), "()") if parts[1] else read(parts[0]))
    return Items(tuple(rows), "") if len(rows) > 1 else rows[0] if rows else None


def _multiple(text: str, read: Read) -> Value | None:
    """A matrix with a factor before it."""
    begin = text.find("\\begin")
    begin -= text[begin - 1 : begin] in ("(", "[")
    factor = text[: max(begin, 0)].strip().removesuffix("\\cdot").strip()
    if not factor or len(factor) > 100 or re.search(r"[=,;:|]|\\(?:begin|end|in|cup|to|left)(?![a-z])", factor):
        return None
    if factor.count("(") != factor.count(")") or (re.search(r"[-+]", factor[1:]) and not encloses(factor)):
        return None
    matrix = read(text[begin:])
    if not isinstance(matrix, Matrix):
        return None
    factor = factor.replace("-", "-1") if factor == "-" else factor
    return Matrix(tuple(tuple(_times(factor, cell) for cell in row) for row in matrix.rows))


def _times(factor: str, cell: Value) -> Value:
    text = cell.text if isinstance(cell, Scalar) else ""
    one, other = parse_number(factor), parse_number(text)
    if one is None or other is None or one.percent or other.percent:
        return Scalar(f"({factor})\\cdot ({text})")
    product = one.value * other.value
    text = f"\\frac{{{product.numerator}}}{{{product.denominator}}}"
    return Scalar(text, parse_number(text))
