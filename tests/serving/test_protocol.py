from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.serving.config import Budgets
from s1ray.serving.protocol import BadRequestError, report, requested_budget, resolve_budget
from s1ray.thinking import Accounting, ThinkingBudget

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
field_names = st.sampled_from(["max_tokens", "min_tokens", "waits", "wait_text", "end_text", "budget", ""])
thinking_objects = json_values | st.dictionaries(field_names, json_values, max_size=4)


@given(thinking_objects)
def test_any_json_is_read_or_refused_by_name(thinking: Any) -> None:
    error: BadRequestError | None = None
    try:
        requested_budget(thinking)
    except BadRequestError as raised:
        error = raised
    if error is not None:
        assert error.field.split(".")[0] == "thinking"
        assert str(error).startswith(f"{error.field}: ")


@pytest.mark.parametrize(
    ("thinking", "field"),
    [
        (3, "thinking"),
        ([], "thinking"),
        ({"max_tokens": -1}, "thinking.max_tokens"),
        ({"max_tokens": True}, "thinking.max_tokens"),
        ({"waits": "2"}, "thinking.waits"),
        ({"wait_text": [1]}, "thinking.wait_text"),
        ({"wait_text": []}, "thinking.wait_text"),
        ({"end_text": ""}, "thinking.end_text"),
        ({"budget_tokens": 3}, "thinking.budget_tokens"),
        ({"max_tokens": 3, "min_tokens": 4}, "thinking.min_tokens"),
        ({"max_tokens": 0, "waits": 1}, "thinking.waits"),
    ],
)
def test_the_wrong_field_is_named(thinking: Any, field: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        requested_budget(thinking)
    assert caught.value.field == field


def test_an_unknown_field_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BadRequestError, match="max_tokens, min_tokens, waits, wait_text, end_text"):
        requested_budget({"max": 3})


@pytest.mark.parametrize(
    ("thinking", "budgets", "max_tokens"),
    [
        (None, Budgets(), None),
        (None, Budgets(default=10), 10),
        (None, Budgets(default=10, maximum=20), 10),
        (None, Budgets(maximum=20), 20),
        ({"max_tokens": 15}, Budgets(default=10, maximum=20), 15),
        ({"max_tokens": 0}, Budgets(default=10), 0),
        ({"max_tokens": None}, Budgets(default=10, maximum=20), 20),
        ({"max_tokens": None}, Budgets(default=10), None),
        ({"waits": 2}, Budgets(default=10), 10),
        ({"min_tokens": 12}, Budgets(default=10, maximum=20), 12),
    ],
)
def test_what_is_left_out_comes_from_the_server(thinking: Any, budgets: Budgets, max_tokens: int | None) -> None:
    assert resolve_budget(requested_budget(thinking), budgets).max_tokens == max_tokens


def test_waits_are_dropped_where_the_servers_default_is_no_thinking() -> None:
    assert resolve_budget(requested_budget({"waits": 2}), Budgets(default=0)) == ThinkingBudget(max_tokens=0)


def test_more_than_the_servers_maximum_is_refused() -> None:
    for name in ("max_tokens", "min_tokens"):
        with pytest.raises(BadRequestError, match="maximum of 20") as caught:
            resolve_budget(requested_budget({name: 21}), Budgets(maximum=20))
        assert caught.value.field == f"thinking.{name}"


@given(
    st.builds(
        lambda fields: {k: v for k, v in fields.items() if v is not None},
        st.fixed_dictionaries(
            {
                "max_tokens": st.none() | st.integers(0, 50),
                "min_tokens": st.none() | st.integers(0, 50),
                "waits": st.none() | st.integers(0, 5),
            }
        ),
    ),
    st.none() | st.integers(0, 40),
    st.none() | st.integers(0, 40),
)
def test_a_resolved_budget_is_valid_and_within_the_maximum(
    thinking: dict[str, int], default: int | None, maximum: int | None
) -> None:
    if default is not None and maximum is not None and default > maximum:
        default = maximum
    budgets = Budgets(default=default, maximum=maximum)
    try:
        resolved = resolve_budget(requested_budget(thinking), budgets)
    except BadRequestError:
        return
    assert ThinkingBudget.model_validate(resolved.model_dump()) == resolved
    assert maximum is None or (resolved.max_tokens is not None and resolved.max_tokens <= maximum)


def test_the_report_shows_counts_and_the_resolved_budget() -> None:
    accounting = Accounting(
        thinking_tokens=5,
        answer_tokens=3,
        waits=1,
        end_forced="budget",
        answered=True,
        thinking_span=(2, 7),
        answer_begin=9,
        limit=5,
    )
    budget = ThinkingBudget(max_tokens=5, waits=1)
    shown = report(accounting, budget)
    assert shown["thinking_tokens"] == 5
    assert shown["answer_tokens"] == 3
    assert (shown["waits"], shown["end_forced"]) == (1, "budget")
    assert shown["limit"] == 5
    assert shown["budget"] == budget.model_dump(mode="json")
