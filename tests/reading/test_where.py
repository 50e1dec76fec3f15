"""Conditions on columns, of single records and of whole batches alike."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.config import ConfigError
from s1ray.reading.items import Unusable
from s1ray.reading.where import Where
from tests.support.curation import sources_of


@pytest.mark.parametrize(
    ("condition", "cells", "holds"),
    [
        ("EN", ["EN", "ZH", None], [True, False, False]),
        (5, [5, 4, "5", 5.0, Decimal("5.0"), "x", None], [True, False, True, True, True, False, False]),
        ("5", [5, "5", 6], [True, True, False]),
        (True, [True, False, 1, "True", "false", None], [True, False, True, True, False, False]),
        (None, [None, math.nan, 0, ""], [True, True, False, False]),
        (["a", "b"], ["a", "c", None], [True, False, False]),
        ([1, None], [1, None, 2], [True, True, False]),
        ({"ge": 4}, [4, 3, 4.5, "5", Decimal("3.9"), None, math.nan], [True, False, True, True, False, False, False]),
        ({"ge": 2, "lt": 4}, [1, 2, 3, 4], [False, True, True, False]),
        ({"gt": "b"}, ["c", "b", "a"], [True, False, False]),
        ({"ne": "a"}, ["a", "b", None], [False, True, True]),
        ({"not_in": ["a"]}, ["a", "b", None], [False, True, True]),
        ({"matches": "^AoPS"}, ["AoPS wiki", "not AoPS", None], [True, False, False]),
        ({"matches": r"^\d$"}, [5, 50], [True, False]),
        ({"missing": True}, [None, math.nan, "", 0], [True, True, False, False]),
        ({"missing": False}, [None, "a"], [False, True]),
    ],
)
def test_conditions(condition: Any, cells: list[object], holds: list[bool]) -> None:
    where = Where.of({"x": condition})
    assert [where.holds({"x": cell}) for cell in cells] == holds
    assert where.holds({}) is where.holds({"x": None}), "a column that is not there is missing"


def test_all_conditions_must_hold_also_on_nested_fields() -> None:
    where = Where.of({"meta.level": {"ge": 4}, "type": ["a", "b"], "tags[0]": "x"})
    record: dict[str, Any] = {"meta": {"level": 5}, "type": "a", "tags": ["x", "y"]}
    assert where.holds(record)
    assert not where.holds(record | {"type": "c"})
    assert not where.holds(record | {"meta": {}})


def test_what_cannot_be_compared_is_a_bad_row() -> None:
    with pytest.raises(Unusable, match="column 'level' is 'Level 5', and cannot be compared with 4"):
        Where.of({"level": {"ge": 4}}).holds({"level": "Level 5"})


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ({"is": 1}, "'is' is no comparison; there are eq, ne"),
        ({"matches": "("}, "needs a regular expression"),
        ({"in": "a"}, "needs a list"),
        ({"in": []}, "needs a list"),
        ({"ge": True}, "ge needs a number or a text"),
        ({"missing": 1}, "needs true or false"),
        ({}, "no condition"),
    ],
)
def test_what_is_no_condition_is_refused_with_the_config(condition: object, why: str) -> None:
    with pytest.raises(ConfigError, match=f"sources.0.where: level: .*{why}"):
        sources_of({"kind": "files", "path": "a.jsonl", "where": {"level": condition}})


CELLS = st.lists(st.none() | st.integers(-5, 5), min_size=1) | st.lists(st.none() | st.sampled_from("abc5"), min_size=1)
FLOATS = st.lists(st.none() | st.sampled_from([1.0, 2.5, math.nan, -1.0, 5.0]), min_size=1)
OPERANDS = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([2.5, "a", "5", None, True]),
    st.lists(st.integers(-5, 5), min_size=1),
    st.lists(st.sampled_from("abc5"), min_size=1),
    st.fixed_dictionaries({"ge": st.integers(-5, 5)}),
    st.fixed_dictionaries({"lt": st.integers(-5, 5), "ne": st.integers(-5, 5)}),
    st.fixed_dictionaries({"matches": st.sampled_from(["a|5", "^-"])}),
    st.fixed_dictionaries({"missing": st.booleans()}),
)


@given(CELLS | FLOATS | st.lists(st.none() | st.booleans(), min_size=1), OPERANDS)
def test_a_batch_is_filtered_as_its_records_are(cells: list[Any], operand: Any) -> None:
    import pyarrow as pa

    where = Where.of({"x": operand})
    batch = pa.RecordBatch.from_pydict({"x": cells})
    mask, bad = where.mask(batch)
    assert mask is not None
    for index, record in enumerate(batch.to_pylist()):
        try:
            assert mask[index] == where.holds(record)
            assert index not in bad
        except Unusable:
            assert index in bad
            assert not mask[index]


@pytest.mark.parametrize("kind", ["int8", "uint64", "int64", "float16", "float32", "float64", "large_string", "bool_"])
@pytest.mark.parametrize("operand", [{"ge": -1}, {"lt": 300}, [1, 300], 2**60 + 1, 1.5, "1", True])
def test_every_type_of_column_is_compared(kind: str, operand: Any) -> None:
    import pyarrow as pa

    cells: dict[str, list[Any]]
    cells = {"uint64": [1, 2**60 + 1], "int64": [-1, 2**60 + 1], "large_string": ["1", "300"], "bool_": [True, False]}
    column = pa.array([*cells.get(kind, [1, 2]), None], getattr(pa, kind)())
    batch, where = pa.RecordBatch.from_arrays([column], ["x"]), Where.of({"x": operand})
    mask, bad = where.mask(batch)
    assert mask is not None
    assert not bad
    assert mask.tolist() == [where.holds(record) for record in batch.to_pylist()]
