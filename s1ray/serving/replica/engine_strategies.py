"""Where test-time strategies stand: between vLLM's server and its engine.

vLLM's server asks its engine for one request. Where that request carries a strategy, the strategy answers in the
engine's place: it asks the engine as often as it needs, and gives one output, as the engine would. So texts, streams,
tools and accounting need not know of strategies.

Imported only where ray.serve.llm is (it imports vLLM).
"""

from __future__ import annotations

import copy
import uuid
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import JsonValue

from s1ray.serving.protocol.strategies import STRATEGY_ARG
from s1ray.serving.replica.flow import FLOW
from s1ray.thinking import Accounting

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

Generate = Callable[..., AsyncGenerator["RequestOutput"]]
"""The engine's own `generate`."""


class EngineStrategy(Protocol):
    """One request's strategy, while it is carried out."""

    def generate(
        self, engine: AsyncLLM, plain: Generate, prompt: Any, params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput]:
        """What the engine's `generate` would give.

        Args:
            engine: to be asked.
            plain: its own `generate`.
            prompt, params, request_id, options: what it was called with.
        """

    def account(self) -> dict[str, JsonValue]:
        """The response's `thinking.strategy`, once its output is complete; `completion_tokens` among it."""

    def others(self) -> Iterator[Accounting]:
        """What was generated besides the response, as far as it went, for metrics."""

    def endings(self) -> Iterator[str]:
        """What became of each request to the engine, for metrics."""


class Strategies:
    """The strategies of a replica's requests, found by a key that travels with the request."""

    def __init__(self) -> None:
        # A request that vLLM refuses never comes for its strategy.
        self._by_key: weakref.WeakValueDictionary[str, EngineStrategy] = weakref.WeakValueDictionary()

    def add(self, strategy: EngineStrategy) -> dict[str, str]:
        """Keep a strategy as long as its request does; give what goes into `vllm_xargs`."""
        key = uuid.uuid4().hex
        self._by_key[key] = strategy
        return {STRATEGY_ARG: key}

    def install(self, engine: AsyncLLM) -> None:
        """Let strategies answer the requests that have one."""
        plain: Generate = engine.generate

        def generate(prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any) -> Any:
            key = (getattr(sampling_params, "extra_args", None) or {}).get(STRATEGY_ARG)
            strategy = None if key is None else self._by_key.get(key)
            if strategy is None:
                outputs = plain(prompt, sampling_params, request_id, **options)
                return outputs if (flow := FLOW.get()) is None else flow.paced(request_id, outputs)
            return strategy.generate(engine, plain, prompt, sampling_params, request_id, **options)

        engine.generate = generate


def without_strategy(params: SamplingParams) -> SamplingParams:
    """A copy of a request's parameters that does not name its strategy."""
    result = copy.copy(params)
    result.extra_args = {name: value for name, value in (params.extra_args or {}).items() if name != STRATEGY_ARG}
    return result


def forget_logprobs(engine: AsyncLLM, request_id: str) -> None:
    """Drop the log-probabilities of a request that its stream has had.

    vLLM keeps them until the request ends: 20 candidates are some three kilobytes a token, gigabytes for a vote of long
    responses.
    """
    processor = engine.output_processor
    for internal_id in processor.external_req_ids.get(request_id, ()):
        state = processor.request_states.get(internal_id)
        # With an interval it sends several tokens at a time, and needs theirs until then.
        if state is not None and state.stream_interval <= 1 and state.logprobs_processor is not None:
            held = state.logprobs_processor
            held.logprobs = None if held.logprobs is None else type(held.logprobs)()
