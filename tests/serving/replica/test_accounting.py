from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.serving.replica.accounting import RequestRecord, StreamAccountant
from s1ray.thinking import ThinkingBudget, account
from tests.support.plans import ANSWER, EOS, NEWLINE, PLAN, THINK, TURN, WAIT, X

BUDGET = ThinkingBudget(max_tokens=6, waits=1)
PROMPT = [X, NEWLINE]


def show(parts: Sequence[Sequence[int]]) -> str:
    return ",".join(str(i) for part in parts for i in part)


def record(**fields: Any) -> RequestRecord:
    return RequestRecord(plan=PLAN, budget=BUDGET, **fields)


def event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def chat_event(ids: list[int], *, index: int = 0, finish: str | None = None, **delta: Any) -> str:
    return event({"choices": [{"index": index, "delta": delta, "finish_reason": finish, "token_ids": ids}]})


def parsed(text: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(text.removeprefix("data: "))
    return data


def begin(accountant: StreamAccountant) -> str:
    first = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], "prompt_token_ids": PROMPT}
    return accountant.rewrite(event(first))


outputs = st.lists(st.sampled_from([EOS, TURN, ANSWER, NEWLINE, WAIT, X]), max_size=20).map(
    lambda body: [TURN, THINK, *body]
)


@given(outputs, st.lists(st.integers(1, 5), max_size=20), st.booleans())
def test_a_stream_counts_like_the_whole_response_however_it_is_cut(
    ids: list[int], sizes: list[int], texts: bool
) -> None:
    accountant = StreamAccountant(record(texts=(lambda a, b: (show(a), show(b))) if texts else None))
    begin(accountant)
    position = 0
    for size in sizes:
        accountant.rewrite(chat_event(ids[position : position + size], content="x"))
        position += size
    last = parsed(accountant.rewrite(chat_event(ids[position:], finish="stop")))
    expected = account(PLAN, PROMPT, ids)
    thinking = last["choices"][0]["thinking"]
    assert thinking["thinking_tokens"] == expected.thinking_tokens
    assert thinking["answer_tokens"] == expected.answer_tokens
    assert thinking["waits"] == expected.waits
    assert thinking["end_forced"] == expected.end_forced
    assert ("text" in thinking) == texts
    if texts:
        assert thinking["text"] == show(expected.thinking_of(ids))
        assert thinking["answer"] == show(expected.answer_of(ids))


def test_ids_stay_out_unless_they_were_asked_for() -> None:
    accountant = StreamAccountant(record())
    assert "token_ids" not in begin(accountant)
    shown = accountant.rewrite(chat_event([TURN, THINK, X], reasoning="x"))
    assert "token_ids" not in shown
    asking = StreamAccountant(record(wants_ids=True))
    assert parsed(begin(asking))["prompt_token_ids"] == PROMPT
    assert parsed(asking.rewrite(chat_event([TURN], reasoning="x")))["choices"][0]["token_ids"] == [TURN]


def test_an_event_with_ids_alone_is_left_out_but_counted() -> None:
    accountant = StreamAccountant(record())
    begin(accountant)
    assert accountant.rewrite(chat_event([TURN, THINK])) == ""
    assert accountant.rewrite(chat_event([X, X])) == ""
    last = parsed(accountant.rewrite(chat_event([X], finish="length")))
    assert last["choices"][0]["thinking"]["thinking_tokens"] == 3
    asking = StreamAccountant(record(wants_ids=True))
    begin(asking)
    assert asking.rewrite(chat_event([TURN, THINK])) != ""


def test_reasoning_has_both_names_or_is_hidden() -> None:
    accountant = StreamAccountant(record())
    delta = parsed(accountant.rewrite(chat_event([TURN, THINK, X], reasoning="hm")))["choices"][0]["delta"]
    assert delta == {"reasoning": "hm", "reasoning_content": "hm"}
    hiding = StreamAccountant(record(hides_thinking=True))
    assert hiding.rewrite(chat_event([TURN, THINK, X], reasoning="hm", content=None)) == ""
    shown = parsed(hiding.rewrite(chat_event([TURN, ANSWER], reasoning="hm", content="so")))
    assert shown["choices"][0]["delta"] == {"content": "so"}


def test_choices_are_counted_apart_and_summed_in_usage() -> None:
    accountant = StreamAccountant(record())
    begin(accountant)
    accountant.rewrite(chat_event([TURN, THINK, X], index=0, reasoning="x"))
    accountant.rewrite(chat_event([TURN, THINK, X, X], index=1, reasoning="x"))
    done = [parsed(accountant.rewrite(chat_event([X], index=i, finish="length"))) for i in (0, 1)]
    assert [data["choices"][0]["thinking"]["thinking_tokens"] for data in done] == [2, 3]
    details = {"cached_tokens": 4, "created_cache_tokens": 0}
    told = {"completion_tokens": 9, "prompt_tokens_details": details}
    usage = parsed(accountant.rewrite(event({"choices": [], "usage": told})))["usage"]
    assert usage == {
        "completion_tokens": 9,
        "completion_tokens_details": {"reasoning_tokens": 5},
        "prompt_tokens_details": {"cached_tokens": 4},
    }


def test_each_prompt_of_a_completion_stream_is_its_own() -> None:
    # The second prompt ends inside thinking: its output begins with thinking at once.
    accountant = StreamAccountant(record(texts=lambda a, b: (show(a), show(b))))
    prompts = {0: PROMPT, 1: [X, TURN, THINK]}
    for index, prompt in prompts.items():
        first = {"index": index, "text": "x", "prompt_token_ids": prompt, "token_ids": [X], "finish_reason": None}
        assert "prompt_token_ids" not in accountant.rewrite(event({"choices": [first]}))
    counts = []
    for index in prompts:
        last = {"index": index, "text": "", "token_ids": [X], "finish_reason": "length"}
        counts.append(parsed(accountant.rewrite(event({"choices": [last]})))["choices"][0]["thinking"])
    assert [count["thinking_tokens"] for count in counts] == [0, 2]
    assert counts[1]["text"] == show([[X, X]])


@pytest.mark.parametrize("text", ["data: [DONE]\n\n", ": keep-alive\n\n"])
def test_events_without_json_pass_as_they_are(text: str) -> None:
    assert StreamAccountant(record()).rewrite(text) == text


def test_an_error_event_passes() -> None:
    error = {"error": {"message": "the engine is gone", "code": 500}}
    assert parsed(StreamAccountant(record()).rewrite(event(error))) == error


def test_other_alphabets_survive() -> None:
    accountant = StreamAccountant(record())
    shown = accountant.rewrite(chat_event([TURN, THINK, X], reasoning="für 思考 \u2028 \n"))
    assert "思考" in shown
    assert shown.count("\n") == 2
    assert parsed(shown)["choices"][0]["delta"]["reasoning"] == "für 思考 \u2028 \n"


def test_a_stop_string_in_the_last_token_of_the_room_is_no_cut() -> None:
    counts = []
    for stop_reason in (None, "x"):
        accountant = StreamAccountant(record(max_tokens=12))
        begin(accountant)
        accountant.rewrite(chat_event([TURN, THINK, X, TURN, ANSWER, *[X] * 6], content="x"))
        last = {"index": 0, "delta": {"content": ""}, "token_ids": [X], "finish_reason": "stop"}
        choice = parsed(accountant.rewrite(event({"choices": [last | {"stop_reason": stop_reason}]})))["choices"][0]
        counts.append((choice["finish_reason"], choice["thinking"]["answer_cut"]))
    assert counts == [("length", True), ("stop", False)]


def test_a_tool_call_that_was_cut_off_is_no_finished_one() -> None:
    reasons = []
    for last in (X, EOS):
        accountant = StreamAccountant(record(max_tokens=12))
        begin(accountant)
        accountant.rewrite(chat_event([TURN, THINK, X, TURN, ANSWER, *[X] * 6], content="x"))
        choice = parsed(accountant.rewrite(chat_event([last], finish="tool_calls")))["choices"][0]
        reasons.append((choice["finish_reason"], choice["thinking"]["answer_cut"]))
    assert reasons == [("length", True), ("tool_calls", False)]
