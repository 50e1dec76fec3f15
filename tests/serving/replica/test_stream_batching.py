from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1ray.serving.replica.stream_batching import AT_ONCE, MAX_S, Pace, batched


async def events(steps: Sequence[float], ended: list[str] | None = None) -> AsyncGenerator[int]:
    try:
        for number, pause in enumerate(steps):
            if pause:
                await asyncio.sleep(pause)
            yield number
    finally:
        if ended is not None:
            ended.append("ended")


async def lists(steps: Sequence[float], interval_s: float) -> list[tuple[float, list[int]]]:
    clock = asyncio.get_running_loop().time
    begun = clock()
    return [(clock() - begun, together) async for together in batched(events(steps), Pace(interval_s, 1000))]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([0, 0, 0.001, 0.004]), max_size=12), st.sampled_from([0, 0.003]))
def test_every_event_arrives_once_and_in_order(steps: list[float], interval_s: float) -> None:
    given = asyncio.run(lists(steps, interval_s))
    assert [event for _, together in given for event in together] == list(range(len(steps)))
    assert all(together for _, together in given)


def test_without_an_interval_every_event_goes_by_itself() -> None:
    assert [together for _, together in asyncio.run(lists([0] * 5, 0))] == [[n] for n in range(5)]


def test_the_first_events_are_sent_at_once_and_the_rest_in_batches() -> None:
    given = asyncio.run(lists([0, *[0.01] * 30], 0.1))
    times = [when for when, _ in given]
    assert [together for _, together in given[:AT_ONCE]] == [[0], [1]]
    assert times[1] < 0.08
    assert len(given) < 10
    # The last list need not wait for its time.
    assert all(after - before > 0.09 for before, after in itertools.pairwise(times[1:-1]))


def test_an_event_after_a_silence_goes_at_once() -> None:
    waits = []
    # The shortest of three: on a busy machine a turn can come late.
    for _ in range(3):
        given = asyncio.run(lists([0, 0, 0.2, 0.2], 0.1))
        assert [together for _, together in given][-2:] == [[2], [3]]
        waits.append(given[-1][0] - given[-2][0])
    assert min(waits) < 0.29


@pytest.mark.parametrize("held", [0, 1])
def test_events_that_keep_the_pace_go_as_they_come(held: int) -> None:
    """A chat's role with its first text, and together all that is left when the stream is complete."""
    sent: list[list[int]] = []
    given: list[int] = []

    async def run() -> None:
        async def noted() -> AsyncGenerator[int]:
            async for number in events([0, 0, 0.01, 0.01, 0, 0]):
                given.append(number)
                yield number

        async for together in batched(noted(), Pace(0.1, 1000), is_complete=lambda: len(given) > 4, held=held):
            sent.append(together)
            assert given[-1] == together[-1]

    asyncio.run(run())
    assert sent == [*([[0, 1]] if held else [[0], [1]]), [2], [3], [4, 5]]


@pytest.mark.parametrize("number", [0, 1])
def test_a_stream_of_fewer_events_than_are_held_is_given(number: int) -> None:
    async def run() -> list[list[int]]:
        return [one async for one in batched(events([0] * number), Pace(0.1, 1000), is_complete=lambda: False, held=1)]

    assert asyncio.run(run()) == [[n] for n in range(number)]


@pytest.mark.parametrize("is_complete", [None, lambda: False, lambda: True])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_failure_comes_after_what_was_given(is_complete: Callable[[], bool] | None, before: int) -> None:
    async def failing() -> AsyncGenerator[int]:
        for number in range(before):
            yield number
        raise ValueError("broken")

    got: list[int] = []

    async def run() -> None:
        async for together in batched(failing(), Pace(0.01, 1000), is_complete=is_complete, held=1):
            got.extend(together)

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(run())
    assert got == list(range(before))


@pytest.mark.parametrize("is_complete", [None, lambda: False])
@pytest.mark.parametrize("interval_s", [0, 0.01])
@pytest.mark.parametrize("how", ["cancelled", "closed"])
def test_the_events_end_when_the_reader_leaves(
    how: str, interval_s: float, is_complete: Callable[[], bool] | None
) -> None:
    ended: list[str] = []

    async def run() -> None:
        source, pace = events([0, 0, 0, 9], ended), Pace(interval_s, 1000)
        stream = batched(source, pace, is_complete=is_complete)
        if how == "closed":
            await anext(stream)
            await stream.aclose()
            assert ended == ["ended"]
            assert pace.streams == 0
            return

        async def read() -> None:
            async for _ in stream:
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0.03)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert ended == ["ended"]


def test_many_streams_send_larger_parts() -> None:
    pace = Pace(0.02, 1000)
    pace.streams = 10
    assert pace.interval_s == 0.02
    pace.streams = 64
    assert pace.interval_s == 0.064
    pace.streams = 5000
    assert pace.interval_s == MAX_S
    assert Pace(0.5, 1000).interval_s == 0.5
    still = Pace(0, 1000)
    still.streams = 64
    assert still.interval_s == 0
