from __future__ import annotations

import asyncio
from typing import Any

import pytest

from s1ray.serving.replica.watchdog import failure

QUICK: dict[str, Any] = {"dead_s": 0.005, "ask_s": 0.01, "stalled_after_s": 0.1}


async def answer() -> bool:
    return False


async def never() -> None:
    await asyncio.sleep(60)


async def broken() -> None:
    raise RuntimeError("gone")


def test_a_healthy_engine_is_asked_again_and_again() -> None:
    asked = []

    async def ask() -> None:
        asked.append(1)
        await asyncio.sleep(0.02)

    async def watch() -> str:
        patient = QUICK | {"stalled_after_s": 60}
        return await asyncio.wait_for(failure(lambda: len(asked) == 4, ask, **patient), 20)

    assert "dead" in asyncio.run(watch())


@pytest.mark.parametrize(
    ("is_dead", "ask", "said"),
    [(True, answer, "dead"), (True, never, "dead"), (False, never, "stuck"), (False, broken, "gone")],
)
def test_a_dead_a_stuck_and_a_silent_engine_are_seen(is_dead: bool, ask: Any, said: str) -> None:
    async def watch() -> str:
        return await asyncio.wait_for(failure(lambda: is_dead, ask, **QUICK), 20)

    assert said in asyncio.run(watch())


def test_an_engine_that_dies_later_is_seen_at_once() -> None:
    dead: list[int] = []

    async def watch() -> str:
        asyncio.get_running_loop().call_later(0.05, dead.append, 1)
        return await asyncio.wait_for(failure(lambda: bool(dead), never, **QUICK | {"stalled_after_s": 60}), 20)

    assert "dead" in asyncio.run(watch())
