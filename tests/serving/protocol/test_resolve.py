from __future__ import annotations

import asyncio
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.serving.config import Budgets
from s1ray.serving.protocol.refusals import BadRequestError
from s1ray.serving.protocol.resolve import (
    MAX_PATIENCE_S,
    PATIENCE_S,
    UNKNOWN_CONTEXT,
    KeyMaximumError,
    ModelLimits,
    deadline,
    resolve,
    sequences,
    thinking_tokens,
)
from s1ray.serving.scaling.router import bring_earliest_to_front, deadline_of


def limits(context: int | None = 1000, **budgets: Any) -> ModelLimits:
    return ModelLimits(budgets=Budgets(**budgets), context=context)


@pytest.mark.parametrize(
    ("fields", "of", "tokens"),
    [
        ({"thinking": {"max_tokens": 50}}, limits(), 50),
        ({"thinking": {"max_tokens": 50}, "max_tokens": 20}, limits(), 20),
        ({"thinking": {"max_tokens": 50}, "max_completion_tokens": 20, "max_tokens": 900}, limits(), 20),
        ({"thinking": {"max_tokens": 50}, "prompt": ["a", "b"], "n": 2}, limits(), 50),
        ({"reasoning_effort": "low"}, limits(effort={"low": 7}), 7),
        ({}, limits(default=30), 30),
        ({}, limits(), 1000),
        ({}, limits(maximum=40), 40),
        ({"thinking": {"max_tokens": "auto"}}, limits(context=None), UNKNOWN_CONTEXT),
        ({"thinking": {"type": "disabled"}}, limits(), 0),
        ({"thinking": False, "max_tokens": 60}, limits(), 60),
        ({"echo": True, "max_tokens": 0}, limits(), 0),
    ],
)
def test_thinking_is_estimated_from_every_alias(fields: dict[str, Any], of: ModelLimits, tokens: int) -> None:
    assert thinking_tokens(resolve(fields, of, completion=True), fields, of) == tokens


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 40),
        # The key's maximum lowers what the name means to others, so this does not contradict itself.
        ({"thinking": {"effort": "high", "max_tokens": 40}}, 40),
        ({"reasoning_effort": "high"}, 40),
        ({"thinking": False}, 40),
        ({"thinking_token_budget": 41}, 40),
        ({"thinking_token_budget": 501}, 40),
    ],
)
def test_a_keys_maximum_lowers_what_the_server_would_grant(fields: dict[str, Any], tokens: int) -> None:
    of = limits(default=80, maximum=500, effort={"high": 90})
    assert resolve(fields, of, 40, completion=True).budget.max_tokens == tokens


def test_the_key_is_at_fault_only_where_the_server_would_grant_the_budget() -> None:
    of = limits(maximum=500, over_maximum="refuse")
    with pytest.raises(KeyMaximumError, match="this API key's maximum of 40") as caught:
        resolve({"thinking_token_budget": 41}, of, 40)
    assert caught.value.field == "thinking_token_budget"
    with pytest.raises(BadRequestError, match="this server's maximum of 500") as other:
        resolve({"thinking_token_budget": 501}, of, 40)
    assert not isinstance(other.value, KeyMaximumError)


@pytest.mark.parametrize(
    ("fields", "completion", "field"),
    [
        ({"thinking": {"max_token": 5}}, False, "thinking.max_token"),
        ({"thinkin": 5, "thinking_tokens": 5}, False, "thinkin"),
        ({"thinking": "long"}, True, "thinking"),
        ({"reasoning_effort": "huge"}, False, "reasoning_effort"),
        ({"thinking_token_budget": 4, "max_tokens_thinking": 3}, True, "max_tokens_thinking"),
        ({"vllm_xargs": {"s1ray": "{}"}}, False, "vllm_xargs.s1ray"),
        ({"thinking": False}, False, "thinking"),
        ({"echo": True}, True, "echo"),
        ({"use_beam_search": True}, False, "use_beam_search"),
        ({"reasoning": {"exclude": True}}, True, "reasoning.exclude"),
        ({"thinking": {"display": "omitted"}}, True, "thinking.display"),
        ({"thinking": {"budget_tokens": 9}, "max_tokens": 9}, False, "thinking.budget_tokens"),
        ({"thinking": {"answer_reserve": 1000}}, False, "thinking.answer_reserve"),
        ({"min_tokens_thinking": 20, "max_completion_tokens": 20}, False, "min_tokens_thinking"),
    ],
)
def test_what_is_wrong_by_its_own_text_is_refused_by_the_clients_name(
    fields: dict[str, Any], completion: bool, field: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        resolve(fields, limits(), completion=completion)
    assert caught.value.field == field


def test_a_resolved_request_travels_with_all_that_its_replica_needs() -> None:
    fields = {"reasoning": {"effort": "low", "exclude": True}, "thinking_n_ignore": 1}
    thinking = pickle.loads(pickle.dumps(resolve(fields, limits(effort={"low": 7}))))
    assert (thinking.budget.max_tokens, thinking.budget.waits, thinking.budget.wait_text) == (7, 1, None)
    assert (thinking.effort, thinking.hidden, thinking.unforced) == ("low", True, False)
    assert thinking.clamped_from == {}
    assert thinking.aliases.error("waits: too many").field == "thinking_n_ignore"
    assert thinking.aliases.error("max_tokens: too many").field == "reasoning.effort"
    assert resolve({"include_reasoning": False}, limits()).hidden
    assert resolve({"thinking": {"max_tokens": 50}}, limits(maximum=90), 20).clamped_from == {"max_tokens": 50}
    assert resolve({"echo": True, "max_tokens": 0}, limits(), completion=True).unforced


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ({}, 1),
        ({"n": None}, 1),
        ({"n": 4}, 4),
        ({"prompt": "text"}, 1),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1], [2]], "n": 2}, 4),
        ({"prompt": []}, 1),
        ({"prompt": None}, 1),
    ],
)
def test_a_request_asks_for_its_prompts_times_n(body: dict[str, Any], count: int) -> None:
    assert sequences(body) == count


def test_a_short_request_passes_a_long_one_that_came_a_little_earlier_and_no_other() -> None:
    long = deadline(100.0, 32_000)
    assert deadline(200.0, 100) < long
    assert deadline(300.0, 100) > long
    assert deadline(101.0, 100) > deadline(100.0, 100)


def test_a_request_is_passed_no_longer_than_a_client_waits() -> None:
    assert deadline(100.0, 10**6) == 100.0 + MAX_PATIENCE_S


def waiting(loop: asyncio.AbstractEventLoop, *deadlines: float | None, done: tuple[int, ...] = ()) -> list[Any]:
    requests = []
    for index, due in enumerate(deadlines):
        future = loop.create_future()
        if index in done:
            future.cancel()
        args = ["body"] if due is None else ["body", SimpleNamespace(deadline=due)]
        requests.append(SimpleNamespace(args=args, created_at=50.0, future=future, index=index))
    return requests


def test_the_queue_serves_the_earliest_deadline_of_those_that_still_wait() -> None:
    loop = asyncio.new_event_loop()
    queue = waiting(loop, 30.0, 10.0, 20.0, 5.0, done=(3,))
    bring_earliest_to_front(queue)
    assert [request.index for request in queue] == [1, 0, 2, 3]
    # What has no deadline, such as counting tokens, is served as it came.
    queue = waiting(loop, 60.0, None)
    bring_earliest_to_front(queue)
    assert [request.index for request in queue] == [1, 0]
    assert deadline_of(queue[0]) == 50.0
    bring_earliest_to_front([])
    loop.close()


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 4000)), min_size=1, max_size=40))
def test_no_request_waits_behind_those_that_arrived_after_its_deadline(arrivals: list[tuple[float, int]]) -> None:
    loop = asyncio.new_event_loop()
    queue = waiting(loop, *(deadline(when, tokens) for when, tokens in arrivals))
    served = []
    while queue:
        bring_earliest_to_front(queue)
        served.append(queue.pop(0).index)
    loop.close()
    for position, index in enumerate(served):
        when, tokens = arrivals[index]
        assert all(arrivals[before][0] <= when + PATIENCE_S * tokens for before in served[:position])
