"""Early exit and AlphaOne's schedule on the served application: what is streamed, and that everything is counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.end_to_end.test_served_votes import streamed
from tests.support.served import chat, check_ids, delimiters, find

pytestmark = pytest.mark.end_to_end

AT_ONCE = 16


def early(**settings: Any) -> dict[str, Any]:
    """The base model is never sure: a low threshold, asked often, ends its thinking."""
    return {"max_tokens": 96, "answer_max_tokens": 24, "strategy": {"early_exit": settings}}


def check(tokenizer: Any, ids: list[int], thinking: dict[str, Any], usage: Any) -> None:
    """A response against its account; exits only."""
    account = thinking["strategy"]
    begin, end = delimiters(tokenizer)
    ended = find(end, ids)
    written = tokenizer.decode(ids[ended:][: len(end) + 5])
    assert account["name"] == "early_exit"
    assert thinking["end_forced"] == "early_exit"
    assert account["exited_at"] == thinking["thinking_tokens"] == account["thinking_tokens"] < 96
    assert len(begin) + account["exited_at"] <= ended <= len(begin) + account["exited_at"] + 1
    assert "Final Answer:" in written
    probes = account["probes"]
    assert account["calls"] == 2 + len(probes)
    assert account["probe_tokens"] == sum(probe["tokens"] for probe in probes) > 0
    assert all(probe["at"] <= account["exited_at"] for probe in probes)
    assert account["answer_tokens"] == thinking["answer_tokens"] + account["probe_tokens"]
    assert usage.completion_tokens == account["completion_tokens"] == len(ids) + account["probe_tokens"]
    assert account["prompt_tokens"] > account["calls"] * usage.prompt_tokens


def test_sixteen_streams_end_early_and_are_counted(
    client: openai.OpenAI, tokenizer: Any, never_stops: dict[str, int]
) -> None:
    thinking = early(threshold=0.01, every=8)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        streams = list(pool.map(lambda seed: streamed(client, thinking, seed, never_stops), range(AT_ONCE)))
    exited = [stream for stream in streams if stream[3]["strategy"]["exited_at"] is not None]
    assert len(exited) > AT_ONCE // 2
    for thought, answer, ids, accounting, usage in exited:
        check(tokenizer, ids, accounting, usage)
        begin, end = delimiters(tokenizer)
        ended = find(end, ids)
        assert thought == tokenizer.decode(ids[len(begin) : ended]).strip("\n")
        assert answer == tokenizer.decode(ids[ended + len(end) :], skip_special_tokens=True).lstrip("\n")


def test_a_whole_response_and_one_that_nothing_ends(
    client: openai.OpenAI, tokenizer: Any, never_stops: dict[str, int]
) -> None:
    greedy: dict[str, Any] = {"seed": 5, "temperature": 0.0, "logit_bias": never_stops}
    response = chat(client, early(kind="stability", every=8, stable=2, probe_tokens=8), **greedy)
    choice, account = response.choices[0], response.choices[0].thinking["strategy"]
    if account["exited_at"] is not None:
        check(tokenizer, choice.token_ids, choice.thinking, response.usage)
    never = chat(client, early(threshold=0.999999), **greedy)
    plain = chat(client, {"max_tokens": 96, "answer_max_tokens": 24}, **greedy)
    assert never.choices[0].token_ids == plain.choices[0].token_ids
    assert never.choices[0].thinking["strategy"]["exited_at"] is None


def test_a_schedule_writes_waits_that_the_account_knows(
    client: openai.OpenAI, tokenizer: Any, never_stops: dict[str, int]
) -> None:
    schedule = {"phase_tokens": 40, "p_end": 1.0, "after": "\n", "wait_text": "Wait, check.", "slow_words": ["So"]}
    thinking = {"max_tokens": 96, "strategy": {"schedule": schedule}}
    lines = never_stops | {str(id_): 4 for id_ in tokenizer.encode("\n", add_special_tokens=False)}
    choice = chat(client, thinking, seed=1, logit_bias=lines).choices[0]
    account = choice.thinking["strategy"]
    assert account["name"] == "schedule"
    assert account["alpha_moment"] == 56
    assert account["waits"] == choice.thinking["waits"] > 0
    assert choice.message.reasoning.count("\nWait, check.") >= account["waits"]
    check_ids(tokenizer, choice.token_ids, choice.thinking)
    again = chat(client, thinking, seed=1, logit_bias=lines).choices[0]
    assert again.token_ids == choice.token_ids


@pytest.mark.parametrize(
    ("thinking", "fields", "param"),
    [
        (early(), {"n": 2}, "n"),
        (early(), {"logprobs": True}, "logprobs"),
        (early() | {"reopen": "allow"}, {}, "thinking.reopen"),
        ({"strategy": {"schedule": {"phase_tokens": 9}}, "waits": 1}, {}, "thinking.waits"),
        ({"strategy": {"schedule": {"phase_tokens": 9, "wait_text": "<|im_end|>"}}}, {}, "thinking.strategy.schedule"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    client: openai.OpenAI, thinking: dict[str, Any], fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, thinking, **fields)
    assert refused.value.param == param
