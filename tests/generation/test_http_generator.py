"""The HTTP engine against a transport that answers by script."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s1ray.errors import InputError
from s1ray.generation import GenerationError, GenerationRequest, complete_all
from s1ray.generation import pace as pace_module
from s1ray.generation import problems as problems_module
from s1ray.generation.base import Call
from s1ray.generation.http import HTTPGenerator
from s1ray.schemas import Completion
from s1ray.thinking import ThinkingBudget, ThinkingFormat

URL = "http://model.test/v1"
MESSAGES = [{"role": "user", "content": "2 + 2?"}]

Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Sleeps are recorded, not slept; the clock of pauses goes on by them."""
    slept: list[float] = []
    awake, here = asyncio.sleep, threading.get_ident()
    monkeypatch.setattr(pace_module, "monotonic", lambda: 1000 + sum(slept))

    async def sleep(seconds: float) -> None:
        if threading.get_ident() != here:
            return await awake(seconds)  # Ray's, where it has run in this process.
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return slept


def chat_answer(**choice: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "4", "reasoning": "two and two"}
    return {
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"} | choice],
        "usage": {"prompt_tokens": 7, "completion_tokens": 12, "completion_tokens_details": {"reasoning_tokens": 5}},
    }


def ask(handler: Handler, request: GenerationRequest | None = None, **settings: Any) -> Completion:
    async def run() -> Completion:
        async with HTTPGenerator(URL, "m", transport=httpx.MockTransport(handler), **settings) as generator:
            return await generator.complete(request or GenerationRequest(id="q-0", messages=MESSAGES))

    return asyncio.run(run())


def test_a_chat_request_carries_the_budget_and_brings_the_accounting_back() -> None:
    seen: dict[str, Any] = {}

    def handler(request: httpx.Request) -> httpx.Response:
        seen["url"], seen["body"] = str(request.url), json.loads(request.content)
        seen["key"] = request.headers.get("authorization")
        ours = {"thinking_tokens": 9, "answer_tokens": 1, "waits": 2, "end_forced": "budget"}
        return httpx.Response(200, json=chat_answer(thinking=ours))

    budget = ThinkingBudget(max_tokens=9, waits=2)
    request = GenerationRequest(
        id="q-0", messages=MESSAGES, budget=budget, temperature=0.7, top_p=0.9, max_tokens=50, seed=3
    )
    row = ask(handler, request, api_key="secret", extra_body={"user": "u"})
    assert seen["url"] == f"{URL}/chat/completions"
    assert seen["key"] == "Bearer secret"
    assert seen["body"] == {
        "model": "m",
        "messages": MESSAGES,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 50,
        "seed": 3,
        "thinking": {"max_tokens": 9, "waits": 2},
        "user": "u",
    }
    assert (row.id, row.thinking, row.answer, row.finish_reason) == ("q-0", "two and two", "4", "stop")
    assert (row.prompt_tokens, row.thinking_tokens, row.answer_tokens, row.waits, row.end_forced) == (
        7,
        9,
        1,
        2,
        "budget",
    )


def test_a_foreign_server_gets_no_thinking_field_and_is_believed_about_its_tokens() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert "thinking" not in json.loads(request.content)
        return httpx.Response(200, json=chat_answer())

    row = ask(handler)
    assert (row.thinking_tokens, row.answer_tokens, row.waits, row.end_forced) == (5, 7, 0, None)


def test_token_ids_go_to_completions() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/completions"
        assert json.loads(request.content)["prompt"] == [1, 2, 3]
        ours = {"thinking_tokens": 1, "answer_tokens": 2, "waits": 0, "end_forced": None, "text": "t", "answer": "a"}
        choice = {"index": 0, "text": "raw", "finish_reason": "length", "thinking": ours, "token_ids": [4, 5]}
        return httpx.Response(200, json={"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 3}})

    row = ask(handler, GenerationRequest(id="x", prompt_ids=[1, 2, 3], budget=ThinkingBudget()))
    assert (row.thinking, row.answer, row.finish_reason, row.output_ids) == ("t", "a", "length", [4, 5])


def test_a_text_that_the_server_did_not_split_is_split_by_the_format() -> None:
    text = "<think>\ndeep\n</think>\n\nout"

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=chat_answer(message={"role": "assistant", "content": text}))

    row = ask(handler, thinking_format=ThinkingFormat.preset("qwen3"))
    assert (row.thinking, row.answer) == ("deep", "out")


@pytest.mark.parametrize("status", sorted(problems_module.RETRIED))
def test_what_may_pass_is_tried_again_with_growing_pauses(status: int, pauses: list[float]) -> None:
    answers = iter([httpx.Response(status), httpx.Response(status), httpx.Response(200, json=chat_answer())])
    assert ask(lambda request: next(answers)).answer == "4"
    first = 5.0 if status == 429 else 0.5
    # A common pause, after a 429, spreads the requests over five seconds more.
    spread = 5.0 if status == 429 else 0.0
    assert 0.49 * first <= pauses[0] <= 1.5 * first + spread
    assert 0.98 * first <= pauses[1] <= 3 * first + spread


def test_lost_connections_are_tried_again() -> None:
    answers: Iterator[Exception | httpx.Response] = iter(
        [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.Response(200, json=chat_answer())]
    )

    def handler(request: httpx.Request) -> httpx.Response:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert ask(handler).answer == "4"


@pytest.mark.parametrize(("value", "expected"), [("7", 7.0), ("900", 900.0), ("nonsense", None)])
def test_retry_after_decides_the_pause(value: str, expected: float, pauses: list[float]) -> None:
    answers = iter([httpx.Response(429, headers={"retry-after": value}), httpx.Response(200, json=chat_answer())])
    ask(lambda request: next(answers))
    if expected is None:
        assert 2.4 <= pauses[0] <= 12.5
    else:
        # All requests wait that long, then go on one after the other.
        (pause,) = pauses
        assert expected - 0.1 <= pause <= expected + 5


def test_a_wrong_request_is_not_tried_again_and_says_what_the_server_said() -> None:
    calls = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(1)
        return httpx.Response(400, json={"error": {"message": "thinking.waits: must not be negative"}})

    with pytest.raises(GenerationError, match=r"'q-0'.*chat/completions: status 400: thinking.waits: must not"):
        ask(handler)
    assert len(calls) == 1


def test_attempts_are_bounded() -> None:
    calls = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(1)
        return httpx.Response(503, text="no replica")

    with pytest.raises(GenerationError, match="gave up after 3 attempts: status 503: no replica"):
        ask(handler, attempts=3)
    assert len(calls) == 3


@pytest.mark.parametrize("body", [{}, {"choices": []}, [], {"choices": [{"index": 0}]}])
def test_an_answer_in_another_form_is_an_error_that_shows_it(body: Any) -> None:
    with pytest.raises(GenerationError, match=r"not OpenAI's|is a list, not an object"):
        ask(lambda request: httpx.Response(200, json=body))


def test_no_more_requests_are_in_flight_than_asked() -> None:
    state = {"now": 0, "most": 0}

    async def handler(request: httpx.Request) -> httpx.Response:
        state["now"] += 1
        state["most"] = max(state["most"], state["now"])
        for _ in range(5):
            await asyncio.wait([asyncio.ensure_future(asyncio.to_thread(int))])
        state["now"] -= 1
        return httpx.Response(200, json=chat_answer())

    async def run() -> Any:
        requests = [GenerationRequest(id=str(i), messages=MESSAGES) for i in range(12)]
        async with HTTPGenerator(URL, "m", transport=httpx.MockTransport(handler), concurrency=3) as generator:
            return [row async for row in complete_all(generator, requests, concurrency=8)]

    assert len(asyncio.run(run())) == 12
    assert state["most"] == 3


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        ({"requests_per_minute": 60}, 3),
        # Each needs 19 by the server's count, 0.19 s of a minute's.
        ({"tokens_per_minute": 6000}, 0.57),
        ({}, 0),
    ],
)
def test_requests_start_at_the_pace_of_the_limits(limits: Any, seconds: float, pauses: list[float]) -> None:
    async def run() -> list[Completion]:
        requests = [GenerationRequest(id=str(i), messages=MESSAGES, max_tokens=50) for i in range(4)]
        transport = httpx.MockTransport(lambda request: httpx.Response(200, json=chat_answer()))
        async with HTTPGenerator(URL, "m", transport=transport, concurrency=1, **limits) as generator:
            return [row async for row in complete_all(generator, requests, concurrency=4)]

    assert len(asyncio.run(run())) == 4
    assert sum(pauses) == pytest.approx(seconds, rel=0.02)


def test_an_answer_that_says_that_nothing_is_left_holds_the_next(pauses: list[float]) -> None:
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20s"}

    async def run() -> None:
        transport = httpx.MockTransport(lambda request: httpx.Response(200, json=chat_answer(), headers=headers))
        async with HTTPGenerator(URL, "m", transport=transport) as generator:
            for number in range(2):
                await generator.complete(GenerationRequest(id=str(number), messages=MESSAGES))

    asyncio.run(run())
    (pause,) = pauses
    assert 20 <= pause <= 25


def test_one_failure_does_not_stop_the_others() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        content = json.loads(request.content)["messages"][0]["content"]
        return httpx.Response(400, text="bad") if content == "3" else httpx.Response(200, json=chat_answer())

    async def run() -> Any:
        requests = [GenerationRequest(id=str(i), messages=[{"role": "user", "content": str(i)}]) for i in range(6)]
        async with HTTPGenerator(URL, "m", transport=httpx.MockTransport(handler)) as generator:
            return {row.id: row async for row in complete_all(generator, requests, concurrency=2)}

    rows = asyncio.run(run())
    assert sorted(rows) == list("012345")
    assert "bad" in rows["3"].error
    assert rows["3"].finish_reason == "error"
    assert all(row.error is None for key, row in rows.items() if key != "3")


ODD = [
    ({"content": 5}, "message.content is a number, not a text"),
    ({"content": {"a": 1}}, "message.content is an object, not a text"),
    ({"content": "4", "reasoning": {"deep": []}}, "is an object that holds no text"),
    ({"content": "4", "reasoning": 7}, "message.reasoning is a number"),
    ({"content": "4", "reasoning": "half \ud83d"}, "half of a surrogate pair at character 5"),
    ({"content": "\udc00"}, "message.content holds half of a surrogate pair"),
    ({"content": [{"type": "text", "text": 3}]}, "is a number, not a text"),
    ({"content": [7]}, "message.content\\[0\\]\\[0\\] is a number, not an object"),
    ("text", "message is a text, not an object"),
]


@pytest.mark.parametrize(("message", "why"), ODD)
def test_an_odd_answer_is_one_requests_error(message: Any, why: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=json.dumps(chat_answer(message=message)).encode())

    with pytest.raises(GenerationError, match=why):
        ask(handler)


@pytest.mark.parametrize(
    ("message", "thinking", "answer", "reason"),
    [
        ({"content": "4", "reasoning_content": "r"}, "r", "4", "stop"),
        ({"content": "4", "reasoning_details": [{"type": "reasoning.text", "text": "r"}]}, "r", "4", "stop"),
        ({"content": [{"type": "thinking", "thinking": "r"}, {"type": "text", "text": "4"}]}, "r", "4", "stop"),
        ({"content": None, "refusal": "I cannot"}, "", "I cannot", "refusal"),
        ({"content": None}, "", "", "stop"),
    ],
)
def test_every_form_of_reasoning_and_refusal_is_read(message: Any, thinking: str, answer: str, reason: str) -> None:
    row = ask(lambda request: httpx.Response(200, json=chat_answer(message=message)))
    assert (row.thinking, row.answer, row.finish_reason) == (thinking, answer, reason)


def test_a_body_that_does_not_decompress_and_other_broken_ones_are_tried_again() -> None:
    answers = iter(
        [
            httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"not gzip")),
            httpx.Response(200, content=b"\xff\xfe"),
            httpx.Response(200, content=b"[" * 100_000),
            httpx.Response(200, json={"error": {"message": "busy", "type": "server_error"}}),
            httpx.Response(200, content=b'{"choices": [{"mess'),
            httpx.Response(200, json=chat_answer()),
        ]
    )
    assert ask(lambda request: next(answers), attempts=6).answer == "4"


def test_an_error_within_a_200_that_will_last_is_not_tried_again(pauses: list[float]) -> None:
    with pytest.raises(GenerationError, match="an error in the answer: no such model"):
        ask(
            lambda request: httpx.Response(
                200, json={"error": {"message": "no such model", "type": "invalid_request_error"}}
            )
        )
    assert not pauses


def test_no_finish_reason_is_unknown_and_an_aborted_answer_is_asked_again_before_it_is_kept() -> None:
    assert ask(lambda request: httpx.Response(200, json=chat_answer(finish_reason=None))).finish_reason == "unknown"
    answers = iter([chat_answer(finish_reason="abort"), chat_answer()])
    assert ask(lambda request: httpx.Response(200, json=next(answers))).finish_reason == "stop"
    row = ask(lambda request: httpx.Response(200, json=chat_answer(finish_reason="abort")), attempts=2)
    assert (row.finish_reason, row.answer) == ("abort", "4")


def test_being_told_to_wait_costs_no_attempt_up_to_an_hour() -> None:
    busy = httpx.Response(429, headers={"retry-after": "60"})
    answers = iter([*[busy] * 20, httpx.Response(200, json=chat_answer())])
    assert ask(lambda request: next(answers), attempts=2).answer == "4"
    with pytest.raises(GenerationError, match="asks to wait 5,000 s, more than 3,600 s in all"):
        ask(lambda request: httpx.Response(429, headers={"retry-after": "5000"}))


def test_a_server_that_is_always_busy_and_says_not_to_wait_is_given_up(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problems_module, "MAX_WAIT", 30.0)
    with pytest.raises(GenerationError, match=r"status 429: .*asks to wait 1 s, more than 30 s in all"):
        ask(lambda request: httpx.Response(429, headers={"retry-after": "0"}))
    assert len(pauses) == 30


def test_every_call_is_told_when_it_is_sent_and_when_it_has_ended_with_the_providers_count() -> None:
    told: list[Call] = []
    answers = iter([httpx.Response(500), httpx.Response(200, json=chat_answer(finish_reason="abort")), None])

    def handler(request: httpx.Request) -> httpx.Response:
        answer = next(answers)
        if answer is None:
            raise httpx.ReadTimeout("slow")
        return answer

    row = ask(handler, attempts=3, on_call=told.append)
    assert row.finish_reason == "abort"
    assert [call.outcome for call in told] == ["sent", "retried", "sent", "retried", "sent", "lost"]
    assert [call.number for call in told] == [1, 1, 2, 2, 3, 3]
    usage = told[3].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens) == (7, 12, 5)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (httpx.Response(200, content=b"{"), "lost"),
        (httpx.Response(200, stream=httpx.ByteStream(b"no"), headers={"content-encoding": "gzip"}), "lost"),
        (httpx.Response(200, json={"choices": []}), "lost"),
        (httpx.Response(200, json={"choices": [], "usage": {"prompt_tokens": "nine"}}), "lost"),
        (httpx.Response(200, json={"choices": [], "usage": {"prompt_tokens": 9}}), "failed"),
        (httpx.Response(200, json={"error": {"message": "overloaded"}}), "failed"),
        (httpx.Response(500), "failed"),
        (httpx.Response(504), "lost"),
    ],
)
def test_an_answer_that_may_be_billed_and_whose_count_cannot_be_read_is_a_lost_call(
    answer: httpx.Response, outcome: str
) -> None:
    told: list[Call] = []
    with pytest.raises(GenerationError):
        ask(lambda request: answer, attempts=1, on_call=told.append)
    assert [call.outcome for call in told] == ["sent", outcome]


def test_the_key_is_in_no_message() -> None:
    with pytest.raises(GenerationError) as raised:
        ask(lambda request: httpx.Response(401, json={"error": {"message": "bad key sk-123"}}), api_key="sk-123")
    assert "sk-123" not in str(raised.value)
    assert "bad key (key)" in str(raised.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(message=JSON, thinking=JSON, usage=JSON, finish=JSON, ids=JSON)
def test_any_answer_is_a_completion_or_one_requests_error(
    message: Any, thinking: Any, usage: Any, finish: Any, ids: Any
) -> None:
    choice = {"message": message, "thinking": thinking, "finish_reason": finish, "token_ids": ids}
    for content in (message, {"content": message, "reasoning": thinking, "refusal": finish}):
        body = json.dumps({"choices": [choice | {"message": content}], "usage": usage}).encode()

        def handler(request: httpx.Request, body: bytes = body) -> httpx.Response:
            return httpx.Response(200, content=body)

        try:
            row = ask(handler, attempts=1)
        except GenerationError:
            continue
        assert (row.thinking + row.answer + row.finish_reason).encode("utf-8") is not None


def test_a_key_with_a_line_break_is_refused_without_being_shown() -> None:
    with pytest.raises(InputError, match="holds a space, a line break") as raised:
        ask(lambda request: httpx.Response(200), api_key="topsecret\n")
    assert "topsecret" not in str(raised.value)


def test_a_prompt_that_utf8_cannot_write_and_a_deeply_nested_answer_are_one_requests_errors() -> None:
    request = GenerationRequest(id="q-0", messages=[{"role": "user", "content": "half \ud83d"}])
    with pytest.raises(GenerationError, match="request 'q-0': it cannot be written"):
        ask(lambda sent: httpx.Response(200, json=chat_answer()), request)
    content = b'{"choices": [{"message": {"content": ' + b"[" * 400 + b"]" * 400 + b"}}]}"
    deep = b'{"choices": [{"message": {"content": ' + b'[{"content": ' * 400 + b'"4"' + b"}]" * 400 + b"}}]}"
    for body in (content, deep):
        told: list[Call] = []
        with pytest.raises(GenerationError):
            ask(lambda sent, body=body: httpx.Response(200, content=body), attempts=1, on_call=told.append)  # type: ignore[misc]
        assert [call.outcome for call in told] == ["sent", "lost"]


def test_an_empty_account_is_not_waited_for(pauses: list[float]) -> None:
    error = {"message": "You exceeded your plan", "code": "insufficient_quota"}
    answer = httpx.Response(429, json={"error": error}, headers={"retry-after": "600"})
    with pytest.raises(GenerationError, match="insufficient_quota"):
        ask(lambda request: answer)
    assert not pauses


def test_a_call_whose_wait_is_too_long_is_told_as_failed_and_reasons_hold_no_key() -> None:
    told: list[Call] = []
    answer = httpx.Response(429, json={"error": {"message": "key sk-1 is busy"}}, headers={"retry-after": "9999"})
    with pytest.raises(GenerationError, match="more than 3,600 s"):
        ask(lambda request: answer, api_key="sk-1", on_call=told.append)
    assert [(call.outcome, call.reason) for call in told][-1] == ("failed", "status 429: key (key) is busy")
