"""Votes in one request, on the served application: the winner is given, the others are stopped, all are counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.support.served import QUESTION, chat, check_ids

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


def streamed(client: openai.OpenAI, thinking: dict[str, Any], seed: int) -> tuple[str, str, list[int], Any, Any]:
    """Thinking, answer, ids, the accounting, and the usage."""
    stream = client.chat.completions.create(
        model="s1",
        messages=QUESTION,
        stream=True,
        stream_options={"include_usage": True},
        seed=seed,
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
        got = list(pool.map(lambda seed: streamed(client, votes(n=4, first=1), seed), range(16)))
    for _, _, ids, accounting, usage in got:
        account = accounting["strategy"]
        check_account(account, usage)
        assert account["decided_by"] == "first"
        won = account["votes"][account["winner"]]
        assert len(ids) == won["completion_tokens"]
        assert [vote["voted"] for vote in account["votes"]].count(True) == 1
    assert sum(accounting["strategy"]["cancelled"] for _, _, _, accounting, _ in got) >= 16


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
