"""Conversations of several turns on two replicas, with and without a header that names the session.

A replica has the earlier turns of a conversation in its prefix cache; another replica would have to compute them again.
Both arms have the same conversations but for their texts, which no cache has seen, and take turns.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.serving.servers import MODEL
from s1ray.serving.front.wrapper import SESSION

ARMS = ("with the header", "without")
SESSIONS, TURNS, WORDS, ANSWER_TOKENS = 16, 6, 60, 32
WORD_LIST = [
    "add",
    "sum",
    "of",
    "the",
    "number",
    "and",
    "three",
    "times",
    "seven",
    "is",
    "what",
    "if",
    "then",
    "we",
    "take",
    "ten",
    "from",
    "half",
    "a",
    "dozen",
    "more",
]


@dataclass(frozen=True)
class Turn:
    """A later turn of a conversation."""

    prompt_tokens: int
    cached_tokens: int
    """Of the prompt."""
    first_s: float
    """Seconds until the first token."""


@dataclass(frozen=True)
class Round:
    """One arm in one round."""

    arm: str
    round: int
    cached: float
    """Share of the prompts' tokens, from the second turn on, that were in a cache."""
    computed_tokens: float
    """Prompt tokens a turn that were not."""
    ttft_p50_ms: float


async def measure(url: str, arm: str, number: int, *, sessions: int = SESSIONS, turns: int = TURNS) -> Round:
    """All conversations of one arm in one round, at the same time."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits, trust_env=False) as client:
        conversations = [_converse(client, f"{arm}-{number}-{one}", turns, arm == ARMS[0]) for one in range(sessions)]
        later = [turn for conversation in await asyncio.gather(*conversations) for turn in conversation]
    prompts, cached = (sum(getattr(turn, name) for turn in later) for name in ("prompt_tokens", "cached_tokens"))
    return Round(
        arm=arm,
        round=number,
        cached=round(cached / prompts, 3),
        computed_tokens=round((prompts - cached) / len(later), 1),
        ttft_p50_ms=round(1000 * statistics.median(turn.first_s for turn in later), 1),
    )


async def _converse(client: httpx.AsyncClient, name: str, turns: int, has_header: bool) -> list[Turn]:
    rng, messages, later = random.Random(name), list[dict[str, str]](), []
    headers = {SESSION: name} if has_header else {}
    for number in range(turns):
        messages.append({"role": "user", "content": " ".join(rng.choices(WORD_LIST, k=WORDS))})
        body = {"model": MODEL, "messages": messages, "max_tokens": ANSWER_TOKENS, "stream": True}
        body |= {"stream_options": {"include_usage": True}, "thinking": {"max_tokens": ANSWER_TOKENS // 2}}
        began, first, answer = time.perf_counter(), None, ""
        usage: dict[str, Any] = {}
        async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line.removeprefix("data: "))
                usage = event.get("usage") or usage
                for choice in event.get("choices") or ():
                    first = time.perf_counter() - began if first is None else first
                    answer += choice["delta"].get("content") or ""
        if number:
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            later.append(Turn(usage["prompt_tokens"], cached, first or 0.0))
        messages.append({"role": "assistant", "content": answer})
        # The user reads.
        await asyncio.sleep(rng.uniform(0.2, 1.0))
    return later


def compare(rounds: Sequence[Round]) -> dict[str, object]:
    """Medians by arm, and within each round the first arm against the second."""
    of = {(one.arm, one.round): one for one in rounds}
    numbers = sorted({one.round for one in rounds})
    with_it, without = ([of[arm, number] for number in numbers] for arm in ARMS)
    pairs = list(zip(with_it, without, strict=True))
    return {
        "medians": {
            arm: {
                name: round(statistics.median(getattr(one, name) for one in found), 3)
                for name in ("cached", "computed_tokens", "ttft_p50_ms")
            }
            for arm, found in zip(ARMS, (with_it, without), strict=True)
        },
        "ttft_ratio": [round(ours.ttft_p50_ms / theirs.ttft_p50_ms, 3) for ours, theirs in pairs],
        "computed_ratio": [round(ours.computed_tokens / theirs.computed_tokens, 3) for ours, theirs in pairs],
    }
