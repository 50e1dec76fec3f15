"""Rewards of steps from a process reward model at an HTTP endpoint (`s1ray.serving.reward.app`)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import httpx
from pydantic import Field

from s1ray.config import Config, HTTPAddress
from s1ray.errors import UnreachableError
from s1ray.generation import GenerationError
from s1ray.generation.answers import UnusableError, decode, mapping, whole
from s1ray.schemas import Completion

Aggregate = Literal["last", "min", "mean", "product"]
"""How the rewards of a response's steps are taken together (2408.00724, section 4)."""

ATTEMPTS, FIRST_PAUSE_S = 4, 0.5
"""Tries of one request, and seconds before the second one; doubled for each further one."""


@dataclass(frozen=True)
class Rewards:
    """Of one response."""

    scores: tuple[float, ...]
    """One a step, in [0, 1]."""
    tokens: int
    """That the reward model has read."""


class RewardEndpoint(Config):
    """Where a process reward model answers, and how its rewards are used."""

    base_url: HTTPAddress
    """With its `/v1`."""
    delimiter: str = Field(default="\n\n", min_length=1)
    """Between the steps of a whole response's thinking."""
    timeout: float = Field(default=600.0, gt=0)
    """Seconds that one attempt may take."""

    async def score_each(self, responses: Sequence[tuple[str, Sequence[str]]]) -> list[Rewards | GenerationError]:
        """Rewards of responses, asked for at once; where there are none, why.

        Args:
            responses: question and steps of each.
        """
        async with httpx.AsyncClient(timeout=self.timeout) as client:
            return list(await asyncio.gather(*(self._try(client, *response) for response in responses)))

    async def score_all(self, responses: Sequence[tuple[str, Sequence[str]]]) -> list[Rewards]:
        """Rewards of responses, asked for at once.

        Args:
            responses: question and steps of each.

        Raises:
            GenerationError: the endpoint does not answer, refuses, or gives something else than one score a step.
        """
        return all_scored(await self.score_each(responses))

    def steps_of(self, response: Completion) -> list[str]:
        """The steps of a response's thinking, and its answer as the last one."""
        steps = [step.strip() for step in [*response.thinking.split(self.delimiter), response.answer]]
        return [step for step in steps if step]

    async def _try(self, client: httpx.AsyncClient, question: str, steps: Sequence[str]) -> Rewards | GenerationError:
        try:
            return await self._score(client, question, steps)
        except GenerationError as error:
            return error

    async def _score(self, client: httpx.AsyncClient, question: str, steps: Sequence[str]) -> Rewards:
        url, why = f"{self.base_url}/rewards", ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
            try:
                answer = await client.post(url, json={"question": question, "steps": list(steps)})
            except httpx.HTTPError as error:
                why = f"no answer ({type(error).__name__}: {error})"
                continue
            if answer.status_code < 500 and answer.status_code != 429:
                return _read(url, answer, len(steps))
            why = f"status {answer.status_code}: {answer.text[:200]}"
        raise GenerationError(f"{url}: {why}")


def all_scored(found: Iterable[Rewards | GenerationError]) -> list[Rewards]:
    """The rewards, if all could be had.

    Raises:
        GenerationError: the first that could not.
    """
    scored = []
    for each in found:
        if isinstance(each, GenerationError):
            raise each
        scored.append(each)
    return scored


def try_rewards(arms: Iterable[Iterable[object]]) -> None:
    """Ask the reward models of some arms about one step, before anything is asked that would wait for their answers.

    Args:
        arms: of each model.

    Raises:
        UnreachableError: one does not answer, or not as a reward model does.
    """
    endpoints = {getattr(arm, "reward", None) for each in arms for arm in each}
    for endpoint in endpoints:
        if isinstance(endpoint, RewardEndpoint):
            try:
                asyncio.run(endpoint.score_all([("1 + 1 = ?", ["2"])]))
            except GenerationError as error:
                raise UnreachableError(
                    f"arms: reward.base_url: {error}; start a reward model there (s1ray.serving.reward.app)"
                ) from None


def aggregated(scores: Sequence[float], how: Aggregate) -> float:
    """One number for a response; 0 where it has no step."""
    if not scores:
        return 0.0
    if how == "last":
        return scores[-1]
    if how == "min":
        return min(scores)
    return math.fsum(scores) / len(scores) if how == "mean" else math.prod(scores)


def _read(url: str, answer: httpx.Response, steps: int) -> Rewards:
    if answer.status_code != 200:
        raise GenerationError(f"{url}: status {answer.status_code}: {answer.text[:300]}")
    try:
        body = decode(answer.content)
        tokens = whole(mapping(body.get("usage"), "usage").get("total_tokens"), "usage.total_tokens")
    except UnusableError as error:
        raise GenerationError(f"{url}: not the answer of a reward model: {error}") from None
    scores = body.get("scores")
    if not isinstance(scores, list) or len(scores) != steps:
        found = f"{len(scores)} scores" if isinstance(scores, list) else "no list of scores"
        raise GenerationError(f"{url}: {found} for {steps} steps")
    for place, score in enumerate(scores):
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise GenerationError(f"{url}: scores[{place}] is {score!r:.40}, no number from 0 to 1")
    return Rewards(tuple(map(float, scores)), tokens)
