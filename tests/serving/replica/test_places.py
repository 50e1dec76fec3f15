"""The bounded queue of a replica that answers HTTP itself."""

from __future__ import annotations

import asyncio
import random

import pytest

from s1ray.serving.http.errors import RefusedError
from s1ray.serving.replica.places import Places


def test_requests_wait_in_the_order_of_their_deadlines() -> None:
    async def run() -> list[float]:
        places, served = Places(1, -1), list[float]()
        await places.enter(0.0)

        async def request(deadline: float) -> None:
            await places.enter(deadline)
            served.append(deadline)
            await asyncio.sleep(0)
            places.leave()

        tasks = [asyncio.create_task(request(deadline)) for deadline in (5.0, 2.0, 9.0, 1.0)]
        await asyncio.sleep(0)
        assert places.waiting == 4
        places.leave()
        await asyncio.gather(*tasks)
        assert (places.running, places.waiting) == (0, 0)
        return served

    assert asyncio.run(run()) == [1.0, 2.0, 5.0, 9.0]


def test_what_is_too_much_is_refused_at_once() -> None:
    async def run() -> None:
        seen: list[int] = []
        places = Places(1, 2, seen.append)
        await places.enter(0.0)
        waiting = [asyncio.create_task(places.enter(1.0)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(RefusedError) as refused:
            await places.enter(0.5)
        assert (refused.value.status, refused.value.outcome, bool(refused.value.retry_after_s)) == (
            429,
            "overloaded",
            True,
        )
        places.leave()
        places.leave()
        await asyncio.gather(*waiting)
        assert seen == [1, 2, 1, 0]

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(20))
def test_no_place_is_lost_or_given_twice_however_clients_leave(seed: int) -> None:
    chance = random.Random(seed)

    async def run() -> None:
        places, inside, most = Places(3, -1), 0, 0

        async def request() -> None:
            nonlocal inside, most
            await places.enter(chance.random())
            try:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(chance.random() / 500)
            finally:
                inside -= 1
                places.leave()

        tasks = [asyncio.create_task(request()) for _ in range(60)]
        for task in chance.sample(tasks, 25):
            await asyncio.sleep(chance.random() / 1000)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (most, inside, places.running, places.waiting) == (3, 0, 0, 0)

    asyncio.run(run())


def test_a_place_that_comes_as_its_client_leaves_goes_to_the_next() -> None:
    async def run() -> None:
        places = Places(1, -1)
        await places.enter(0.0)
        first = asyncio.create_task(places.enter(1.0))
        second = asyncio.create_task(places.enter(2.0))
        await asyncio.sleep(0)
        places.leave()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert first.cancelled()
        async with asyncio.timeout(1):
            await second
        assert (places.running, places.waiting) == (1, 0)

    asyncio.run(run())
