"""What is generated: requests to the scripted model, with the ids that each of them must give."""

from __future__ import annotations

import asyncio
import random
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.budget_forcing.scripted_model import ScriptedModel
from s1ray.generation import GenerationRequest
from s1ray.generation.scripted import ScriptedGenerator
from s1ray.thinking import ForcingPlan, ThinkingBudget, make_plan

PROMPT_TOKENS = 128
ROOM = 2048
"""Tokens that a response may have; none needs them all."""


@dataclass(frozen=True)
class Workload:
    """One batch of requests, all sent at once: a point of the benchmark."""

    name: str
    waits: int = 4
    lengths: Literal["equal", "unequal", "endless"] = "equal"
    """Thinking between two attempts to stop: the whole chain each time; drawn by an entry word, log-normal with the
    spread of real traces (`scripted_model.LENGTH_SPREAD`); or without end, so that only a maximum ends it."""
    concurrency: int = 8
    """Requests, which is also how many the engine decodes at once."""
    maximum: int | None = None
    """Thinking tokens at which it is cut."""

    def describe(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self) | {"prompt_tokens": PROMPT_TOKENS}


@dataclass(frozen=True)
class Request:
    """One request of a workload."""

    prompt_ids: list[int]
    plan: ForcingPlan
    expected: list[int]
    """What budget forcing must give: the script and the forcer, without an engine."""


def make_requests(model: ScriptedModel, workload: Workload) -> list[Request]:
    """The requests of a workload, the same at every call."""
    rng = random.Random(workload.name)
    requests = []
    for number in range(workload.concurrency):
        entry, *waits = _entries(model, workload, rng)
        budget = ThinkingBudget(waits=workload.waits, wait_text=waits or None, max_tokens=workload.maximum)
        prompt_ids = model.prompt(entry, length=PROMPT_TOKENS, number=number)
        expected = asyncio.run(reference(model, prompt_ids, budget))
        requests.append(Request(prompt_ids, make_plan(model.tokenized, budget), expected))
    return requests


async def reference(model: ScriptedModel, prompt_ids: list[int], budget: ThinkingBudget, room: int = ROOM) -> list[int]:
    """The ids that a budget gives on the scripted model at temperature 0."""
    generator = ScriptedGenerator(
        model.tokenized,
        lambda request, output: model.preferences((output or request.prompt_ids or ())[-1]),
        eos_token_id=model.eos_token_id,
        context=len(prompt_ids) + room,
    )
    request = GenerationRequest(id="reference", prompt_ids=prompt_ids, budget=budget, max_tokens=room)
    return list((await generator.complete(request)).output_ids or ())


def _entries(model: ScriptedModel, workload: Workload, rng: random.Random) -> list[str]:
    """The entry word of each stretch of thinking: the prompt's last word, then the wait texts."""
    if workload.lengths == "endless":
        return ["Again"]
    words = list(model.entries)
    if workload.lengths == "equal":
        words = [max(words, key=lambda word: model.entries[word])]
    return [rng.choice(words) for _ in range(workload.waits + 1)]
