"""The requests that strategies make: one question, one seed, one limit for every arm's answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from s1ray.evaluation.strategies.base import Sampling
from s1ray.generation import GenerationRequest, Generator, request_seed
from s1ray.schemas import Completion, Question
from s1ray.thinking.budget import ThinkingBudget

DELIMITER_TOKENS = 32
"""Room for the delimiters and the forced beginning of the answer; no format needs as many."""


def ask(
    question: Question,
    sampling: Sampling,
    seed: int,
    *,
    key: str,
    budget: ThinkingBudget | None,
    instruction: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
) -> GenerationRequest:
    """One request for a question.

    Args:
        question: the question.
        sampling: how to draw tokens, and the answer's limit.
        seed: of the run.
        key: the request's id. Its sampling seed follows from the run's and this, so that arms that use the same keys
            differ by their settings and not by luck.
        budget: what the thinking is held to; the answer's limit is added. None: nothing is forced, not even the
            answer's limit.
        instruction: appended to the question after an empty line.
        temperature: in place of the sampling's.
        max_tokens: of the whole response, where there is no budget.
    """
    text = question.question if instruction is None else f"{question.question}\n\n{instruction}"
    temperature = sampling.temperature if temperature is None else temperature
    if budget is not None:
        answer = sampling.answer_tokens
        budget = budget.model_copy(update={"answer_reserve": answer, "answer_max_tokens": answer})
        most = budget.max_tokens
        # One more for the token that ends the response.
        max_tokens = most + DELIMITER_TOKENS + answer + 1 if isinstance(most, int) else None
    return GenerationRequest(
        id=key,
        messages=[{"role": "user", "content": text}],
        budget=budget,
        temperature=temperature,
        top_p=sampling.top_p,
        max_tokens=max_tokens,
        seed=request_seed(seed, key) if temperature > 0 else None,
    )


async def ask_together(generator: Generator, requests: Sequence[GenerationRequest]) -> list[Completion]:
    """Complete requests at once.

    Returns:
        The responses in the requests' order.

    Raises:
        GenerationError: one could not be had; the others are cancelled.
    """
    tasks = [asyncio.ensure_future(generator.complete(request)) for request in requests]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await cancel(tasks)


async def cancel(tasks: Sequence[asyncio.Future[Completion]]) -> None:
    """Cancel what still runs, and wait until it has ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
