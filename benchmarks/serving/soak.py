"""Hours in minutes: clients of every kind for a time, and whether memory or requests leak.

Budgets from nothing to what the context allows, streams and whole responses, both APIs, clients that leave in the
middle, and requests that are refused. Memory is looked at by part; what a part takes may grow while caches fill, but
not in the second half.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from benchmarks.serving.processes import usage
from benchmarks.serving.servers import Server

QUESTION = [{"role": "user", "content": "What is 12 + 30?"}]
BUDGETS: tuple[Any, ...] = (0, 8, 32, 128, 400, "auto")
SAMPLE_S = 10.0
WARM_UP = 0.25
"""Part of the time in which caches fill."""
IDLE_S = 20.0
"""Seconds after the last request in which the engines must be idle."""


@dataclass
class Report:
    """What the soak saw."""

    minutes: float
    outcomes: dict[str, int] = field(default_factory=dict)
    """How often each HTTP status came, each error, and `left`: clients that left in the middle."""
    memory_mib: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    """Seconds since the beginning, and memory by part."""
    left_in_engines: float = -1.0
    """Requests that the engines still had when all clients had gone."""

    def growth(self) -> dict[str, dict[str, float]]:
        """For each part: memory after the warm-up and at the end (means of a tenth of the samples each), and the slope
        of the second half in MiB an hour.
        """
        samples = [sample for sample in self.memory_mib if sample[0] >= WARM_UP * 60 * self.minutes]
        parts = sorted({part for _, memory in samples for part in memory})
        few = max(1, len(samples) // 10)
        result = {}
        for part in parts:
            series = [(when, memory.get(part, 0.0)) for when, memory in samples]
            begin = statistics.fmean(mib for _, mib in series[:few])
            end = statistics.fmean(mib for _, mib in series[-few:])
            half = series[len(series) // 2 :]
            slope = 0.0
            if len(half) > 2:
                slope = statistics.linear_regression([when for when, _ in half], [mib for _, mib in half]).slope * 3600
            result[part] = {"begin_mib": round(begin, 1), "end_mib": round(end, 1), "mib_per_hour": round(slope, 1)}
        return result


async def soak(
    server: Server, model: str, minutes: float, *, clients: int, at_work: Callable[[], float], seed: int = 0
) -> Report:
    """Run clients against a server for some time.

    Args:
        server: our server.
        model: one of its models.
        minutes: how long.
        clients: at a time.
        at_work: how many requests the engines have.
        seed: of what the clients do.
    """
    report, began = Report(minutes), time.monotonic()

    async def watch() -> None:
        while True:
            memory = await asyncio.to_thread(lambda: usage(server.root).memory_mib)
            report.memory_mib.append((round(time.monotonic() - began, 1), {k: round(v, 1) for k, v in memory.items()}))
            await asyncio.sleep(SAMPLE_S)

    async def client(number: int) -> None:
        chance = random.Random(seed * 1000 + number)
        limits = httpx.Limits(max_connections=2)
        async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits, trust_env=False) as http:
            while time.monotonic() - began < 60 * minutes:
                became = await _one(http, model, chance)
                report.outcomes[became] = report.outcomes.get(became, 0) + 1

    watching = asyncio.create_task(watch())
    await asyncio.gather(*map(client, range(clients)))
    idle_by = time.monotonic() + IDLE_S
    while (left := await asyncio.to_thread(at_work)) > 0 and time.monotonic() < idle_by:
        await asyncio.sleep(0.5)
    report.left_in_engines = left
    await asyncio.sleep(SAMPLE_S)
    watching.cancel()
    return report


async def _one(http: httpx.AsyncClient, model: str, chance: random.Random) -> str:
    """One request of some kind, and what became of it."""
    budget = chance.choice(BUDGETS)
    body: dict[str, Any] = {
        "model": model,
        "messages": QUESTION,
        "thinking": {"max_tokens": budget},
        "temperature": 1.0,
    }
    body |= {"max_tokens": chance.choice((16, 60, 500)), "stream": chance.random() < 0.7, "seed": chance.randrange(100)}
    kind = chance.random()
    path = "/v1/messages" if kind < 0.25 else "/v1/chat/completions"
    if kind > 0.95:
        body |= chance.choice(
            ({"thinking": "long"}, {"model": "none"}, {"messages": 5}, {"temperature": -1}, {"n": 999})
        )
    leaves = body["stream"] and chance.random() < 0.15
    try:
        async with http.stream("POST", path, json=body) as response:
            events = 0
            async for _ in response.aiter_lines():
                events += 1
                if leaves and events > 10:
                    return "left"
        return str(response.status_code)
    except httpx.HTTPError as error:
        return type(error).__name__
