from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.serving.protocol.aliases import (
    ALIASES,
    OTHERS_NAMES,
    TEMPLATE_SWITCHES,
    RequestedThinking,
    read_request,
)
from s1ray.serving.protocol.refusals import BadRequestError
from s1ray.thinking import ThinkingBudget

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("auto")
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
inner_names = st.sampled_from(
    [*ThinkingBudget.model_fields, *OTHERS_NAMES, *TEMPLATE_SWITCHES, "enabled", "exclude", "summary", "budget", ""]
)
values = json_values | st.dictionaries(inner_names, json_values, max_size=4)
bodies = st.dictionaries(
    st.sampled_from([*ALIASES, "output_config", "chat_template_kwargs", "enable_thinking", "reason", "stream"]),
    values,
    max_size=4,
)


@given(bodies)
def test_any_json_is_read_or_refused_by_a_field_that_it_has(body: dict[str, Any]) -> None:
    requested, refused = None, None
    try:
        requested = read_request(body)
    except BadRequestError as error:
        refused = error
    if requested is None:
        assert refused is not None
        assert refused.field.split(".")[0] in body
        assert str(refused).startswith(f"{refused.field}: ")
    else:
        assert requested.budget.effort is None
        assert all(alias.split(".")[0] in body for alias in requested.aliases.values())


@pytest.mark.parametrize(
    ("body", "budget"),
    [
        ({}, {}),
        ({"thinking": None, "reasoning_effort": None, "thinking_token_budget": None}, {}),
        ({"thinking": {"max_tokens": 9, "waits": 1}}, {"max_tokens": 9, "waits": 1}),
        ({"thinking": {"max_tokens": "auto", "wait_text": None}}, {"max_tokens": "auto", "wait_text": None}),
        ({"thinking": {"waits": None, "end_text": None, "ban": None}}, {}),
        ({"thinking": {"max_tokens": None}}, {"max_tokens": "auto"}),
        ({"thinking": {"max_tokens": None}, "thinking_token_budget": 9}, {"max_tokens": 9}),
        ({"thinking": {"type": "enabled", "budget_tokens": 9, "loops": 3}}, {"max_tokens": 9, "loops": 3}),
        ({"thinking": {"type": "disabled"}}, {"max_tokens": 0}),
        ({"thinking": {"type": "adaptive"}}, {}),
        ({"reasoning": {"max_tokens": 9, "enabled": True}}, {"max_tokens": 9}),
        ({"reasoning": {"enabled": False}}, {"max_tokens": 0}),
        ({"thinking": {"type": "auto"}}, {}),
        ({"thinking": {"type": "enabled", "keep": "all", "clear_thinking": False}}, {}),
        ({"thinking": {"answer_max_tokens": 9, "stop": True}}, {"answer_max_tokens": 9, "stop": True}),
        ({"thinking": {"reopen": "allow", "scope": "turn"}}, {"reopen": "allow", "scope": "turn"}),
        ({"answer": {"max_tokens": 9}}, {"answer_max_tokens": 9}),
        ({"answer": {"max_tokens": 9}, "thinking": {"answer_max_tokens": 9}}, {"answer_max_tokens": 9}),
        ({"answer": {"max_tokens": None}}, {}),
        ({"reasoning": {"summary": "auto", "generate_summary": "detailed"}}, {}),
        ({"think": True}, {}),
        ({"think": False}, {"max_tokens": 0}),
        ({"reasoning_budget": -1}, {"max_tokens": "auto"}),
        ({"reasoning_budget": 0}, {"max_tokens": 0}),
        ({"reasoning_budget": 9, "thinking_token_budget": 9}, {"max_tokens": 9}),
        ({"chat_template_kwargs": {"enable_thinking": False}}, {"max_tokens": 0}),
        ({"chat_template_kwargs": {"thinking": False, "enable_thinking": False}}, {"max_tokens": 0}),
        ({"chat_template_kwargs": {"enable_thinking": True, "thinking": True, "date": "today"}}, {}),
        ({"include_reasoning": False}, {}),
        ({"thinking_token_budget": 9}, {"max_tokens": 9}),
        ({"thinking_token_budget": -1}, {"max_tokens": "auto"}),
        ({"max_tokens_thinking": "auto"}, {"max_tokens": "auto"}),
        ({"min_tokens_thinking": 9}, {"min_tokens": 9, "wait_text": None}),
        ({"thinking_n_ignore": 2}, {"waits": 2, "wait_text": None}),
        ({"thinking_n_ignore": 2, "thinking_n_ignore_str": "Wait"}, {"waits": 2, "wait_text": "Wait"}),
        ({"thinking_n_ignore": 2, "thinking": {"wait_text": ["Hmm"]}}, {"waits": 2, "wait_text": ["Hmm"]}),
        ({"thinking": {"max_tokens": 9}, "thinking_token_budget": 9, "max_tokens_thinking": 9}, {"max_tokens": 9}),
    ],
)
def test_every_alias_says_the_same_thing(body: dict[str, Any], budget: dict[str, Any]) -> None:
    assert read_request(body).budget == ThinkingBudget(**budget)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
        ({"thinking": {"effort": "low", "type": "adaptive"}}, "thinking.effort"),
        ({"output_config": {"effort": "low"}}, "output_config.effort"),
        ({"think": "low"}, "think"),
    ],
)
def test_every_effort_is_read(body: dict[str, Any], field: str) -> None:
    requested = read_request(body)
    assert (requested.effort, requested.aliases) == ("low", {"effort": field, "max_tokens": field})


def test_anthropics_number_comes_before_its_effort() -> None:
    requested = read_request({"thinking": {"type": "enabled", "budget_tokens": 9}, "output_config": {"effort": "low"}})
    assert (requested.effort, requested.budget.max_tokens) == (None, 9)


def test_thinking_may_be_hidden() -> None:
    assert read_request({"thinking": {"display": "omitted"}}).hidden_by == "thinking.display"
    assert read_request({"reasoning": {"exclude": True}}).hidden_by == "reasoning.exclude"
    assert read_request({"thinking": {"display": "summarized"}, "reasoning": {"exclude": False}}) == RequestedThinking()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"thinking": 3}, "thinking"),
        ({"thinking": []}, "thinking"),
        ({"thinking": {"max_tokens": -1}}, "thinking.max_tokens"),
        ({"thinking": {"max_tokens": True}}, "thinking.max_tokens"),
        ({"thinking": {"max_tokens": 2**40}}, "thinking.max_tokens"),
        ({"thinking": {"waits": "2"}}, "thinking.waits"),
        ({"thinking": {"wait_text": [1]}}, "thinking.wait_text"),
        ({"thinking": {"wait_text": []}}, "thinking.wait_text"),
        ({"thinking": {"end_text": ""}}, "thinking.end_text"),
        ({"thinking": {"budget": 3}}, "thinking.budget"),
        ({"thinking": {"max_tokens": 3, "min_tokens": 4}}, "thinking.min_tokens"),
        ({"thinking": {"max_tokens": 0, "waits": 1}}, "thinking.waits"),
        ({"thinking": {"type": "on"}}, "thinking.type"),
        ({"thinking": {"type": "disabled", "budget_tokens": 3}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "adaptive", "budget_tokens": 3}}, "thinking.budget_tokens"),
        ({"thinking": {"budget_tokens": "auto"}}, "thinking.budget_tokens"),
        ({"thinking": {"budget_tokens": 3, "max_tokens": 4}}, "thinking.max_tokens"),
        ({"thinking": {"display": 1}}, "thinking.display"),
        ({"thinking": {"effort": 1}}, "thinking.effort"),
        ({"thinking": {"effort": "low"}, "reasoning_effort": "high"}, "reasoning_effort"),
        ({"reasoning": "low"}, "reasoning"),
        ({"reasoning": {"summary": "brief"}}, "reasoning.summary"),
        ({"reasoning": {"generate_summary": 1}}, "reasoning.generate_summary"),
        ({"reasoning": {"summaries": "auto"}}, "reasoning.summaries"),
        ({"thinking": {"keep": "some"}}, "thinking.keep"),
        ({"thinking": {"clear_thinking": "no"}}, "thinking.clear_thinking"),
        ({"thinking": {"clear_thinking": True, "keep": "all"}}, "thinking.clear_thinking"),
        ({"thinking": {"reopen": "yes"}}, "thinking.reopen"),
        ({"thinking": {"scope": "session"}}, "thinking.scope"),
        ({"thinking": {"stop": 1}}, "thinking.stop"),
        ({"thinking": {"answer_max_tokens": 0}}, "thinking.answer_max_tokens"),
        ({"answer": 9}, "answer"),
        ({"answer": {"max_tokens": 0}}, "answer.max_tokens"),
        ({"answer": {"min_tokens": 1}}, "answer.min_tokens"),
        ({"answer": {"max_tokens": 9}, "thinking": {"answer_max_tokens": 8}}, "answer.max_tokens"),
        ({"think": 1}, "think"),
        ({"think": False, "thinking": {"max_tokens": 9}}, "think"),
        ({"reasoning_budget": -2}, "reasoning_budget"),
        ({"chat_template_kwargs": {"enable_thinking": "no"}}, "chat_template_kwargs.enable_thinking"),
        ({"chat_template_kwargs": {"thinking": False}, "reasoning_budget": 3}, "chat_template_kwargs.thinking"),
        ({"enable_thinking": False}, "enable_thinking"),
        ({"reasoning_format": "hidden"}, "reasoning_format"),
        ({"reasoning": {"enabled": 1}}, "reasoning.enabled"),
        ({"reasoning": {"enabled": False, "max_tokens": 3}}, "reasoning.enabled"),
        ({"reasoning_effort": 1}, "reasoning_effort"),
        ({"thinking_token_budget": -2}, "thinking_token_budget"),
        ({"thinking_token_budget": "auto"}, "thinking_token_budget"),
        ({"thinking_token_budget": -1, "max_tokens_thinking": 3}, "max_tokens_thinking"),
        ({"max_tokens_thinking": 1.0}, "max_tokens_thinking"),
        ({"min_tokens_thinking": 4, "max_tokens_thinking": 3}, "min_tokens_thinking"),
        ({"thinking_n_ignore": True}, "thinking_n_ignore"),
        ({"thinking_n_ignore": 10**6}, "thinking_n_ignore"),
        ({"thinking_n_ignore_str": ["Wait"]}, "thinking_n_ignore_str"),
        ({"until_thinking": "x"}, "until_thinking"),
    ],
)
def test_the_wrong_field_is_named(body: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        read_request(body)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("thinking", "kept"),
    [
        ({"keep": "all"}, True),
        ({"keep": "none"}, False),
        ({"clear_thinking": False}, True),
        ({"clear_thinking": True}, False),
        ({"keep": "all", "clear_thinking": False}, True),
        ({"keep": None, "clear_thinking": None}, None),
    ],
)
def test_the_template_is_asked_to_keep_earlier_thinking_or_not(thinking: dict[str, Any], kept: bool | None) -> None:
    template = read_request({"thinking": thinking}).template
    assert template == ({} if kept is None else {"preserve_thinking": kept, "clear_thinking": not kept})


def test_false_asks_for_no_forcing_and_for_nothing_else() -> None:
    assert read_request({"thinking": False}).unforced
    assert not read_request({"thinking": None}).unforced
    with pytest.raises(BadRequestError, match=r"thinking: false .* contradicts thinking_token_budget"):
        read_request({"thinking": False, "thinking_token_budget": 4})


def test_an_unknown_field_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BadRequestError, match="max_tokens, min_tokens, waits, wait_text, end_text"):
        read_request({"thinking": {"max": 3}})
    with pytest.raises(BadRequestError, match="thinking_n_ignore, thinking_n_ignore_str"):
        read_request({"thinking_ignore": 3})


def test_a_contradiction_names_both_fields_and_values() -> None:
    with pytest.raises(BadRequestError, match=r"max_tokens_thinking: 3 contradicts thinking_token_budget, 4"):
        read_request({"thinking_token_budget": 4, "max_tokens_thinking": 3})
