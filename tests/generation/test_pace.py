"""When calls start, by a clock that only sleeping moves."""

from __future__ import annotations

import asyncio
import email.utils
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import pairwise

import httpx
import pytest

from s1ray.generation import pace as pace_module
from s1ray.generation.base import Usage
from s1ray.generation.pace import SPREAD, Pace, Turn, reset_wait, told_wait

NOW = 1_700_000_000.0


class Clock:
    """The time, and who sleeps until when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._asleep: list[tuple[float, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asleep.append((self.now + seconds, future))
        await future

    async def run(self, work: Awaitable[None]) -> None:
        """Do work; whenever all of it sleeps, it is the time at which the first wakes."""
        task = asyncio.ensure_future(work)
        while not task.done():
            for _ in range(20):
                await awake(0)
            if self._asleep and not task.done():
                self._asleep.sort(key=lambda sleeper: sleeper[0])
                until, future = self._asleep.pop(0)
                if future.cancelled():
                    continue
                self.now = until
                future.set_result(None)
        await task


awake = asyncio.sleep


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace_module, "monotonic", lambda: clock.now)
    monkeypatch.setattr(pace_module, "time", lambda: NOW + clock.now)
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    return clock


def starts(
    clock: Clock, pace: Pace, requests: int, act: Callable[[int, Turn], Awaitable[None]] | None = None
) -> list[float]:
    """When each of some requests of 300 bytes and at most 1,000 tokens starts; `act` is done with its turn."""
    found: list[float] = []

    async def one(number: int) -> None:
        turn = await pace.turn(300, 1000)
        found.append(clock.now)
        if act is not None:
            await act(number, turn)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(requests)))

    asyncio.run(clock.run(all_of_them()))
    return found


def test_without_limits_everything_starts_at_once(clock: Clock) -> None:
    assert starts(clock, Pace(), 50) == [0.0] * 50


def test_requests_of_a_minute_are_evenly_spread(clock: Clock) -> None:
    assert starts(clock, Pace(requests_per_minute=120), 5) == pytest.approx([0, 0.5, 1, 1.5, 2])


def test_time_that_was_not_used_is_not_saved_up(clock: Clock) -> None:
    pace = Pace(requests_per_minute=60)

    async def idle(number: int, turn: Turn) -> None:
        if number == 0:
            await asyncio.sleep(100)
            turns = [asyncio.create_task(pace.turn(0, None)) for _ in range(3)]
            await asyncio.gather(*turns)

    starts(clock, pace, 1, idle)
    assert clock.now == pytest.approx(102)


def test_tokens_of_a_minute_are_what_may_be_needed_at_most_while_nothing_is_known(clock: Clock) -> None:
    # 100 tokens of a prompt of 300 bytes, and 1,000 of the answer: at 66,000 a minute, one a second.
    assert starts(clock, Pace(tokens_per_minute=66_000), 4) == pytest.approx([0, 1, 2, 3])


def test_the_slower_limit_decides(clock: Clock) -> None:
    assert starts(clock, Pace(30, 66_000), 3) == pytest.approx([0, 2, 4])
    assert starts(clock, Pace(600, 66_000), 3)[-1] - clock.now == pytest.approx(0)


def test_the_providers_count_corrects_the_estimate_and_those_that_wait_notice(clock: Clock) -> None:
    async def answered(number: int, turn: Turn) -> None:
        await asyncio.sleep(2.5)
        turn.end(Usage(prompt_tokens=10, completion_tokens=100), counts=True)

    # 1,100 tokens are 10 s of 6,600 a minute; 110 of them 1 s, which is known after 2.5 s.
    found = starts(clock, Pace(tokens_per_minute=6_600), 12, answered)
    assert found[1] <= 3.0
    # From then on each is taken to need 200: 100 of the prompt by its bytes, and 100 as those before.
    assert max(b - a for a, b in pairwise(found[1:])) <= 2.0
    assert found[-1] <= 22


@pytest.mark.parametrize("completion", [40, 400, 4000])
def test_the_limit_holds_whatever_the_answers_need(clock: Clock, completion: int) -> None:
    ended: list[tuple[float, int]] = []
    limit = 60_000

    async def answered(number: int, turn: Turn) -> None:
        begun = clock.now
        await asyncio.sleep(5)
        turn.end(Usage(prompt_tokens=100, completion_tokens=completion), counts=True)
        ended.append((begun, 100 + completion))

    starts(clock, Pace(tokens_per_minute=limit), 300, answered)
    last = max(begun for begun, _ in ended)
    for minute in range(1, int(last // 60)):
        used = sum(tokens for begun, tokens in ended if minute * 60 <= begun < minute * 60 + 60)
        assert 0.7 * limit <= used <= 1.1 * limit


def test_a_failed_call_gives_its_tokens_back_and_a_lost_one_keeps_them(clock: Clock) -> None:
    async def failed(number: int, turn: Turn) -> None:
        turn.end(None, counts=False)

    async def lost(number: int, turn: Turn) -> None:
        turn.end(None, counts=True)

    assert starts(clock, Pace(tokens_per_minute=6_600), 3, failed)[-1] <= 2 * pace_module.POLL_S
    began = clock.now
    assert starts(clock, Pace(tokens_per_minute=6_600), 3, lost)[-1] - began == pytest.approx(20)


def test_a_pause_holds_all_and_then_they_go_on_one_after_the_other(clock: Clock) -> None:
    pace = Pace(requests_per_minute=60)
    pace.pause(30)
    found = starts(clock, pace, 3)
    assert found[0] == 30 + SPREAD
    assert [b - a for a, b in pairwise(found)] == pytest.approx([1, 1])


def test_a_pause_that_begins_while_some_wait_holds_them_too(clock: Clock) -> None:
    pace = Pace(requests_per_minute=60)

    async def told(number: int, turn: Turn) -> None:
        if number == 1:
            pace.pause(100)

    assert starts(clock, pace, 3, told) == pytest.approx([0, 1, 101 + SPREAD])


def test_a_request_that_is_given_up_while_it_waits_takes_nothing(clock: Clock) -> None:
    pace = Pace(requests_per_minute=1)

    async def work() -> None:
        await pace.turn(0, 1)
        waiting = [asyncio.create_task(pace.turn(0, 1)) for _ in range(3)]
        await asyncio.sleep(5)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await pace.turn(0, 1)

    asyncio.run(clock.run(work()))
    assert clock.now == pytest.approx(60)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-3"}, 0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": email.utils.formatdate(NOW + 90, usegmt=True)}, 90),
        ({"retry-after": email.utils.formatdate(NOW - 90, usegmt=True)}, 0),
    ],
)
def test_what_the_server_says_about_waiting_is_read(
    clock: Clock, headers: dict[str, str], expected: float | None
) -> None:
    assert told_wait(httpx.Headers(headers)) == expected


def at(seconds: float) -> str:
    return datetime.fromtimestamp(NOW + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 0),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "8.64s"}, 0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "8.64s"}, 8.64),
        ({"X-RateLimit-Remaining-Tokens": "0", "X-RateLimit-Reset-Tokens": "6m0s"}, 360),
        ({"x-ratelimit-remaining-tokens": "-5", "x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12ms"}, 0.012),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "3"}, 3),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1.2.3s"}, 0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "soon"}, 0),
        ({"x-ratelimit-remaining-tokens": "0"}, 0),
        ({"x-ratelimit-remaining-tokens": "all", "x-ratelimit-reset-tokens": "9s"}, 0),
        ({"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": at(20)}, 20),
        ({"anthropic-ratelimit-output-tokens-remaining": "0", "anthropic-ratelimit-output-tokens-reset": at(40)}, 40),
        ({"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": at(-9)}, 0),
        ({"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "9" * 400}, 0),
        ({"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "0001-01-01T00:00"}, 0),
    ],
)
def test_a_limit_that_is_used_up_is_a_wait(clock: Clock, headers: dict[str, str], expected: float) -> None:
    assert reset_wait(httpx.Headers(headers)) == pytest.approx(expected)


def test_an_answer_that_leaves_nothing_pauses_all_but_no_longer_than_a_minute(clock: Clock) -> None:
    for value, until in (("8s", 8 + SPREAD), ("9h", 60 + SPREAD)):
        pace, began = Pace(), clock.now
        pace.heed(httpx.Headers({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": value}))
        assert [start - began for start in starts(clock, pace, 2)] == [until, until]
