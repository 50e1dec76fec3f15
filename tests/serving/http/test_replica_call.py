from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from s1ray.serving.http.replica_call import LateError, LostError, ReplicaCall
from tests.support.attempts import Attempt


class GoneError(Exception):
    """What a lost replica looks like."""


def call(attempts: Sequence[Attempt], **options: Any) -> ReplicaCall[Any]:
    left = iter(attempts)
    return ReplicaCall(lambda: next(left), is_lost=lambda error: isinstance(error, GoneError), pause_s=0, **options)


async def all_of(response: ReplicaCall[Any]) -> list[Any]:
    return [await response.begin(), *[part async for part in response]]


def test_a_whole_response_is_passed_on_and_not_cancelled() -> None:
    attempt = Attempt("a", "b", "c")
    response = call([attempt])
    assert asyncio.run(all_of(response)) == ["a", "b", "c"]
    response.cancel()
    assert not attempt.cancelled


@pytest.mark.parametrize("end", [GoneError(), asyncio.CancelledError(), None])
def test_a_request_whose_replica_is_lost_before_its_response_begins_is_retried(end: BaseException | None) -> None:
    attempts = [Attempt(end) if end is not None else Attempt(), Attempt("a", "b")]
    response = call(attempts)
    assert asyncio.run(all_of(response)) == ["a", "b"]
    assert response.attempts == 2


def test_a_request_does_not_kill_one_replica_after_the_other() -> None:
    attempts = [Attempt(GoneError()) for _ in range(5)]
    response = call(attempts)
    with pytest.raises(LostError):
        asyncio.run(response.begin())
    assert response.attempts == 2


def test_a_response_that_has_begun_is_not_retried() -> None:
    response = call([Attempt("a", GoneError()), Attempt("b")])
    with pytest.raises(LostError):
        asyncio.run(all_of(response))
    assert response.attempts == 1


def test_what_the_request_is_refused_with_is_passed_on() -> None:
    attempt = Attempt(ValueError("bad"))
    with pytest.raises(ValueError, match="bad"):
        asyncio.run(call([attempt]).begin())
    assert attempt.cancelled


@pytest.mark.parametrize(
    ("parts", "limits", "seconds", "begun"),
    [
        ((9.0, "a"), {"first_s": 0.01}, 0.01, False),
        ((9.0, "a"), {"first_s": 9.0, "total_s": 0.01}, 0.01, False),
        ((9.0, "a"), {"total_s": 0.01}, 0.01, False),
        (("a", 9.0, "b"), {"first_s": 0.01, "total_s": 0.02}, 0.02, True),
    ],
)
def test_it_is_over_in_time_and_the_replica_stops(
    parts: tuple[Any, ...], limits: dict[str, float], seconds: float, begun: bool
) -> None:
    attempt = Attempt(*parts)
    with pytest.raises(LateError) as caught:
        asyncio.run(all_of(call([attempt], **limits)))
    assert (caught.value.seconds, caught.value.begun) == (seconds, begun)
    assert attempt.cancelled


@pytest.mark.parametrize("parts", [(9.0, "a"), ("a", 9.0)])
def test_the_replica_stops_when_the_client_leaves(parts: tuple[Any, ...]) -> None:
    attempt = Attempt(*parts)

    async def leave() -> None:
        task = asyncio.create_task(all_of(call([attempt], total_s=20.0)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert attempt.cancelled


def test_a_single_response_leaves_nothing_to_cancel() -> None:
    attempt = Attempt("whole")
    response = call([attempt])
    assert asyncio.run(response.begin()) == "whole"
    response.complete()
    response.cancel()
    assert not attempt.cancelled


class Stubborn(Attempt):
    """Answers when it is cancelled, as vLLM does: it thinks that its client has left."""

    async def __anext__(self) -> Any:
        try:
            return await super().__anext__()
        except asyncio.CancelledError:
            return "refused"


def test_an_answer_to_being_cancelled_is_none() -> None:
    late = Stubborn(9.0, "a")
    with pytest.raises(LateError):
        asyncio.run(call([late], total_s=0.02).begin())
    assert late.cancelled
    left = Stubborn(9.0, "a")

    async def leave() -> None:
        task = asyncio.create_task(call([left]).begin())
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    asyncio.run(leave())
    assert left.cancelled
