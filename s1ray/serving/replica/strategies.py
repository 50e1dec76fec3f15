"""Begins a request's strategy in its replica."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from s1ray.serving.protocol.strategies import RequestStrategy, Votes
from s1ray.serving.replica.accounting import RequestRecord
from s1ray.serving.replica.engine_strategies import Strategies
from s1ray.serving.replica.votes import Voting
from s1ray.thinking import TokenizedFormat

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
    if record.strategy is not None:
        request.vllm_xargs |= strategies.add(record.strategy)
