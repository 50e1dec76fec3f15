r"""How a question's fields are read off a record: a column, a path into it, or a template that joins several.

| written | gives |
|---|---|
| `answer` | the column |
| `reward_model.ground_truth`, `options[0]` | a field of an object, an element of a list (JSON in text is opened) |
| `"{passage}\n\n{question}\n{options:letters}"` | a text with columns in it |

A line of a template whose columns are all empty is left out. What follows a colon says how the value is written:
`lines` (a list, one element a line; the default), `letters` (as lines, with "(A) ", "(B) " where they have none),
`user`, `system` and `assistant` (of a conversation: the user's first message, the system prompt, and the assistant's
last message before the user writes again).
"""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import re
import string
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from s1ray.reading.chat import ROLES, message_of
from s1ray.reading.items import Record, Unusable


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
"""What a path gives where a record has no such column."""
FORMATS = ("lines", "letters", *ROLES)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(-?\d+)\]")
_LETTERED = re.compile(r"\s*(?:\([A-Z]\)|[A-Z][).:])")


@dataclasses.dataclass(frozen=True)
class ColumnPath:
    """A column, or a place inside it."""

    name: str
    """As it is written."""
    steps: tuple[str | int, ...]
    """The column, then fields and elements."""

    @classmethod
    def parse(cls, text: str) -> ColumnPath:
        """A path as it is written ("a.b[0].c").

        Raises:
            ValueError: it is none.
        """
        match = re.match(r"[^.\[\]]+", text)
        if match is None:
            raise ValueError(f"{text!r} is no column; write a name, or a path such as a.b[0].c")
        steps: list[str | int] = [match.group()]
        place = match.end()
        while place < len(text):
            step = _STEP.match(text, place)
            if step is None:
                # A name of its own, such as "a..b" or "x [m]": found where a record has exactly it.
                return cls(text, (text,))
            steps.append(step.group(1) if step.group(1) is not None else int(step.group(2)))
            place = step.end()
        return cls(text, tuple(steps))

    @property
    def is_plain(self) -> bool:
        """Whether it is a whole column."""
        return len(self.steps) == 1

    def root(self, columns: Sequence[str]) -> str | None:
        """The column among some that it begins in; None where it is not there."""
        if self.name in columns:
            return self.name
        return str(self.steps[0]) if self.steps[0] in columns else None

    def find(self, record: Record) -> object:
        """What is there in a record; `ABSENT` where the record has no such place."""
        if self.name in record:
            return record[self.name]
        value: object = record
        for step in self.steps:
            value = _inside(value, step)
            if value is ABSENT or value is None:
                return value
        return value


@dataclasses.dataclass(frozen=True)
class Template:
    """A text with columns in it."""

    lines: tuple[tuple[tuple[str, ColumnPath | None, str], ...], ...]
    """Of each line its parts: literal text, then a column and how it is written."""

    @property
    def paths(self) -> list[ColumnPath]:
        """The columns."""
        return [path for line in self.lines for _, path, _ in line if path is not None]

    def text(self, record: Record) -> str | None:
        """The text for a record; None where all of its columns are empty.

        Raises:
            Unusable: a column holds what cannot be written so.
        """
        written, filled = [], False
        for line in self.lines:
            parts, empty = [], any(path is not None for _, path, _ in line)
            for literal, path, how in line:
                value = "" if path is None else _written(path, path.find(record), how)
                empty &= not value
                filled |= bool(value)
                parts += [literal, value]
            if not empty:
                written.append("".join(parts))
        return "\n".join(written).strip("\n") if filled else None


Expression = ColumnPath | Template


def parse_expression(text: str) -> Expression:
    """A path, or a template where there are braces.

    Raises:
        ValueError: it is neither.
    """
    if "{" not in text and "}" not in text:
        return ColumnPath.parse(text)
    lines: list[tuple[tuple[str, ColumnPath | None, str], ...]] = []
    for line in text.split("\n"):
        parts: list[tuple[str, ColumnPath | None, str]] = []
        for literal, name, how, conversion in string.Formatter().parse(line):
            if conversion or (how or "lines") not in FORMATS:
                raise ValueError(f"{text!r}: {how or conversion!r} is no format; there are {', '.join(FORMATS)}")
            parts.append((literal, None if name is None else ColumnPath.parse(name), how or "lines"))
        lines.append(tuple(parts))
    template = Template(tuple(lines))
    if not template.paths:
        raise ValueError(f"{text!r}: names no column")
    return template


def is_missing(value: object) -> bool:
    """Whether a cell is empty: null or NaN."""
    return value is None or (isinstance(value, float | Decimal) and math.isnan(value))


def number_text(value: int | float | Decimal) -> str:
    """A number as its text: all digits that the source has, and no exponent where it is short without.

    A float that is whole loses its ".0": data frames turn columns of whole numbers into floats where one is missing.
    """
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float | Decimal) and value in (math.inf, -math.inf):
        return "infinity" if value > 0 else "-infinity"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() and abs(value.adjusted()) < 40 else str(value)
    return str(value)


def cell_text(value: object, name: str, *, first: bool = False) -> str | None:
    """A cell as text; None where it is missing. A list of one is its element.

    Args:
        value: the cell.
        name: of the column, for messages.
        first: of a longer list take the first element.

    Raises:
        Unusable: it is a longer list, or an object.
    """
    if isinstance(value, str):
        return value
    if value is ABSENT or is_missing(value):
        return None
    if isinstance(value, int | float | Decimal):
        return number_text(value)
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise Unusable("wrong type", f"column {name!r} holds bytes that are no text") from None
    if isinstance(value, list):
        if len(value) > 1 and not first:
            raise Unusable("wrong type", f"column {name!r} is a list of {len(value)}; say which, for example {name}[0]")
        return cell_text(value[0], name) if value else None
    if isinstance(value, dict):
        keys = ", ".join(map(str, value))
        example = f", for example {name}.{next(iter(value))}" if value else ""
        raise Unusable("wrong type", f"column {name!r} is an object ({keys}); name a field of it{example}")
    return str(value)


def opened_json(value: object) -> object:
    """What a text holds as JSON, or as the printed Python that s1's data sets have; another value as it is."""
    if not isinstance(value, str) or value[:1] not in "{[":
        return value
    for read in (lambda text: json.loads(text, parse_float=Decimal), ast.literal_eval):
        try:
            return read(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
    return value


def _inside(value: object, step: str | int) -> object:
    value = opened_json(value)
    if isinstance(step, str):
        return value.get(step, ABSENT) if isinstance(value, dict) else ABSENT
    if isinstance(value, list | tuple):
        return value[step] if -len(value) <= step < len(value) else None
    return ABSENT


def _written(path: ColumnPath, value: object, how: str) -> str:
    if value is ABSENT or is_missing(value):
        return ""
    if how in ROLES:
        return message_of(opened_json(value), how, path.name) or ""
    if not isinstance(value, list):
        return (cell_text(value, path.name) or "").strip("\n")
    elements = [cell_text(each, path.name) or "" for each in value]
    if how == "letters" and not all(_LETTERED.match(each) for each in elements):
        elements = [f"({_letter(index)}) {each}" for index, each in enumerate(elements)]
    return "\n".join(elements)


def _letter(index: int) -> str:
    if index >= len(string.ascii_uppercase):
        raise Unusable("wrong type", "more options than letters")
    return string.ascii_uppercase[index]
