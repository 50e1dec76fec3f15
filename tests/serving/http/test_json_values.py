from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.serving.http.json_values import unsendable

sendable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=0) | st.just("a"), inner, max_size=3),
    max_leaves=8,
)
BAD = [2**63, -(2**63) - 1, 10**300, float("nan"), float("inf"), "\ud800", "a\udfff", {"\ud800": 1}]


@given(sendable)
def test_what_a_message_can_hold_passes(data: Any) -> None:
    assert list(unsendable(data)) == []


@given(sendable, st.sampled_from(BAD))
def test_what_it_cannot_hold_is_found_wherever_it_is(data: Any, bad: Any) -> None:
    ((where, value, problem),) = unsendable({"x": data, "y": [data, {"z": bad}]})
    assert where == ("y", 1, "z")
    assert value is bad or isinstance(bad, dict)
    assert problem


@pytest.mark.parametrize("depth", [10, 900])
def test_depth_is_no_matter(depth: int) -> None:
    data: Any = 2**64
    for _ in range(depth):
        data = [data]
    ((where, _, _),) = unsendable(data)
    assert where == (0,) * depth
