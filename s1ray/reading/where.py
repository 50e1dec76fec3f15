"""Which rows of a source are wanted: conditions on columns.

    where:
      level: {ge: 4}
      type: [algebra, geometry]          # short for {in: [...]}
      split: train                       # short for {eq: train}
      source: {matches: "^AoPS", ne: AoPS-old}
      picture: {missing: true}           # absent, null or NaN

All conditions of all columns must hold. A missing value is equal to nothing: only `missing`, `ne` and `not_in` hold for
it. Numbers in text count as numbers where they are compared with one, so `level: 5` finds "5" in a CSV file.
"""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, JsonValue

from s1ray.reading.fields import ABSENT, ColumnPath, is_missing, number_text
from s1ray.reading.items import Bad, Record, Unusable, beginning

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
_COMPUTE = {"gt": "greater", "ge": "greater_equal", "lt": "less", "le": "less_equal"}
OPERATORS = ("eq", "ne", *_ORDERS, "in", "not_in", "matches", "missing")


@dataclasses.dataclass(frozen=True)
class Condition:
    """One comparison of one column."""

    path: ColumnPath
    operator: str
    operand: Any

    def holds(self, value: object) -> bool:
        """Whether a cell fulfils it.

        Raises:
            Unusable: the cell cannot be compared with the operand.
        """
        gone = value is ABSENT or is_missing(value)
        match self.operator:
            case "missing":
                return gone is self.operand
            case "eq":
                return gone if self.operand is None else not gone and _same(value, self.operand)
            case "ne":
                return not gone if self.operand is None else gone or not _same(value, self.operand)
            case "in":
                return any(_same(value, each) for each in self.operand) if not gone else None in self.operand
            case "not_in":
                return not any(_same(value, each) for each in self.operand) if not gone else None not in self.operand
            case "matches":
                return not gone and re.search(self.operand, self._text(value)) is not None
        return not gone and _ORDERS[self.operator](*self._ordered(value))

    def _text(self, value: object) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, int | float | Decimal):
            return number_text(value)
        raise Unusable("not comparable", f"column {self.path.name!r} is a {type(value).__name__}, not text")

    def _ordered(self, value: object) -> tuple[Any, Any]:
        if isinstance(self.operand, str):
            return self._text(value), self.operand
        if (number := _number(value)) is None:
            what = f"column {self.path.name!r} is {beginning(value)!r}, and cannot be compared with {self.operand}"
            raise Unusable("not comparable", what)
        return number, self.operand

    def column_mask(self, column: pa.Array) -> npt.NDArray[np.bool_] | None:
        """Which cells of a column fulfil it, where Arrow can say so; else None."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self.path.is_plain or self.operator not in ("eq", "in", *_ORDERS):
            return None
        wanted = self.operand if self.operator == "in" else [self.operand]
        kind = column.type
        if pa.types.is_floating(kind):
            column, kind = column.cast(pa.float64()), pa.float64()
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if not (_fits(wanted, kind) or (text and all(isinstance(each, str) for each in wanted))):
            return None
        try:
            if self.operator in _ORDERS:
                mask = getattr(pc, _COMPUTE[self.operator])(column, pa.scalar(self.operand, kind))
            else:
                mask = pc.is_in(column, value_set=pa.array(wanted, kind))
        except (pa.ArrowInvalid, OverflowError):
            # A number that the column's type cannot hold.
            return None
        found: npt.NDArray[np.bool_] = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
        return found


def _fits(wanted: list[Any], kind: pa.DataType) -> bool:
    """Whether values are numbers of a numeric column's kind."""
    import pyarrow as pa

    types: tuple[type, ...] = (int, float) if pa.types.is_floating(kind) else (int,)
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return numeric and all(isinstance(each, types) and not isinstance(each, bool) for each in wanted)


@dataclasses.dataclass(frozen=True)
class Where:
    """Conditions that must all hold."""

    conditions: tuple[Condition, ...] = ()

    @classmethod
    def of(cls, config: Mapping[str, JsonValue]) -> Where:
        """The conditions that a config gives.

        Raises:
            ValueError: an operator does not exist, or does not fit its operand.
        """
        return cls(tuple(each for column, given in config.items() for each in _conditions(column, given)))

    @property
    def paths(self) -> list[ColumnPath]:
        """The columns, each once."""
        return list(dict.fromkeys(condition.path for condition in self.conditions))

    def holds(self, record: Record) -> bool:
        """Whether a record fulfils all of them.

        Raises:
            Unusable: a cell cannot be compared.
        """
        return all(each.holds(each.path.find(record)) for each in self.conditions)

    def mask(self, batch: pa.RecordBatch) -> tuple[npt.NDArray[np.bool_] | None, dict[int, Bad]]:
        """Which rows of a batch fulfil all of them (None: every row), and which cannot be compared."""
        import numpy as np

        if not self.conditions:
            return None, {}
        mask, bad = np.ones(batch.num_rows, dtype=bool), dict[int, Bad]()
        for condition in self.conditions:
            root = condition.path.root(batch.schema.names)
            column = None if root is None else batch.column(root)
            found = None if column is None else condition.column_mask(column)
            if found is None:
                records = [{}] * len(mask) if column is None else [{root: cell} for cell in column.to_pylist()]
                found = np.zeros(len(mask), dtype=bool)
                for index in np.flatnonzero(mask).tolist():
                    try:
                        found[index] = condition.holds(condition.path.find(records[index]))
                    except Unusable as error:
                        bad[index] = dataclasses.replace(error.bad, text=beginning(records[index]))
            mask &= found
        return mask, bad


def _conditions(column: str, given: JsonValue) -> list[Condition]:
    path = ColumnPath.parse(column)
    if isinstance(given, list):
        given = {"in": given}
    elif not isinstance(given, dict):
        given = {"eq": given}
    if not given:
        raise ValueError(f"{column}: no condition; write a value, a list, or one of {', '.join(OPERATORS)}")
    for name, operand in given.items():
        if (problem := _problem(name, operand)) is not None:
            raise ValueError(f"{column}: {problem}")
    return [Condition(path, name, operand) for name, operand in given.items()]


def _problem(name: str, operand: JsonValue) -> str | None:
    """Why an operator and its operand are no condition, or None."""
    if name not in OPERATORS:
        return f"{name!r} is no comparison; there are {', '.join(OPERATORS)}"
    number = isinstance(operand, int | float) and not isinstance(operand, bool)
    if name in ("in", "not_in"):
        scalars = isinstance(operand, list) and not any(isinstance(each, list | dict) for each in operand)
        return None if scalars and operand else f"{name} needs a list of values"
    if name == "missing":
        return None if isinstance(operand, bool) else "missing needs true or false"
    if name in _ORDERS:
        return None if number or isinstance(operand, str) else f"{name} needs a number or a text"
    if name == "matches":
        try:
            re.compile(operand if isinstance(operand, str) else "(")
        except re.error as error:
            return f"matches needs a regular expression: {error}"
    return f"{name} needs a single value" if isinstance(operand, list | dict) else None


def _checked(config: dict[str, JsonValue]) -> dict[str, JsonValue]:
    Where.of(config)
    return config


WhereConfig = Annotated[dict[str, JsonValue], AfterValidator(_checked)]
"""For a config's field: column -> value, list of values, or comparisons (`s1ray.reading.where`)."""


def _same(value: object, wanted: object) -> bool:
    if isinstance(wanted, bool):
        return value.strip().lower() == str(wanted).lower() if isinstance(value, str) else value == wanted
    if isinstance(wanted, int | float):
        return _number(value) == wanted
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return number_text(value) == wanted
    return value == wanted


def _number(value: object) -> int | float | None:
    """A cell as a number; None where it is none."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, int | float):
        return value
    if isinstance(value, str):
        try:
            return float(Decimal(value.strip()))
        except (InvalidOperation, ValueError):
            return None
    return None
