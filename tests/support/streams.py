"""Streams for tests that break the server under them: each stream's end has a name, and one that hangs is given up."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import psutil

QUESTION = [{"role": "user", "content": "What is 12 + 30?"}]
PATIENCE_S = 180.0
"""A stream that has not ended by then hangs."""


@dataclass
class Ended:
    """What became of one stream."""

    how: str
    """complete, error (an event that says so), refused (a status), broken (the connection), hangs."""
    begun: bool = False
    detail: str = ""
    seconds: float = 0.0


async def stream(client: httpx.AsyncClient, body: dict[str, Any], on_event: Callable[[], None]) -> Ended:
    """Read one stream to its end, whatever that is."""
    began, begun = time.monotonic(), False

    def ended(how: str, detail: str = "") -> Ended:
        return Ended(how, begun, detail, time.monotonic() - began)

    try:
        async with asyncio.timeout(PATIENCE_S), client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                return ended("refused", f"{response.status_code} {(await response.aread()).decode()}")
            error = ""
            async for line in response.aiter_lines():
                if line.startswith('data: {"error"'):
                    error = json.loads(line.removeprefix("data: "))["error"]["message"]
                elif line == "data: [DONE]":
                    return ended("error", error) if error else ended("complete")
                elif line:
                    begun = True
                    on_event()
            return ended("broken", "ended without [DONE]")
    except TimeoutError:
        return ended("hangs")
    except httpx.HTTPError as failure:
        return ended("broken", type(failure).__name__)


async def streams(url: str, number: int, strike: Callable[[], None] | None = None, **fields: Any) -> list[Ended]:
    """Run streams at the same time, and strike when a good part of them has begun.

    Args:
        url: of the server.
        number: of streams.
        strike: what to do to the server meanwhile.
        fields: of the requests.
    """
    body = {"messages": QUESTION, "stream": True, "temperature": 1.0} | fields
    events = 0

    def count() -> None:
        nonlocal events
        events += 1

    async def wait_and_strike() -> None:
        while events < 3 * number:
            await asyncio.sleep(0.02)
        if strike is not None:
            await asyncio.to_thread(strike)

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=limits, trust_env=False) as client:
        striking = asyncio.create_task(wait_and_strike())
        ended = await asyncio.gather(*(stream(client, body, count) for _ in range(number)))
        await asyncio.wait_for(striking, 10)
    return ended


def tally(ended: list[Ended]) -> Counter[str]:
    """How many ended in which way."""
    return Counter(one.how for one in ended)


def processes(title: str, below: psutil.Process | None = None) -> list[psutil.Process]:
    """The processes below one whose title begins so: Ray and vLLM name theirs. Below this one, if no other is given:
    the tests' own session and no other.
    """
    return [
        process for process in (below or psutil.Process()).children(recursive=True) if _title(process).startswith(title)
    ]


def _title(process: psutil.Process) -> str:
    try:
        command = process.cmdline()
    except psutil.Error:
        return ""
    return command[0] if command else ""


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(true: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait for something, and say how long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, f"after {seconds:g} s still not: {what}"
        time.sleep(0.25)
    return time.monotonic() - began
