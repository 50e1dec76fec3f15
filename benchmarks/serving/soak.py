"""A soak test: clients of every kind for some time, to find leaks of memory or requests.

Budgets from none to what the context allows, streams and whole responses, both APIs, clients that disconnect, and
requests that are refused. Memory is measured by role; it may grow while caches fill, but not in the second half.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
from pydantic import JsonValue

from benchmarks.serving.processes import usage
from benchmarks.serving.servers import Server

QUESTION: list[JsonValue] = [{"role": "user", "content": "What is 12 + 30?"}]
BUDGETS: tuple[int | str, ...] = (0, 8, 32, 128, 400, "auto")
SAMPLE_S = 10.0
WARM_UP = 0.25
"""Fraction of the time in which caches fill."""
IDLE_S = 20.0
"""Seconds after the last request within which the engines must become idle."""


@dataclass
class Report:
    """The observations of a soak test."""

    minutes: float
    outcomes: dict[str, int] = field(default_factory=dict)
    """Number of requests by HTTP status or error; `left`: the client disconnected."""
    memory_mib: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    """Seconds since the start, and memory by role."""
    left_in_engines: float = -1.0
    """Requests in the engines `IDLE_S` after the last client."""

    def growth(self) -> dict[str, dict[str, float]]:
        """By role: memory after the warm-up and at the end (means of a tenth of the samples), and the slope of the
        second half in MiB per hour.
        """
        samples = [sample for sample in self.memory_mib if sample[0] >= WARM_UP * 60 * self.minutes]
        roles = sorted({role for _, memory in samples for role in memory})
        tenth = max(1, len(samples) // 10)
        result = {}
        for role in roles:
            series = [(when, memory.get(role, 0.0)) for when, memory in samples]
            begin = statistics.fmean(mib for _, mib in series[:tenth])
            end = statistics.fmean(mib for _, mib in series[-tenth:])
            half = series[len(series) // 2 :]
            slope = 0.0
            if len(half) > 2:
                slope = statistics.linear_regression([when for when, _ in half], [mib for _, mib in half]).slope * 3600
            result[role] = {"begin_mib": round(begin, 1), "end_mib": round(end, 1), "mib_per_hour": round(slope, 1)}
        return result


async def soak(
    server: Server, model: str, minutes: float, *, clients: int, engine_requests: Callable[[], float], seed: int = 0
) -> Report:
    """Run clients against a server for some time.

    Args:
        server: s1ray's server.
        model: one of its models.
        minutes: the duration.
        clients: their number.
        engine_requests: gives the number of requests in the engines.
        seed: of the clients' choices.
    """
    report, began = Report(minutes), time.monotonic()

    async def measure() -> None:
        while True:
            memory = await asyncio.to_thread(lambda: usage(server.root).memory_mib)
            report.memory_mib.append((round(time.monotonic() - began, 1), {k: round(v, 1) for k, v in memory.items()}))
            await asyncio.sleep(SAMPLE_S)

    async def client(number: int) -> None:
        rng = random.Random(seed * 1000 + number)
        limits = httpx.Limits(max_connections=2)
        async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits, trust_env=False) as http:
            while time.monotonic() - began < 60 * minutes:
                outcome = await _request(http, model, rng)
                report.outcomes[outcome] = report.outcomes.get(outcome, 0) + 1

    measuring = asyncio.create_task(measure())
    await asyncio.gather(*map(client, range(clients)))
    idle_by = time.monotonic() + IDLE_S
    while (left := await asyncio.to_thread(engine_requests)) > 0 and time.monotonic() < idle_by:
        await asyncio.sleep(0.5)
    report.left_in_engines = left
    await asyncio.sleep(SAMPLE_S)
    measuring.cancel()
    return report


async def _request(http: httpx.AsyncClient, model: str, rng: random.Random) -> str:
    """Send one random request; returns its outcome."""
    budget = rng.choice(BUDGETS)
    body: dict[str, JsonValue] = {
        "model": model,
        "messages": QUESTION,
        "thinking": {"max_tokens": budget},
        "temperature": 1.0,
    }
    body |= {"max_tokens": rng.choice((16, 60, 500)), "stream": rng.random() < 0.7}
    kind = rng.random()
    path = "/v1/messages" if kind < 0.25 else "/v1/chat/completions"
    if kind >= 0.25:
        # Anthropic's API has none.
        body["seed"] = rng.randrange(100)
    if kind > 0.95:
        body |= rng.choice(({"thinking": "long"}, {"model": "none"}, {"messages": 5}, {"temperature": -1}, {"n": 999}))
    # Some leave a stream at once, some in its middle.
    leaves_after = rng.choice((0, 2, 10)) if body["stream"] and rng.random() < 0.15 else None
    try:
        async with http.stream("POST", path, json=body) as response:
            events = 0
            async for _ in response.aiter_lines():
                events += 1
                if leaves_after is not None and events > leaves_after:
                    return "left"
        return str(response.status_code)
    except httpx.HTTPError as error:
        return type(error).__name__
