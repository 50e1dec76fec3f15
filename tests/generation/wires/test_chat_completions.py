"""Chat completions: what differs between the many servers that speak them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from s1ray.errors import InputError
from s1ray.generation import GenerationRequest
from s1ray.generation.answers import UnusableError
from s1ray.generation.base import Usage
from s1ray.generation.wires import ChatCompletions
from s1ray.thinking import ThinkingBudget

WIRE = ChatCompletions()


def request(**changes: Any) -> GenerationRequest:
    return GenerationRequest(**{"id": "q-0", "messages": [{"role": "user", "content": "2 + 2?"}]} | changes)


def answer(usage: Any = None, **choice: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "4", "reasoning_content": "two and two"}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"} | choice], "usage": usage}


def test_what_is_not_said_is_not_written() -> None:
    written = WIRE.body(request(temperature=None, top_p=None), "m", {"a": 1})
    assert written == {"model": "m", "messages": [{"role": "user", "content": "2 + 2?"}], "a": 1}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 12, "total_tokens": 19}, Usage(7, 0, 12)),
        (
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "prompt_tokens_details": {"cached_tokens": 6},
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            Usage(32, 6, 103, 94),
        ),
        ({"prompt_tokens": 7, "prompt_cache_hit_tokens": 5, "completion_tokens": 1}, Usage(7, 5, 1)),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 7}},
            Usage(9, 5, 0, None, 4),
        ),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 50}}, Usage(9, 9, 0)),
        ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 3}, Usage(9, 0, 4)),
        ({"prompt_tokens": None, "completion_tokens": None, "prompt_tokens_details": None}, Usage()),
    ],
    ids=["plain", "reasoning in the total only", "DeepSeek", "cache writes", "more cached than sent", "wrong", "nulls"],
)
def test_every_providers_count_means_the_same(usage: dict[str, Any], expected: Usage) -> None:
    assert WIRE.usage(answer(usage)) == expected
    assert WIRE.usage(answer()) is None
    assert WIRE.usage(answer({})) is None


def test_a_server_that_does_not_control_thinking_is_told_apart_from_one_that_obeys_a_budget() -> None:
    asked = request(budget=ThinkingBudget(max_tokens=9))
    assert WIRE.completion(asked, answer(thinking={"thinking_tokens": 9}), None).thinking_tokens == 9
    with pytest.raises(UnusableError, match="says nothing about the budget") as raised:
        WIRE.completion(asked, answer(), None)
    assert not raised.value.transient
    assert WIRE.completion(request(budget=ThinkingBudget()), answer(), None).answer == "4"


HALF, QUARTER = math.log(0.5), math.log(0.25)


def with_logprobs(*places: list[float | None], **choice: Any) -> dict[str, Any]:
    content = [
        {"token": "a", "logprob": -1.0, "top_logprobs": [{"logprob": each} for each in place]} for place in places
    ]
    return answer(logprobs={"content": content}, **choice)


def test_confidence_is_measured_at_once_and_without_forced_tokens() -> None:
    asked = request(top_logprobs=2, confidence_window=2)
    assert WIRE.body(asked, "m", {}) | {"logprobs": True, "top_logprobs": 2} == WIRE.body(asked, "m", {})
    said = with_logprobs(
        [-9999.0, 0.0],
        [HALF, HALF],
        [QUARTER, QUARTER, -7.0],
        thinking={"thinking_tokens": 2, "forced_spans": [[0, 1]]},
    )
    found = WIRE.completion(asked, said, None).confidence
    assert found is not None
    assert (found.tokens, found.forced_tokens, found.entropy) == (2, 1, 1.0)
    assert found.mean == found.lowest_group == found.tail == pytest.approx(-(HALF + QUARTER) / 2)
    assert WIRE.completion(request(), said, None).confidence is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (answer(), "no log-probabilities"),
        (answer(logprobs=None), "no log-probabilities"),
        (answer(logprobs={"content": []}), "no log-probabilities"),
        (
            with_logprobs([HALF, HALF, HALF], [HALF, HALF]),
            "2 log-probabilities at token 1 where top_logprobs asked for 3",
        ),
        (with_logprobs([HALF, HALF, 3.0]), "3.0 is no log-probability"),
        (with_logprobs([HALF, None, HALF]), "cannot be used|log-probabilities"),
        (
            with_logprobs([HALF] * 3, thinking={"thinking_tokens": 1, "forced_spans": [[0, 1]]}),
            "that the model has chosen",
        ),
        (with_logprobs([HALF] * 3, thinking={"thinking_tokens": 1, "forced_spans": 7}), "cannot be used"),
    ],
)
def test_a_response_whose_vote_could_not_be_weighed_is_refused(said: dict[str, Any], why: str) -> None:
    with pytest.raises(UnusableError, match=why):
        WIRE.completion(request(top_logprobs=3), said, None)


def test_token_ids_cannot_ask_for_confidence() -> None:
    with pytest.raises(InputError, match="top_logprobs"):
        WIRE.body(GenerationRequest(id="q", prompt_ids=[1], top_logprobs=2), "m", {})


def test_a_strategy_travels_in_thinking_and_its_account_comes_back() -> None:
    asked = request(budget=ThinkingBudget(max_tokens=9), strategy={"votes": {"n": 4}})
    assert WIRE.body(asked, "m", {})["thinking"] == {"max_tokens": 9, "strategy": {"votes": {"n": 4}}}
    account = {"name": "votes", "calls": 4, "prompt_tokens": 9, "thinking_tokens": 30, "answer_tokens": 2}
    told = WIRE.completion(asked, answer(thinking={"thinking_tokens": 9, "strategy": account}), None)
    assert told.thinking_tokens == 9
    assert told.strategy == account
    with pytest.raises(UnusableError, match="says nothing about the strategy"):
        WIRE.completion(asked, answer(thinking={"thinking_tokens": 9}), None)
    with pytest.raises(UnusableError, match=r"strategy\.calls"):
        WIRE.completion(asked, answer(thinking={"thinking_tokens": 9, "strategy": {"calls": -1}}), None)


def test_positions_of_inserted_waits_come_from_our_servers_account() -> None:
    account = {"thinking_tokens": 4, "answer_tokens": 1, "waits": 2, "wait_spans": [[2, 3], [5, 6]]}
    choice = {"message": {"content": "1", "reasoning": "x"}, "finish_reason": "stop", "thinking": account}
    request = GenerationRequest(id="q", messages=[{"role": "user", "content": "?"}])
    completion = ChatCompletions().completion(request, {"choices": [choice]}, None)
    assert completion.wait_positions == [2, 3, 5, 6]
    choice["thinking"] = account | {"wait_spans": [[2, "3"]]}
    with pytest.raises(UnusableError, match="wait_spans"):
        ChatCompletions().completion(request, {"choices": [choice]}, None)


ACCOUNT = {"name": "votes", "calls": 2, "prompt_tokens": 9, "thinking_tokens": 4, "answer_tokens": 1}


@pytest.mark.parametrize(
    ("account", "message"),
    [
        ({"name": "votes"}, "strategy.calls is missing"),
        (ACCOUNT | {"thinking_tokens": None}, "strategy.thinking_tokens is missing"),
        (ACCOUNT | {"answer_tokens": "many"}, "strategy.answer_tokens is a text, not a count"),
        (ACCOUNT | {"prompt_tokens": -1}, "strategy.prompt_tokens is a number, not a count"),
        (ACCOUNT | {"calls": 0}, "strategy.calls is 0"),
        ([1], "strategy is a list, not an object"),
    ],
)
def test_a_strategy_whose_cost_nobody_knows_is_no_answer(account: Any, message: str) -> None:
    asked = request(strategy={"votes": {}})
    with pytest.raises(UnusableError, match=message):
        WIRE.completion(asked, answer(thinking={"thinking_tokens": 2, "strategy": account}), None)
    told = WIRE.completion(asked, answer(thinking={"thinking_tokens": 2, "strategy": ACCOUNT}), None)
    assert told.strategy == ACCOUNT


def test_forced_spans_beyond_the_response_cost_no_memory() -> None:
    asked = request(top_logprobs=2)
    said = with_logprobs([HALF, HALF], [HALF, HALF], thinking={"thinking_tokens": 2, "forced_spans": [[1, 1 << 60]]})
    found = WIRE.completion(asked, said, None).confidence
    assert found is not None
    assert (found.tokens, found.forced_tokens) == (1, 1)
