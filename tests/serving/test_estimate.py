from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.serving.config import Budgets
from s1ray.serving.protocol.estimate import (
    MAX_PATIENCE_S,
    PATIENCE_S,
    UNKNOWN_CONTEXT,
    ModelLimits,
    deadline,
    sequences,
    thinking_tokens,
)
from s1ray.serving.scaling.router import bring_earliest_to_front, deadline_of


def terms(context: int | None = 1000, **budgets: Any) -> ModelLimits:
    return ModelLimits(budgets=Budgets(**budgets), context=context)


@pytest.mark.parametrize(
    ("spelled", "body", "of", "tokens"),
    [
        ({"thinking": {"max_tokens": 50}}, {}, terms(), 50),
        ({"thinking": {"max_tokens": 50}}, {"max_tokens": 20}, terms(), 20),
        ({"thinking": {"max_tokens": 50}}, {"max_completion_tokens": 20, "max_tokens": 900}, terms(), 20),
        ({"thinking": {"max_tokens": 50}}, {"prompt": ["a", "b"], "n": 2}, terms(), 50),
        ({"reasoning_effort": "low"}, {}, terms(effort={"low": 7}), 7),
        ({}, {}, terms(default=30), 30),
        ({}, {}, terms(), 1000),
        ({}, {}, terms(maximum=40), 40),
        ({"thinking": {"max_tokens": "auto"}}, {}, terms(context=None), UNKNOWN_CONTEXT),
        ({"thinking": {"type": "disabled"}}, {}, terms(), 0),
        ({"thinking": False}, {"max_tokens": 60}, terms(), 60),
        ({"thinking": {"max_tokens": 10**6}}, {}, terms(maximum=40), 0),
        ({"thinking": "long"}, {}, terms(), 0),
    ],
)
def test_thinking_is_estimated_from_every_spelling(
    spelled: dict[str, Any], body: dict[str, Any], of: ModelLimits, tokens: int
) -> None:
    assert thinking_tokens(spelled, SimpleNamespace(**body), of) == tokens


@pytest.mark.parametrize(
    ("spelled", "tokens"),
    [
        ({}, 40),
        # The key's maximum cuts what the name means to others, so this does not contradict itself.
        ({"thinking": {"effort": "high", "max_tokens": 40}}, 40),
        ({"reasoning_effort": "high"}, 40),
        ({"thinking": {"max_tokens": 41}}, 0),
        ({"thinking": False}, 40),
    ],
)
def test_a_keys_maximum_is_estimated_as_its_replica_will_grant_it(spelled: dict[str, Any], tokens: int) -> None:
    of = terms(default=80, maximum=500, effort={"high": 90})
    assert thinking_tokens(spelled, SimpleNamespace(), of, 40) == tokens


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
    assert sequences(SimpleNamespace(**body)) == count


def test_a_short_request_passes_a_long_one_that_came_a_little_earlier_and_no_other() -> None:
    long = deadline(100.0, 32_000)
    assert deadline(200.0, 100) < long
    assert deadline(300.0, 100) > long
    assert deadline(101.0, 100) > deadline(100.0, 100)


def test_nobody_is_passed_for_longer_than_a_client_waits() -> None:
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
def test_nobody_waits_behind_those_that_came_after_its_deadline(arrivals: list[tuple[float, int]]) -> None:
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
