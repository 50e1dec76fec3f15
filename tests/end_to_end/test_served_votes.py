"""Votes in one request, on the served application: the winner is given, the others are stopped, all are counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from s1ray.serving.local import ServedApp
from tests.support.served import QUESTION, chat, check_ids
from tests.support.streams import wait_until

pytestmark = pytest.mark.end_to_end


def votes(**fields: Any) -> dict[str, Any]:
    return {"max_tokens": 24, "answer_max_tokens": 24, "strategy": {"votes": fields}}


def check_account(account: dict[str, Any], usage: Any) -> None:
    """The sums are those of the responses, and the usage counts all of them."""
    for name in ("thinking_tokens", "answer_tokens", "completion_tokens"):
        assert account[name] == sum(vote[name] for vote in account["votes"])
    assert account["calls"] == len(account["votes"])
    assert account["prompt_tokens"] == account["calls"] * usage.prompt_tokens
    assert usage.completion_tokens == account["completion_tokens"]
    assert usage.completion_tokens_details.reasoning_tokens == account["thinking_tokens"]
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def streamed(
    client: openai.OpenAI, thinking: dict[str, Any], seed: int, logit_bias: dict[str, int] | None = None
) -> tuple[str, str, list[int], Any, Any]:
    """Thinking, answer, ids, the accounting, and the usage."""
    stream = client.chat.completions.create(
        model="s1",
        messages=QUESTION,
        stream=True,
        stream_options={"include_usage": True},
        seed=seed,
        logit_bias=logit_bias,
        extra_body={"thinking": thinking, "return_token_ids": True},
    )
    thought, answer, ids, accounting, usage = "", "", list[int](), None, None
    for event in stream:
        usage = event.usage or usage
        for choice in event.choices:
            thought += getattr(choice.delta, "reasoning", None) or ""
            answer += choice.delta.content or ""
            ids += getattr(choice, "token_ids", None) or []
            accounting = getattr(choice, "thinking", None) or accounting
    return thought, answer, ids, accounting, usage


def test_a_vote_gives_the_response_that_was_elected(client: openai.OpenAI, tokenizer: Any) -> None:
    response = chat(client, votes(n=4, stop_early=False), seed=3, max_tokens=None)
    choice = response.choices[0]
    account = choice.thinking["strategy"]
    check_account(account, response.usage)
    check_ids(tokenizer, choice.token_ids, choice.thinking)
    assert (account["name"], account["calls"], account["decided_by"], account["cancelled"]) == ("votes", 4, "all", 0)
    won = account["votes"][account["winner"]]
    assert won["voted"]
    assert won["completion_tokens"] == len(choice.token_ids)
    assert won["thinking_tokens"] == choice.thinking["thinking_tokens"]
    # The same request again, streamed, is the same: seeds follow from its own.
    thought, answer, ids, accounting, usage = streamed(client, votes(n=4, stop_early=False), seed=3)
    assert (thought, answer) == (choice.message.reasoning or "", choice.message.content or "")
    assert ids == choice.token_ids
    assert accounting == choice.thinking
    check_account(account, usage)


def test_sixteen_streamed_votes_at_once_stop_their_losers(client: openai.OpenAI) -> None:
    with ThreadPoolExecutor(16) as pool:
        # Thoughts long enough that the four of a vote do not end in the same steps.
        thinking = votes(n=4, first=1) | {"max_tokens": 256}
        got = list(pool.map(lambda seed: streamed(client, thinking, seed), range(16)))
    for _, _, ids, accounting, usage in got:
        account = accounting["strategy"]
        check_account(account, usage)
        assert account["decided_by"] == "first"
        won = account["votes"][account["winner"]]
        assert len(ids) == won["completion_tokens"]
        assert [vote["voted"] for vote in account["votes"]].count(True) == 1
    # How many end by themselves before they can be stopped depends on the machine.
    assert sum(accounting["strategy"]["cancelled"] for _, _, _, accounting, _ in got) > 0


def test_votes_work_on_every_route(served: ServedApp) -> None:
    thinking = votes(n=3, weights="confidence", top_logprobs=4, window=8)
    bodies: dict[str, dict[str, Any]] = {
        "/v1/completions": {"prompt": "What is 12 + 30?"},
        "/v1/messages": {"messages": QUESTION, "max_tokens": 100},
        "/v1/responses": {"input": "What is 12 + 30?"},
    }
    said = {}
    for route, body in bodies.items():
        reply = httpx.post(f"{served.url}{route}", json={"model": "s1", "thinking": thinking} | body, timeout=120)
        assert reply.status_code == 200, reply.text
        said[route] = reply.json()
    whole, message, response = said.values()
    accountings = [
        (whole["choices"][0]["thinking"], whole["usage"]["completion_tokens"]),
        (message["usage"]["output_tokens_details"], message["usage"]["output_tokens"]),
        (response["thinking"], response["usage"]["output_tokens"]),
    ]
    for accounting, tokens in accountings:
        account = accounting["strategy"]
        assert account["calls"] == 3
        assert account["completion_tokens"] == tokens
        assert all(vote["weight"] > 0 for vote in account["votes"] if vote["voted"])


@pytest.mark.second_model
def test_an_adapter_votes(client: openai.OpenAI) -> None:
    thinking = {"max_tokens": 16, "strategy": {"votes": {"n": 3}}}
    response = chat(client, thinking, model="ponder:odd", max_tokens=60)
    check_account(response.choices[0].thinking["strategy"], response.usage)


def test_a_client_that_leaves_a_vote_frees_the_engine(served: ServedApp, never_stops: dict[str, int]) -> None:
    from ray import serve

    name = next(n for n in serve.status().applications[served.name].deployments if n == "BudgetForcingServer:s1")
    handle = serve.get_deployment_handle(name, served.name)

    def at_work() -> float:
        load: dict[str, float] = handle.record_autoscaling_stats.remote().result(timeout_s=30)
        return sum(number for what, number in load.items() if what.endswith(("running", "waiting")))

    assert at_work() == 0
    thinking = {"max_tokens": 800, "strategy": {"votes": {"n": 6}}}
    body = {"model": "s1", "messages": QUESTION, "stream": True, "thinking": thinking, "logit_bias": never_stops}
    with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=body, timeout=120) as reply:
        # Kept: a dropped iterator closes the response.
        lines = reply.iter_lines()
        assert "assistant" in next(lines)
        wait_until(lambda: at_work() == 6, 10, "all are at work")
    wait_until(lambda: at_work() == 0, 10, "the engine is free")


@pytest.mark.parametrize(
    ("thinking", "fields", "field"),
    [
        ({"strategy": {"votes": {"n": 1}}}, {}, "thinking.strategy.votes.n"),
        ({"strategy": {"votes": {"n": 1000}}}, {}, "thinking.strategy"),
        ({"strategy": {"votes": {}}}, {"n": 2}, "n"),
        ({"strategy": {"votes": {}}}, {"temperature": 0.0}, "temperature"),
    ],
)
def test_what_cannot_be_voted_on_is_refused(
    client: openai.OpenAI, thinking: dict[str, Any], fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, thinking, **fields)
    assert caught.value.param == field
