"""A generator whose responses a test writes down: answer, thinking tokens, how long it takes, whether it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from s1ray.generation import GenerationError, GenerationRequest
from s1ray.schemas import Completion

PROMPT_TOKENS = 7
ANSWER_TOKENS = 3


@dataclass
class Said:
    """What the model says to one request, were its thinking not bounded."""

    answer: str
    thinking_tokens: int = 10
    fails: bool = False
    finish_reason: str = "stop"


@dataclass
class Priced:
    """Gives the responses in order; each takes as many turns of the event loop as it has tokens, all at one rate.

    Attributes:
        seen: the requests.
        finished: ids of those that got their response.
    """

    said: Sequence[Said]
    seen: list[GenerationRequest] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)

    async def complete(self, request: GenerationRequest) -> Completion:
        said = self.said[len(self.seen)]
        self.seen.append(request)
        wanted, most = said.thinking_tokens, None if request.budget is None else request.budget.max_tokens
        thinking = min(wanted, most) if isinstance(most, int) else wanted
        for _ in range(thinking + ANSWER_TOKENS):
            await asyncio.sleep(0)
        if said.fails:
            raise GenerationError(f"request {request.id!r}: status 500")
        self.finished.append(request.id)
        forced = isinstance(most, int) and thinking == most
        return Completion(
            id=request.id,
            thinking="x" * thinking,
            answer=said.answer,
            prompt_tokens=PROMPT_TOKENS,
            thinking_tokens=thinking,
            answer_tokens=ANSWER_TOKENS,
            end_forced="budget" if forced else None,
            finish_reason=said.finish_reason,
        )

    async def close(self) -> None: ...
