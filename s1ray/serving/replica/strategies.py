"""Begins a request's strategy in its replica."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from s1ray.serving.protocol.strategies import EarlyExitStrategy, RequestStrategy, ScheduleStrategy, Votes
from s1ray.serving.replica.accounting import RequestRecord
from s1ray.serving.replica.early_exit import EarlyExiting
from s1ray.serving.replica.engine_strategies import Strategies
from s1ray.serving.replica.votes import Voting
from s1ray.thinking import TokenizedFormat
from s1ray.thinking.schedule import Schedule

if TYPE_CHECKING:
    from s1ray.serving.ray_llm import ChatCompletionRequest, CompletionRequest


def begin(
    strategy: RequestStrategy | None,
    request: ChatCompletionRequest | CompletionRequest,
    record: RequestRecord,
    tokenized: TokenizedFormat,
    strategies: Strategies,
) -> None:
    """Let a request's strategy answer it in the engine's place.

    Args:
        strategy: what the request asks for. None: nothing.
        request: for vLLM; takes what tells the engine of the strategy.
        record: of the request; takes the strategy, whose account goes into the response.
        tokenized: the model's format.
        strategies: the replica's.
    """
    if isinstance(strategy, Votes):
        if strategy.temperature is not None:
            request.temperature = strategy.temperature
        counted = replace(record, texts=tokenized.texts, tokenizer=None, meter=None, choices={})
        record.strategy = Voting(strategy, counted)
    elif isinstance(strategy, EarlyExitStrategy):
        assert record.context is not None, "a replica knows its engine's context"
        record.early_exit = EarlyExiting(strategy, tokenized, record.plan, record.context, tuple(record.stop_ids))
        record.strategy = record.early_exit
    if record.strategy is not None:
        request.vllm_xargs |= strategies.add(record.strategy)


def schedule_of(strategy: RequestStrategy | None, seed: int | None) -> Schedule | None:
    """The schedule of a request, whose seed is the request's where it has none of its own."""
    if not isinstance(strategy, ScheduleStrategy):
        return None
    if strategy.seed is None and seed is not None:
        return strategy.model_copy(update={"seed": seed % 2**63})
    return strategy
