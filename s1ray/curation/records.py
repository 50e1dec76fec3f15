"""Records of files and data sets as they are, and how they become questions."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import Literal, TypedDict

from pydantic import Field, model_validator

from s1ray.config import Config
from s1ray.reading.fields import (
    ABSENT,
    ColumnPath,
    Expression,
    Template,
    cell_text,
    is_missing,
    opened_json,
    parse_expression,
)
from s1ray.reading.items import MAX_BYTES, Record, Unusable, close_names
from s1ray.reading.where import Where
from s1ray.schemas import Question, question_id

METADATA = "metadata"
"""Column in which data sets of questions keep their other fields, as an object, as JSON, or as printed Python."""
_NO_TEXTS = ("length", "solved_by", "unsolved_by", "pass_rates", "metadata")
_LABELS = ("solved_by", "unsolved_by", "pass_rates")
MAX_LENGTH = 1 << 31
"""More tokens than any trace has."""
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceRow(Question):
    """A question, and whether an earlier step failed on it."""

    error: str | None = None
    """What an earlier step (an API call) reported; quality drops such a row."""


class ColumnMapping(Config):
    r"""Which of a source's columns hold what.

    A field names a column ("answer"), a place in one ("reward_model.ground_truth", "options[0]"), or is a template that
    joins several ("{passage}\n{question}\n{options:letters}"; `s1ray.reading.fields` has all of it).
    """

    question: str = "question"
    """A row without it cannot be used. Of a conversation: "{messages:user}"."""
    solution: str | None = None
    """Of a list the first element, as s1 reads OlympiadBench. Of a conversation: "{messages:assistant}"."""
    answer: str | None = None
    domain: str | None = None
    """Of a list the first element."""
    source: str | None = None
    """Column that says where a row comes from; it is added to the source's name ("math/Algebra"). Of a list the first
    element."""
    length: str | None = None
    """Column with a trace's token count, where one has been measured."""
    error: str | None = None
    """Column that is set where an earlier step (an API call) failed."""
    solved_by: dict[str, str] = Field(default_factory=dict)
    """Difficulty model -> column that is true where it answered correctly."""
    unsolved_by: dict[str, str] = Field(default_factory=dict)
    """Difficulty model -> column that is true where it did not."""
    pass_rates: dict[str, str] = Field(default_factory=dict)
    """Difficulty model -> column with its share of right attempts, from 0 to 1."""
    metadata: list[str] | Literal["all"] = Field(default_factory=list)
    """Columns that come along as metadata; "all": every column that is not named above. What the selection's rules and
    the graders need comes along by itself."""

    @model_validator(mode="after")
    def _parses(self) -> ColumnMapping:
        metadata = [("metadata", name) for name in self.metadata] if self.metadata != "all" else []
        for field, text in self.expressions() + metadata:
            try:
                expression = parse_expression(text)
            except ValueError as error:
                raise ValueError(f"{field}: {error}") from None
            if isinstance(expression, Template) and field.partition(".")[0] in _NO_TEXTS:
                raise ValueError(f"{field}: takes a column, not a template")
        return self

    def expressions(self) -> list[tuple[str, str]]:
        """Field and expression of everything that is mapped, metadata aside."""
        names = ("question", "solution", "answer", "domain", "source", "length", "error")
        single = [(name, text) for name in names if (text := getattr(self, name)) is not None]
        labels = [(f"{name}.{model}", text) for name in _LABELS for model, text in getattr(self, name).items()]
        return single + labels


class _Difficulty(TypedDict):
    """Of a `Question`."""

    solved_by: list[str] | None
    pass_rates: str | None


_NOT_MEASURED = _Difficulty(solved_by=None, pass_rates=None)


class RowMaker:
    """Makes questions of one source's records, and notes which of the columns that it needs are there.

    Attributes:
        absent: columns and places that no record had so far.
        names: columns that there are.
    """

    def __init__(self, columns: ColumnMapping, where: Where, label: str, needed: Collection[str] = ()) -> None:
        """Compile a mapping.

        Args:
            columns: which column holds what.
            where: which rows are wanted; its columns must be there, too.
            label: of the source.
            needed: fields of the metadata that come along where there are some, whatever the mapping says.
        """
        self._columns, self._label, self._needed = columns, label, sorted(needed)
        self._fields = {field: parse_expression(text) for field, text in columns.expressions()}
        self._labels = [
            (name, model, self._fields[f"{name}.{model}"]) for name in _LABELS for model in getattr(columns, name)
        ]
        self._paths = {path.name: path for field in self._fields.values() for path in _paths(field)}
        self._paths |= {path.name: path for path in where.paths}
        self._metadata = [] if columns.metadata == "all" else [ColumnPath.parse(name) for name in columns.metadata]
        self._paths |= {path.name: path for path in self._metadata}
        self.absent = set(self._paths)
        self.names: set[str] = set()

    @property
    def columns(self) -> set[str] | None:
        """The columns to read; None: all."""
        if self._columns.metadata == "all":
            return None
        roots = {str(path.steps[0]) for path in self._paths.values()}
        return roots | set(self._paths) | {*self._needed, METADATA}

    def note_columns(self, names: Iterable[str]) -> None:
        """Note the columns that a whole file has."""
        names = list(names)
        self.names.update(names)
        self.absent = {name for name in self.absent if self._paths[name].root(names) is None}

    def note_record(self, record: Record) -> None:
        """Note the columns that a record has."""
        if self.absent:
            self.names.update(record)
            self.absent = {name for name in self.absent if self._paths[name].find(record) is ABSENT}

    def row(self, record: Record) -> SourceRow:
        """A record as a question.

        Raises:
            Unusable: it has no question, or a field holds what cannot be used.
        """
        question = self._text("question", record)
        if question is None:
            raise self._without_question(record)
        detail = self._text("source", record, first=True)
        return SourceRow(
            id=question_id(question),
            question=question,
            solution=self._text("solution", record, first=True),
            answer=self._text("answer", record),
            source=f"{self._label}/{detail}" if detail else self._label,
            domain=self._text("domain", record, first=True),
            metadata=self._metadata_of(record),
            length=self._whole(record),
            **self._difficulty(record),
            error=self._text("error", record) or None,
        )

    def _text(self, field: str, record: Record, *, first: bool = False) -> str | None:
        expression = self._fields.get(field)
        if expression is None:
            return None
        if isinstance(expression, Template):
            text = expression.text(record)
        else:
            text = self._cell(expression, record, first)
        return text if text is None else sound(text, field)

    def _cell(self, path: ColumnPath, record: Record, first: bool) -> str | None:
        try:
            return cell_text(path.find(record), path.name, first=first)
        except Unusable as error:
            if (
                len(lengths := {len(cell) if isinstance(cell, list) else 0 for cell in record.values()}) > 1
                or 0 in lengths
            ):
                raise
            hint = "; is this a whole table, a list for each column? Write it as JSON lines, a row for each line"
            raise Unusable(error.bad.kind, error.bad.detail + hint) from None

    def _without_question(self, record: Record) -> Unusable:
        expression = self._fields["question"]
        lacking = [path.name for path in _paths(expression) if path.find(record) is ABSENT]
        if not lacking:
            return Unusable("no question", f"{self._columns.question!r} is empty")
        hint = ""
        if chat := next((name for name in ("messages", "conversations") if name in record), None):
            hint = f'; of a conversation take `question: "{{{chat}:user}}"` and `solution: "{{{chat}:assistant}}"`'
        elif rows := next((name for name, cell in record.items() if _are_rows(cell)), None):
            hint = f"; the rows seem to be the list {rows!r}: write that list alone, or JSON lines"
        return Unusable("missing column", f"{close_names(lacking[0], record)}{hint}")

    def _whole(self, record: Record) -> int | None:
        expression = self._fields.get("length")
        if not isinstance(expression, ColumnPath):
            return None
        value = expression.find(record)
        if value is ABSENT or is_missing(value):
            return None
        try:
            number = Decimal(str(value))
            if number == int(number) and 0 <= number < MAX_LENGTH:
                return int(number)
        except (ArithmeticError, ValueError):
            pass
        shown = str(value)[:80]
        raise Unusable("wrong type", f"column {expression.name!r} must be a whole number of tokens, not {shown}")

    def _difficulty(self, record: Record) -> _Difficulty:
        """What the models make of it; nothing where one has no label."""
        rates: dict[str, float] = {}
        for name, model, expression in self._labels:
            found = _rate(expression, record) if name == "pass_rates" else _label(expression, record)
            if found is None:
                return _NOT_MEASURED
            rate = 1.0 - found if name == "unsolved_by" else float(found)
            rates[model] = max(rate, rates.get(model, 0.0))
        if not rates:
            return _NOT_MEASURED
        text = json.dumps(rates, sort_keys=True) if self._columns.pass_rates else None
        return {"solved_by": sorted(model for model, rate in rates.items() if rate), "pass_rates": text}

    def _metadata_of(self, record: Record) -> str:
        found: dict[str, object] = {}
        if self._columns.metadata == "all":
            used = {str(path.steps[0]) for path in self._paths.values()}
            found = _own_metadata(record) | {k: v for k, v in record.items() if k not in used | {METADATA}}
        for path in self._metadata:
            value = path.find(record)
            if path.name == METADATA:
                found |= _own_metadata(record)
            elif value is not ABSENT:
                found[path.name] = value
        if self._needed:
            inner = record.get(METADATA)
            # Opening every row's metadata is slow; most have none of what is needed.
            own = _own_metadata(record) if any(name in str(inner) for name in self._needed) and inner else {}
            found |= {name: place[name] for name in self._needed for place in (own, record) if name in place}
        if not found:
            return "{}"
        try:
            return sound(json.dumps(found, ensure_ascii=False, sort_keys=True, default=_plain), METADATA)
        except (TypeError, ValueError, RecursionError) as error:
            raise Unusable("wrong type", f"the metadata cannot be written as JSON: {error}") from None


def sound(text: str, field: str) -> str:
    """A text, if every file can hold it.

    Raises:
        Unusable: it cannot.
    """
    if "\0" in text:
        raise Unusable("NUL", f"{field} has the character NUL")
    if len(text) > MAX_BYTES:
        raise Unusable("too long", f"{field} has {len(text):,} characters")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        what = "bytes that are no text, or half a surrogate pair"
        raise Unusable("broken text", f"{field} has {what} at character {error.start}") from None
    return text


def _are_rows(cell: object) -> bool:
    return isinstance(cell, list) and bool(cell) and all(isinstance(each, dict) for each in cell)


def _paths(expression: Expression) -> list[ColumnPath]:
    return expression.paths if isinstance(expression, Template) else [expression]


def _label(expression: Expression, record: Record) -> bool | None:
    assert isinstance(expression, ColumnPath), "the mapping has no other"
    value = expression.find(record)
    if value is ABSENT or is_missing(value):
        return None
    # What Parquet, JSON lines, CSV and data frames make of a column of truth values, some missing.
    if isinstance(value, str):
        value = _TRUTHS.get(value.strip().lower(), value)
    if value in (0, 1):
        return bool(value)
    raise Unusable("wrong type", f"column {expression.name!r} must be true or false (or 1 or 0), not {value!r:.80}")


def _rate(expression: Expression, record: Record) -> float | None:
    assert isinstance(expression, ColumnPath), "the mapping has no other"
    value = expression.find(record)
    if value is ABSENT or is_missing(value):
        return None
    try:
        rate = float(str(value))
    except ValueError:
        rate = math.nan
    if not 0 <= rate <= 1:
        raise Unusable("wrong type", f"column {expression.name!r} must be a share from 0 to 1, not {value!r:.80}")
    return rate


def _own_metadata(record: Record) -> dict[str, object]:
    """A source's own metadata: a mapping, JSON, or the printed dict that s1's data sets have."""
    value = opened_json(record.get(METADATA))
    if isinstance(value, dict):
        return value
    return {} if value is None or value == "" else {METADATA: value}


def _plain(value: object) -> object:
    """A value that JSON does not know."""
    if isinstance(value, Decimal):
        if abs(value) < 2**53 and value == value.to_integral_value():
            return int(value)
        return float(value) if abs(value.adjusted()) < 300 else str(value)
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)
