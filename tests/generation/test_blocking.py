"""Generators for synchronous code."""

from __future__ import annotations

import asyncio
import time

from s1ray.generation.base import GenerationRequest
from s1ray.generation.blocking import BlockingGenerator
from s1ray.schemas import Completion

CONCURRENCY = 3


class Counting:
    """Counts the requests that have begun."""

    def __init__(self) -> None:
        self.begun = 0

    async def complete(self, request: GenerationRequest) -> Completion:
        self.begun += 1
        await asyncio.sleep(0.001)
        return Completion(id=request.id, thinking="", answer="4", prompt_tokens=1, thinking_tokens=0, answer_tokens=1)

    async def close(self) -> None:
        pass


def test_a_slow_caller_never_has_more_to_lose_than_what_is_in_flight_at_once() -> None:
    counting = Counting()
    requests = [GenerationRequest(id=str(n), messages=[{"role": "user", "content": "?"}]) for n in range(20)]
    with BlockingGenerator(lambda: counting, CONCURRENCY) as generator:
        ahead = []
        for dealt_with, _ in enumerate(generator.stream(requests)):
            time.sleep(0.01)
            ahead.append(counting.begun - dealt_with)
        assert max(ahead) == CONCURRENCY
        assert len(ahead) == len(requests)
