"""Calls go to the least loaded of several addresses, and from one that is down to the others."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx
import pytest

from s1ray.generation import GenerationError, GenerationRequest, addresses, problems
from s1ray.generation.addresses import Addresses
from s1ray.generation.base import Call
from s1ray.generation.http import HTTPGenerator
from s1ray.generation.pace import Pace

URLS = ["http://a/v1", "http://b/v1/", "http://c/v1"]
ANSWER = {"choices": [{"message": {"content": "4"}, "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}


def test_the_least_loaded_address_is_chosen_and_equal_ones_take_turns() -> None:
    some = Addresses(URLS, Pace)
    assert [some.choose().url[7] for _ in range(6)] == list("abcabc")
    some.all[0].in_flight = some.all[2].in_flight = 2
    some.all[1].in_flight = 1
    assert {some.choose().url for _ in range(3)} == {"http://b/v1"}


def test_a_request_stays_where_it_was_answered_and_leaves_where_it_failed() -> None:
    some = Addresses(URLS, Pace)
    first = some.choose()
    first.in_flight = 5
    assert some.choose(first) is first
    first.in_flight = 0
    assert some.choose(first, failed=True) is not first


def test_an_address_is_down_after_failures_in_a_row_and_comes_back_one_call_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(addresses, "monotonic", lambda: now[0])
    some = Addresses(URLS[:2], Pace)
    gone, other = some.all
    for _ in range(addresses.FAILURES - 1):
        gone.failed(unreachable=False)
    assert gone.is_up
    gone.failed(unreachable=False)
    assert not gone.is_up
    other.in_flight = 9
    assert some.choose() is other
    now[0] += addresses.DOWN_S
    assert some.choose() is gone
    gone.in_flight = 1
    assert some.choose() is other, "until one is answered there is one at a time"
    gone.in_flight = 0
    gone.failed(unreachable=False)
    now[0] += addresses.DOWN_S
    assert not gone.is_up, "it is left alone for longer each time"
    gone.answered()
    assert gone.is_up


def test_addresses_are_different_ones() -> None:
    with pytest.raises(ValueError, match=r"several different ones, got http://a/v1, http://a/v1"):
        Addresses(["http://a/v1", "http://a/v1/"], Pace)


def test_no_request_is_lost_and_none_waits_when_one_of_two_servers_goes_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "FIRST_PAUSE", 60.0)  # never waited for, as the other is there
    asked, calls = Counter[str](), list[Call]()

    async def handle(request: httpx.Request) -> httpx.Response:
        asked[request.url.host] += 1
        await asyncio.sleep(0.001)
        if request.url.host == "a" and asked["a"] > 20:
            raise httpx.ConnectError("connection refused")
        return httpx.Response(200, json=ANSWER)

    async def all_of_them() -> list[str]:
        generator = HTTPGenerator(
            URLS[:2], "m", concurrency=8, attempts=2, on_call=calls.append, transport=httpx.MockTransport(handle)
        )
        async with generator:
            requests = [GenerationRequest(id=str(n), messages=[{"role": "user", "content": "?"}]) for n in range(200)]
            return [each.answer for each in await asyncio.gather(*map(generator.complete, requests))]

    assert asyncio.run(all_of_them()) == ["4"] * 200
    assert 20 < asked["a"] <= 20 + 8
    retried = [call for call in calls if call.outcome == "retried"]
    assert 0 < len(retried) <= 8
    assert asked["a"] + asked["b"] == 200 + len(retried)
    assert all(call.seconds > 0 for call in calls if call.outcome != "sent")


def test_where_all_are_down_a_request_fails_after_its_tries_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "FIRST_PAUSE", 0.001)
    asked = Counter[str]()

    def handle(request: httpx.Request) -> httpx.Response:
        asked[request.url.host] += 1
        raise httpx.ConnectError("connection refused")

    async def one() -> None:
        async with HTTPGenerator(URLS, "m", attempts=2, transport=httpx.MockTransport(handle)) as generator:
            await generator.complete(GenerationRequest(id="x", messages=[{"role": "user", "content": "?"}]))

    with pytest.raises(GenerationError, match=r"gave up after 6 attempts: ConnectError: connection refused"):
        asyncio.run(one())
    assert sum(asked.values()) == 6
    assert set(asked) == {"a", "b", "c"}


def test_a_busy_server_is_left_alone_as_long_as_it_says_and_the_others_answer() -> None:
    asked = Counter[str]()

    def handle(request: httpx.Request) -> httpx.Response:
        asked[request.url.host] += 1
        if request.url.host == "a":
            return httpx.Response(429, headers={"Retry-After": "30"}, json={"error": {"message": "busy"}})
        return httpx.Response(200, json=ANSWER)

    async def some() -> None:
        async with HTTPGenerator(URLS[:2], "m", transport=httpx.MockTransport(handle)) as generator:
            for number in range(10):
                request = GenerationRequest(id=str(number), messages=[{"role": "user", "content": "?"}])
                await asyncio.wait_for(generator.complete(request), 5)

    asyncio.run(some())
    assert asked == {"a": 1, "b": 10}
