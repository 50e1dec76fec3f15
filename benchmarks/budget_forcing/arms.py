"""The ways of generating that are compared. Each takes a batch of requests and gives the ids of their responses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.budget_forcing.engine import Engine
from benchmarks.budget_forcing.workload import ROOM, Request, Workload
from s1ray.thinking.plan import EXTRA_ARG
from s1ray.thinking.segmented import CompleteIds, Segment, force_in_segments

PLAIN = "plain"
IN_ENGINE = "in_engine"
SEGMENTED = "segmented"
BARRIER = "segmented_barrier"
UNCACHED = "segmented_uncached"
NATIVE = "native_maximum"

Ids = list[list[int]]


async def plain(engine: Engine, requests: Sequence[Request], eos_ids: Sequence[int]) -> Ids:
    """Nothing forced: the script runs on, through its EOS, for as many tokens as the forced arms generate."""

    async def one(request: Request) -> list[int]:
        ids, _ = await engine.generate(request.prompt_ids, max_tokens=len(request.expected), ignore_eos=True)
        return ids

    return await asyncio.gather(*map(one, requests))


async def in_engine(engine: Engine, requests: Sequence[Request], eos_ids: Sequence[int]) -> Ids:
    """The logits processor carries the plan out within one request."""

    async def one(request: Request) -> list[int]:
        extra = {EXTRA_ARG: request.plan.to_json()}
        ids, _ = await engine.generate(request.prompt_ids, max_tokens=ROOM, extra_args=extra)
        return ids

    return await asyncio.gather(*map(one, requests))


async def native_maximum(engine: Engine, requests: Sequence[Request], eos_ids: Sequence[int]) -> Ids:
    """VLLM's own thinking budget, which has a maximum and no waits. It counts the prompt's last word, too."""

    async def one(request: Request) -> list[int]:
        assert request.plan.max_tokens is not None
        ids, _ = await engine.generate(
            request.prompt_ids, max_tokens=ROOM, thinking_token_budget=request.plan.max_tokens + 1
        )
        return ids

    return await asyncio.gather(*map(one, requests))


async def segmented(engine: Engine, requests: Sequence[Request], eos_ids: Sequence[int]) -> Ids:
    """A request for each segment; the prefix cache has most of the earlier ones."""
    return await _in_segments(engine, requests, eos_ids, uncached=False, barrier=False)


async def segmented_uncached(engine: Engine, requests: Sequence[Request], eos_ids: Sequence[int]) -> Ids:
    """The same without a prefix cache: each segment prefills everything again."""
    return await _in_segments(engine, requests, eos_ids, uncached=True, barrier=False)


async def segmented_barrier(engine: Engine, requests: Sequence[Request], eos_ids: Sequence[int]) -> Ids:
    """The same in rounds, as s1's harness does it: a response's next segment waits for those of all others."""
    return await _in_segments(engine, requests, eos_ids, uncached=False, barrier=True)


Arm = Callable[[Engine, Sequence[Request], Sequence[int]], Awaitable[Ids]]

ARMS: Mapping[str, Arm] = {
    PLAIN: plain,
    IN_ENGINE: in_engine,
    SEGMENTED: segmented,
    BARRIER: segmented_barrier,
    UNCACHED: segmented_uncached,
    NATIVE: native_maximum,
}


def arms_for(workload: Workload) -> list[str]:
    """The arms that can generate a workload."""
    native = workload.maximum is not None and not workload.waits
    return [name for name in ARMS if name != NATIVE or native]


@dataclass(frozen=True)
class EngineSegments:
    """`CompleteIds` over the engine."""

    engine: Engine
    uncached: bool = False
    """Do not read the prefix cache."""

    async def __call__(
        self, prompt_ids: list[int], *, max_tokens: int, stop_ids: Sequence[int], ban: Sequence[int], seed: int | None
    ) -> Segment:
        """Generate one segment."""
        ids, reason = await self.engine.generate(
            prompt_ids,
            max_tokens=max_tokens,
            stop_token_ids=list(stop_ids),
            logit_bias=dict.fromkeys(ban, -100.0) or None,
            seed=seed,
            skip_reading_prefix_cache=self.uncached,
        )
        return Segment(ids, reason)


class Rounds:
    """Lets calls through in rounds: a round begins when every response still in the making has come to it."""

    def __init__(self, responses: int) -> None:
        self._responses = responses
        self._waiting: list[asyncio.Future[None]] = []

    def taking_part(self, complete: CompleteIds) -> CompleteIds:
        """`complete` for one of the responses."""

        async def in_its_round(
            prompt_ids: list[int], *, max_tokens: int, stop_ids: Sequence[int], ban: Sequence[int], seed: int | None
        ) -> Segment:
            arrived = asyncio.get_running_loop().create_future()
            self._waiting.append(arrived)
            self._begin_if_complete()
            await arrived
            return await complete(prompt_ids, max_tokens=max_tokens, stop_ids=stop_ids, ban=ban, seed=seed)

        return in_its_round

    def leave(self) -> None:
        """A response is finished."""
        self._responses -= 1
        self._begin_if_complete()

    def _begin_if_complete(self) -> None:
        if len(self._waiting) == self._responses:
            for arrived in self._waiting:
                arrived.set_result(None)
            self._waiting = []


async def _in_segments(
    engine: Engine, requests: Sequence[Request], eos_ids: Sequence[int], *, uncached: bool, barrier: bool
) -> Ids:
    rounds = Rounds(len(requests))
    complete: CompleteIds = EngineSegments(engine, uncached)

    async def one(request: Request) -> list[int]:
        taken = rounds.taking_part(complete) if barrier else complete
        response = await force_in_segments(taken, request.plan, request.prompt_ids, room=ROOM, eos_ids=eos_ids)
        rounds.leave()
        return response.output_ids

    return await asyncio.gather(*map(one, requests))
