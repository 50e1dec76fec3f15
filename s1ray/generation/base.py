"""What every engine that generates has in common: a request, the Protocol, and the loop over many requests.

Engines are constructed in their own modules (`generation.vllm`, `generation.http`, `generation.scripted`), so that
importing this one costs nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from s1ray.errors import S1rayError
from s1ray.schemas import Completion
from s1ray.thinking.budget import ThinkingBudget


class GenerationError(S1rayError):
    """A request got no completion; the message names the request and says why."""


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One prompt, and how to answer it. Several samples of a question are several requests."""

    id: str
    """Comes back as `Completion.id`."""
    messages: Sequence[Mapping[str, str]] | None = None
    """Chat messages (`role`, `content`); the engine applies the model's chat template."""
    prompt_ids: Sequence[int] | None = None
    """The prompt in token ids, in place of `messages`."""
    budget: ThinkingBudget | None = None
    """How long to think. None: nothing is forced, not even the start of thinking."""
    temperature: float = 0.0
    """0: greedy."""
    top_p: float = 1.0
    max_tokens: int | None = None
    """Tokens of the whole response at most, thinking, delimiters and answer. None: what the context allows."""
    seed: int | None = None

    def __post_init__(self) -> None:
        if (self.messages is None) == (self.prompt_ids is None):
            raise ValueError(f"request {self.id!r}: give either messages or prompt_ids")
        if self.prompt_ids is not None and not len(self.prompt_ids):
            raise ValueError(f"request {self.id!r}: prompt_ids is empty")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"request {self.id!r}: max_tokens must be at least 1, got {self.max_tokens}")


class Generator(Protocol):
    """Anything that completes requests; many may be in flight at once."""

    async def complete(self, request: GenerationRequest) -> Completion:
        """Generate one response.

        Raises:
            GenerationError: it could not be had.
        """

    async def close(self) -> None:
        """Release what the generator holds (an engine, connections). It cannot be used afterwards."""


async def complete_all(
    generator: Generator, requests: Iterable[GenerationRequest], *, concurrency: int
) -> AsyncIterator[Completion]:
    """Complete many requests, `concurrency` of them at a time, in the order in which they finish.

    A request that fails gives a Completion that holds the message in `error` and no text; the others go on. Leaving the
    loop early cancels what is in flight.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, got {concurrency}")
    waiting = iter(requests)
    running: set[asyncio.Task[Completion]] = set()
    try:
        while True:
            while len(running) < concurrency and (request := next(waiting, None)) is not None:
                running.add(asyncio.create_task(_complete_or_report(generator, request)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def request_seed(seed: int, key: str) -> int:
    """The sampling seed of one request: the same whichever shard, worker or run the request lands in.

    Args:
        seed: the stage's.
        key: names the request among the stage's.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:4], "big") >> 1


async def _complete_or_report(generator: Generator, request: GenerationRequest) -> Completion:
    try:
        return await generator.complete(request)
    except GenerationError as error:
        return Completion(
            id=request.id,
            thinking="",
            answer="",
            prompt_tokens=0,
            thinking_tokens=0,
            answer_tokens=0,
            finish_reason="error",
            error=str(error),
        )
