from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from s1ray.serving.replica.watchdog import COMPILING_FACTOR, failure
from tests.support.streams import is_gone, wait_until

QUICK: dict[str, Any] = {"dead_s": 0.005, "ask_s": 0.01, "stalled_after_s": 0.1, "is_compiling": lambda: False}


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


async def silent_for(seconds: float, is_compiling: Callable[[], bool]) -> str:
    """What is said of an engine whose first answer takes so long, and which dies a second later."""
    dead: list[int] = []

    async def ask() -> None:
        await asyncio.sleep(seconds)
        asyncio.get_running_loop().call_later(1.0, dead.append, 1)

    options = QUICK | {"is_compiling": is_compiling}
    return await asyncio.wait_for(failure(lambda: bool(dead), ask, **options), 20)


def test_an_engine_that_compiles_gets_more_time() -> None:
    assert "stuck" in asyncio.run(silent_for(0.4, lambda: False))
    assert "dead" in asyncio.run(silent_for(0.4, lambda: True))


def test_the_time_of_a_compiling_engine_is_bounded() -> None:
    async def seconds() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert "stuck" in await silent_for(10, lambda: True)
        return loop.time() - began

    limit = COMPILING_FACTOR * QUICK["stalled_after_s"]
    assert limit <= asyncio.run(seconds()) < limit + 5


def test_an_engine_that_stays_silent_after_compiling_is_stuck() -> None:
    seen: list[int] = []

    def is_compiling() -> bool:
        seen.append(1)
        return len(seen) == 1

    assert "stuck" in asyncio.run(silent_for(0.45, is_compiling))
    assert len(seen) > 1


def test_compilers_are_not_looked_for_while_the_engine_answers() -> None:
    asked: list[int] = []

    def is_compiling() -> bool:
        raise AssertionError("the engine answers")

    async def ask() -> None:
        asked.append(1)

    async def watch() -> str:
        options = QUICK | {"is_compiling": is_compiling, "stalled_after_s": 60}
        return await asyncio.wait_for(failure(lambda: len(asked) == 5, ask, **options), 20)

    assert "dead" in asyncio.run(watch())


REPLICA = """
import asyncio, subprocess
from s1ray.serving.replica.watchdog import exit_on_failure

class Engine:
    errored = False

    async def is_sleeping(self):
        await asyncio.sleep(60)

child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
asyncio.run(exit_on_failure(Engine(), stalled_after_s=0.2))
"""


def test_a_replica_with_a_stuck_engine_ends_and_takes_its_processes_along() -> None:
    with subprocess.Popen([sys.executable, "-c", REPLICA], stdout=subprocess.PIPE, text=True) as replica:
        assert replica.stdout is not None
        child = psutil.Process(int(replica.stdout.readline()))
        assert replica.wait(30) == 1
        wait_until(lambda: is_gone(child), 5, "what the replica started is gone")
