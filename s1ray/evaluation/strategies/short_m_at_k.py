"""short-m@k (arXiv 2505.17813): of k responses the m that finish first decide, and the others are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from s1ray.evaluation.strategies.base import Sampling
from s1ray.evaluation.strategies.requests import ask_together, cancel
from s1ray.evaluation.strategies.sampled import Parallel, shortest_first
from s1ray.evaluation.strategies.voting import elect_response
from s1ray.generation import GenerationRequest, Generator
from s1ray.schemas import Completion, Question


class ShortMAtK(Parallel):
    """Draw k responses at once; the m shortest thoughts vote, and the shortest of them breaks ties.

    With `cancel`, the first m to arrive are taken, and the others' requests are dropped, which makes the server stop
    them. Nobody tells how far they had come: they count as `uncounted_calls`, and the row's tokens are too few. Without
    it all k are waited for, so that the choice does not depend on the server's timing and every token is counted:
    measure like that what is to be compared at equal tokens. All k must run at once, or the first to be done are those
    that began first: the run keeps places for them, and so must the server.
    """

    strategy: str = "short_m_at_k"
    m: int = Field(default=1, ge=1)
    """Responses that decide. 1: the first that is done is the answer."""
    k: int = Field(default=8, ge=2)
    """Responses that are begun."""
    cancel: bool = True
    """Drop the others as soon as m are there."""

    @model_validator(mode="after")
    def _fewer_decide_than_begin(self) -> Self:
        if self.m >= self.k:
            raise ValueError(f"m: {self.m} of k = {self.k} responses is no choice; m must be smaller")
        return self

    @property
    def requests(self) -> int:
        """All that are begun."""
        return self.k

    def describe(self) -> str:
        """For example "short 1 of 8 max=64"."""
        return self.labelled(f"short {self.m} of {self.k}") + ("" if self.cancel else " (all counted)")

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Begin k, and let m of them vote."""
        requests = self.draws(question, sample, self.k, sampling, seed)
        if self.cancel:
            responses = await self._first(generator, requests)
        else:
            responses = await ask_together(generator, requests)
        return await elect_response(question, shortest_first(responses)[: self.m])

    async def _first(self, generator: Generator, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """The responses that are there when m of them are (more where several come at once), in the order of their
        requests.
        """
        tasks = [asyncio.ensure_future(generator.complete(request)) for request in requests]
        try:
            waiting = set(tasks)
            while len(tasks) - len(waiting) < self.m:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # a request that failed fails the answer
            return [task.result() for task in tasks if task not in waiting]
        finally:
            await cancel(tasks)
