from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.serving.config import Budgets
from s1ray.serving.protocol.aliases import read_request
from s1ray.serving.protocol.refusals import BadRequestError
from s1ray.serving.protocol.resolve import ModelLimits, resolve
from s1ray.serving.protocol.strategies import STRATEGIES, Votes, read_strategy

fields = st.sampled_from(
    sorted({name for strategy in STRATEGIES.values() for name in strategy.model_fields} | {"", "N"})
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(fields, inner, max_size=4))
given_strategies = values | st.dictionaries(st.sampled_from([*STRATEGIES, "vote", ""]), values, max_size=3)


@given(given_strategies)
def test_any_json_is_a_strategy_or_refused_by_the_field_as_it_was_written(value: Any) -> None:
    strategy, refused = None, None
    try:
        strategy = read_strategy(value)
    except BadRequestError as error:
        refused = error
    if refused is not None:
        assert refused.field.startswith("thinking.strategy")
        assert str(refused).startswith(f"{refused.field}: ")
    else:
        assert (None if strategy is None else [strategy.name]) == (None if value is None else list(value))


@pytest.mark.parametrize(
    ("value", "field", "message"),
    [
        ([], "thinking.strategy", "object"),
        ({}, "thinking.strategy", "empty"),
        ({"vote": {}}, "thinking.strategy.vote", "there are votes"),
        ({"votes": None}, "thinking.strategy.votes", "an object"),
        ({"votes": {"k": 3}}, "thinking.strategy.votes.k", "the fields are n,"),
        ({"votes": {"n": 1}}, "thinking.strategy.votes.n", "greater than or equal to 2"),
        ({"votes": {"n": 10**9}}, "thinking.strategy.votes.n", "less than"),
        ({"votes": {"n": True}}, "thinking.strategy.votes.n", "integer"),
        ({"votes": {"n": "8"}}, "thinking.strategy.votes.n", "integer"),
        ({"votes": {"n": 4, "first": 4}}, "thinking.strategy.votes.first", "smaller"),
        ({"votes": {"weights": "borda"}}, "thinking.strategy.votes.weights", "'confidence'"),
        ({"votes": {"temperature": 0}}, "thinking.strategy.votes.temperature", "greater than 0"),
        ({"votes": {"temperature": float("nan")}}, "thinking.strategy.votes.temperature", "number"),
        ({"votes": {"stop_early": 1}}, "thinking.strategy.votes.stop_early", "boolean"),
        ({"early_exit": {"stable": 2}}, "thinking.strategy.early_exit.stable", "goes with kind"),
        ({"early_exit": {"threshold": "0.9"}}, "thinking.strategy.early_exit.threshold", "number"),
        ({"early_exit": {"words": "Wait"}}, "thinking.strategy.early_exit.words", "tuple"),
        ({"early_exit": {}, "schedule": {}}, "thinking.strategy", "give one of them"),
        ({"schedule": {}}, "thinking.strategy.schedule.phase_tokens", "required"),
        ({"schedule": {"phase_tokens": 9, "alpha": True}}, "thinking.strategy.schedule.alpha", "number"),
    ],
)
def test_what_is_wrong_is_said_of_the_field(value: object, field: str, message: str) -> None:
    with pytest.raises(BadRequestError, match=message) as caught:
        read_strategy(value)
    assert caught.value.field == field


def test_a_request_carries_its_strategy_beside_its_budget() -> None:
    requested = read_request({"thinking": {"max_tokens": 9, "strategy": {"votes": {"n": 3, "first": None}}}})
    assert requested.strategy == Votes(n=3)
    assert requested.budget.max_tokens == 9
    assert read_request({"thinking": {"strategy": None}}).strategy is None


CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "?"}], "n": 1, "logprobs": False}
EXIT: dict[str, Any] = {"strategy": {"early_exit": {}}}
SCHEDULE: dict[str, Any] = {"strategy": {"schedule": {"phase_tokens": 50}}}


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"thinking": EXIT, "messages": None, "prompt": "?"}, "thinking.strategy.early_exit", "is for chats"),
        ({"thinking": EXIT, "n": 2}, "n", "gives one response"),
        ({"thinking": EXIT, "tools": [{"type": "function"}]}, "tools", "a trial answer is text"),
        ({"thinking": EXIT, "response_format": {"type": "json_object"}}, "response_format", "a trial answer is text"),
        ({"thinking": EXIT, "logprobs": True}, "logprobs", "leave it out"),
        ({"thinking": EXIT, "prompt_logprobs": 1}, "prompt_logprobs", "leave it out"),
        ({"thinking": EXIT | {"reopen": "allow"}}, "thinking.reopen", "the only block of thinking"),
        ({"thinking": SCHEDULE | {"waits": 1}}, "thinking.waits", "says when to wait"),
        ({"thinking": SCHEDULE | {"min_tokens": 1}}, "thinking.min_tokens", "says when to wait"),
    ],
)
def test_what_does_not_go_together_with_a_strategy_is_refused(
    changes: dict[str, Any], field: str, message: str
) -> None:
    fields = CHAT | changes
    with pytest.raises(BadRequestError, match=message) as caught:
        resolve(fields, ModelLimits(budgets=Budgets(), context=1000), completion="prompt" in fields)
    assert caught.value.field == field


@pytest.mark.parametrize("thinking", [EXIT, SCHEDULE])
def test_the_replica_gets_the_strategy(thinking: dict[str, Any]) -> None:
    resolved = resolve(CHAT | {"thinking": thinking}, ModelLimits(budgets=Budgets(), context=1000))
    assert resolved.strategy == read_strategy(thinking["strategy"])


LONG = "thinking" + "x" * 100_000


@pytest.mark.parametrize(
    "fields",
    [
        {LONG: 1},
        {"thinking": {LONG: 1}},
        {"thinking": {"strategy": {LONG: {}}}},
        {"thinking": {"strategy": {"votes": {LONG: 1}}}},
    ],
    ids=["request", "thinking", "strategy", "votes"],
)
def test_a_field_of_any_length_is_told_in_short(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError, match=r"xx\.\.\.: unknown") as caught:
        resolve(CHAT | fields, ModelLimits(budgets=Budgets(), context=1000))
    assert len(str(caught.value)) < 1000
