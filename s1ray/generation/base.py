"""What every engine that generates has in common: a request, the Protocol, and the loop over many requests.

Engines are constructed in their own modules (`generation.vllm`, `generation.http`, `generation.scripted`), so that
importing this one costs nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from s1ray.errors import S1rayError
from s1ray.schemas import Completion
from s1ray.thinking.budget import ThinkingBudget
from s1ray.voting.confidence import WINDOW


class GenerationError(S1rayError):
    """A request got no completion; the message names the request and says why."""


class RefusedError(GenerationError):
    """The provider's filter does not allow the question or its answer.

    Attributes:
        reason: in the provider's words.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Continuation:
    """How a response that has begun goes on: for strategies that hold the search in their own hands."""

    of: Literal["thinking", "answer"]
    """What the new tokens are counted as."""
    stop: tuple[str, ...] = ()
    """Texts that end it; they belong to it."""
    stop_ids: tuple[int, ...] = ()
    """Tokens that end it; the one that did is the last of its ids."""


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
    temperature: float | None = 0.0
    """0: greedy. None: not said, so that a provider's default holds; on an engine of ours that is 1."""
    top_p: float | None = 1.0
    """None: not said; on an engine of ours that is 1."""
    top_k: int | None = None
    """Sample among so many tokens. None: the engine's default, which is all of them wherever it is ours to choose."""
    max_tokens: int | None = None
    """Tokens of the whole response at most, thinking, delimiters and answer. None: what the context allows."""
    seed: int | None = None
    top_logprobs: int | None = None
    """Measure the response's confidence from so many likeliest tokens at each place. None: it is not measured."""
    confidence_window: int = WINDOW
    """Tokens of a group, where confidence is measured."""
    reasoning_effort: str | None = None
    """How long to think, in the words of a provider that takes no number ("low", "high", ...); only over HTTP."""
    continues: Continuation | None = None
    """The prompt ends within a response, which goes on; only with `prompt_ids` and without a budget."""
    strategy: Mapping[str, Mapping[str, object]] | None = None
    """A test-time strategy that our server carries out, as its field `thinking.strategy` has it ({"votes": {"n": 8}}).
    The completion's `strategy` says what it cost."""

    def __post_init__(self) -> None:
        if (self.messages is None) == (self.prompt_ids is None):
            raise ValueError(f"request {self.id!r}: give either messages or prompt_ids")
        if self.prompt_ids is not None and not len(self.prompt_ids):
            raise ValueError(f"request {self.id!r}: prompt_ids is empty")
        if self.continues is not None and (self.prompt_ids is None or self.budget is not None):
            raise ValueError(f"request {self.id!r}: continues: needs prompt_ids, and no budget")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"request {self.id!r}: max_tokens must be at least 1, got {self.max_tokens}")
        if self.top_logprobs is not None and self.top_logprobs < 2:
            raise ValueError(f"request {self.id!r}: top_logprobs must be at least 2, got {self.top_logprobs}")
        if self.confidence_window < 1:
            raise ValueError(f"request {self.id!r}: confidence_window must be at least 1")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"request {self.id!r}: top_k must be at least 1, got {self.top_k}; None is all tokens")


@dataclass(frozen=True)
class Usage:
    """Tokens of one response as the provider counted and bills them."""

    prompt_tokens: int = 0
    """All of them, whatever a cache does."""
    cached_tokens: int = 0
    """Of the prompt, read from a cache."""
    completion_tokens: int = 0
    """Reasoning included."""
    reasoning_tokens: int | None = None
    """None: the provider does not say."""
    cache_write_tokens: int = 0
    """Of the prompt, written to a cache, where the provider charges for that."""


CallOutcome = Literal["sent", "answered", "retried", "failed", "lost"]


@dataclass(frozen=True)
class Call:
    """One HTTP call made for a request: told when it is sent and, with another outcome, once more when it has ended."""

    request_id: str
    number: int
    """Of this request's calls, from 1 in this process."""
    outcome: CallOutcome
    """answered: its text is the completion, or a segment of it. retried: it was of no use, and the request is sent
    again. failed: it was of no use, and the request is given up. lost: no answer came (time-out, dropped, cancelled),
    or none whose count can be read, so that the provider may have billed it and nobody knows how much."""
    usage: Usage | None = None
    """Where the answer had one, of use or not."""
    reason: str | None = None
    """Why it was retried, failed or lost."""
    key: str | None = None
    """Of a call that is told of only when it has failed or was lost (one of a provider's batch), and perhaps once more
    after a kill: calls of one key count once."""
    seconds: float = field(default=0.0, compare=False)
    """From sending it to its end. Told when it is sent: since the call before it had ended without use, 0 where there
    is none."""


OnCall = Callable[[Call], None]
"""Is told of every call, on the event loop's thread: what it does must not take long, and what it raises ends the
request."""


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
) -> AsyncGenerator[Completion]:
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
