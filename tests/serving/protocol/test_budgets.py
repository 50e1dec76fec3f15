from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.serving.config import DEFAULT_EFFORT, Budgets
from s1ray.serving.protocol.aliases import Aliases, RequestedThinking, read_request
from s1ray.serving.protocol.budgets import GrantedBudget, check_room, report, resolve_budget
from s1ray.serving.protocol.refusals import BadRequestError
from s1ray.thinking import Accounting, ForcingPlan, ThinkingBudget


def resolve(body: dict[str, Any], **budgets: Any) -> ThinkingBudget:
    return grant(body, **budgets).budget


def grant(body: dict[str, Any], **budgets: Any) -> GrantedBudget:
    return resolve_budget(read_request(body), Budgets(**budgets))


@pytest.mark.parametrize(
    ("thinking", "budgets", "max_tokens"),
    [
        (None, {}, "auto"),
        (None, {"default": 10}, 10),
        (None, {"default": 10, "maximum": 20}, 10),
        (None, {"maximum": 20}, 20),
        ({"max_tokens": 15}, {"default": 10, "maximum": 20}, 15),
        ({"max_tokens": 0}, {"default": 10}, 0),
        ({"max_tokens": None}, {"default": 10, "maximum": 20}, 20),
        ({"max_tokens": None}, {"default": 10}, "auto"),
        ({"max_tokens": "auto"}, {"default": 10, "maximum": 20}, 20),
        ({"max_tokens": "auto"}, {"default": 10}, "auto"),
        ({"waits": 2}, {"default": 10}, 10),
        ({"min_tokens": 12}, {"default": 10, "maximum": 20}, 12),
        ({"type": "enabled"}, {"default": 10}, 10),
        ({"type": "adaptive"}, {"default": 10}, 10),
        ({"type": "disabled"}, {"default": 10}, 0),
    ],
)
def test_what_is_left_out_comes_from_the_server(thinking: Any, budgets: dict[str, Any], max_tokens: int | str) -> None:
    assert resolve({"thinking": thinking}, **budgets).max_tokens == max_tokens


def test_what_the_servers_default_leaves_no_room_for_is_dropped() -> None:
    assert resolve({"thinking": {"waits": 2}}, default=0) == ThinkingBudget(max_tokens=0)
    assert resolve({"thinking": {"grace": 20}}, default=10).grace == 10


@pytest.mark.parametrize(
    ("body", "maximum", "budget", "clamped_from"),
    [
        ({"thinking_token_budget": 50}, 20, {"max_tokens": 20}, {"max_tokens": 50}),
        ({"thinking_token_budget": 20}, 20, {"max_tokens": 20}, {}),
        ({"thinking_token_budget": -1}, 20, {"max_tokens": 20}, {}),
        ({"thinking": {"min_tokens": 21}}, 20, {"max_tokens": 20, "min_tokens": 20}, {"min_tokens": 21}),
        (
            {"thinking": {"max_tokens": 50, "min_tokens": 30, "waits": 2, "grace": 40}},
            20,
            {"max_tokens": 20, "min_tokens": 20, "waits": 2, "grace": 20},
            {"max_tokens": 50, "min_tokens": 30},
        ),
        ({"thinking": {"max_tokens": 50, "waits": 2}}, 0, {"max_tokens": 0}, {"max_tokens": 50}),
        ({"reasoning_effort": "high", "thinking": {"waits": 2, "grace": 9}}, 0, {"max_tokens": 0}, {}),
        ({"reasoning_effort": "high", "thinking": {"max_tokens": 50}}, 20, {"max_tokens": 20}, {"max_tokens": 50}),
    ],
)
def test_more_than_the_maximum_is_clamped_and_said(
    body: dict[str, Any], maximum: int, budget: dict[str, Any], clamped_from: dict[str, int]
) -> None:
    granted = grant(body, maximum=maximum)
    assert granted.budget.model_dump() == ThinkingBudget(**budget).model_dump()
    assert granted.clamped_from == clamped_from


def test_a_server_may_refuse_more_than_its_maximum() -> None:
    for field in ("max_tokens", "min_tokens"):
        with pytest.raises(BadRequestError, match="maximum of 20") as caught:
            resolve({"thinking": {field: 21}}, maximum=20, over_maximum="refuse")
        assert caught.value.field == f"thinking.{field}"
    with pytest.raises(BadRequestError) as caught:
        resolve({"thinking_token_budget": 21}, maximum=20, over_maximum="refuse")
    assert caught.value.field == "thinking_token_budget"
    assert resolve({"thinking_token_budget": 20}, maximum=20, over_maximum="refuse").max_tokens == 20


def test_an_effort_is_the_servers_number() -> None:
    for name, tokens in DEFAULT_EFFORT.items():
        assert resolve({"reasoning_effort": name}, default=3).max_tokens == tokens
    assert resolve({"reasoning_effort": "deep"}, effort={"deep": 7}, default=3).max_tokens == 7
    assert resolve({"reasoning_effort": "xhigh"}, maximum=9).max_tokens == 9


def test_an_effort_and_the_same_number_agree() -> None:
    body = {"reasoning_effort": "low", "thinking": {"effort": "low", "max_tokens": 1024}}
    assert resolve(body).max_tokens == 1024
    assert resolve({"reasoning_effort": "none", "thinking": {"type": "disabled"}}).max_tokens == 0


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"reasoning_effort": "most"}, "reasoning_effort", "none, minimal, low, medium, high, xhigh, max"),
        ({"reasoning": {"effort": "low"}, "max_tokens_thinking": 9}, "reasoning.effort", "max_tokens_thinking, 9"),
        ({"reasoning_effort": "low", "thinking": {"min_tokens": 2000}}, "thinking.min_tokens", "reasoning_effort"),
        ({"reasoning_effort": "none", "thinking_n_ignore": 1}, "thinking_n_ignore", "cannot happen"),
    ],
)
def test_an_effort_that_cannot_be_is_refused(body: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(BadRequestError, match=message) as caught:
        resolve(body)
    assert caught.value.field == field


def read_request_or_none(body: dict[str, Any]) -> RequestedThinking | None:
    try:
        return read_request(body)
    except BadRequestError:
        return None


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "max_tokens": st.integers(0, 50) | st.sampled_from(["auto", None]),
            "min_tokens": st.integers(0, 50),
            "waits": st.integers(0, 5),
            "grace": st.integers(0, 50),
            "effort": st.sampled_from(["none", "low", "max"]),
        },
    ),
    st.none() | st.integers(0, 40),
    st.none() | st.integers(0, 40),
)
def test_a_resolved_budget_is_valid_and_within_the_maximum(
    thinking: dict[str, Any], default: int | None, maximum: int | None
) -> None:
    if default is not None and maximum is not None and default > maximum:
        default = maximum
    budgets = Budgets(default=default, maximum=maximum)
    assert Budgets.model_validate(budgets.model_dump()) == budgets
    requested, resolved, refused = read_request_or_none({"thinking": thinking}), None, ""
    try:
        resolved = resolve_budget(requested, budgets).budget if requested else None
    except BadRequestError as error:
        refused = error.field
    if resolved is None:
        assert not requested or refused.startswith("thinking.")
        return
    assert ThinkingBudget.model_validate(resolved.model_dump()) == resolved
    assert resolved.max_tokens is not None
    assert maximum is None or (isinstance(resolved.max_tokens, int) and resolved.max_tokens <= maximum)
    again = resolve_budget(read_request({"thinking": resolved.model_dump(mode="json")}), budgets)
    assert again == GrantedBudget(resolved)


PLAN = ForcingPlan(vocab_size=9, start=(1, 2), end=(1, 3), end_triggers=(0, 1), newline=(4,), cut=(1, 3), cut_answer=2)


def room(body: dict[str, Any], max_tokens: int | None, context: int | None = None) -> str | None:
    """The field that is refused."""
    requested = read_request(body)
    budget = resolve_budget(requested, Budgets()).budget
    plan = PLAN.model_copy(update={"min_tokens": budget.min_tokens, "answer_reserve": budget.answer_reserve})
    try:
        check_room(budget, requested.aliases, max_tokens=max_tokens, context=context, plan=plan)
    except BadRequestError as error:
        return error.field
    return None


def test_a_reserve_leaves_something_of_the_response() -> None:
    assert room({"thinking": {"answer_reserve": 10}}, 10) == "thinking.answer_reserve"
    assert room({"thinking": {"answer_reserve": 10}}, None, 10) == "thinking.answer_reserve"
    assert room({"thinking": {"answer_reserve": 9}}, 10) is None
    assert room({"thinking": {"answer_reserve": 10}}, None) is None


def test_a_minimum_must_fit_with_the_forced_end_and_the_reserve() -> None:
    # The line break, the end delimiter (3 ids) and an eighth of the response stand behind the thinking.
    assert room({"min_tokens_thinking": 11}, 16) is None
    assert room({"min_tokens_thinking": 12}, 16) == "min_tokens_thinking"
    assert room({"thinking": {"min_tokens": 12, "answer_reserve": 1}}, 16) is None


def test_anthropics_budget_is_less_than_the_response() -> None:
    anthropics = {"thinking": {"type": "enabled", "budget_tokens": 10}}
    assert room(anthropics, 10) == "thinking.budget_tokens"
    assert room(anthropics, 11) is None
    assert room({"thinking": {"max_tokens": 10}}, 10) is None


def test_plans_that_cannot_be_made_are_refused_in_the_clients_words() -> None:
    read = read_request({"thinking_n_ignore": 1, "thinking_n_ignore_str": "x"})
    error = read.aliases.error("wait_text: 'x' contains a token that ends the thinking")
    assert (error.field, str(error)[:24]) == ("thinking_n_ignore_str", "thinking_n_ignore_str: '")
    assert Aliases().error("no field: at all").field == "thinking"


def test_the_report_shows_counts_and_the_resolved_budget() -> None:
    accounting = Accounting(
        thinking_tokens=5,
        answer_tokens=3,
        waits=1,
        end_forced="budget",
        answered=True,
        answer_cut=True,
        thinking_spans=((2, 7),),
        answer_spans=((9, 12),),
        limit=5,
    )
    budget = ThinkingBudget(max_tokens=5, waits=1)
    shown = report(accounting, budget)
    assert shown["thinking_tokens"] == 5
    assert (shown["answer_tokens"], shown["answer_cut"], shown["blocks"]) == (3, True, 1)
    assert (shown["waits"], shown["end_forced"]) == (1, "budget")
    assert shown["limit"] == 5
    assert shown["budget"] == budget.model_dump(mode="json")
    assert "clamped_from" not in shown
    marked = report(replace(accounting, wait_spans=((4, 5),)), budget)
    assert marked["wait_spans"] == [[4, 5]], "positions in the response's ids"
    assert "wait_spans" not in report(replace(accounting, waits=0), budget)
    clamped = report(accounting, budget, clamped_from={"max_tokens": 50})
    assert clamped == shown | {"clamped_from": {"max_tokens": 50}}
