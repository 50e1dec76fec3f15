"""The engine that all arms share, and what it counts of its own work."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.budget_forcing.scripted_model import ScriptedModel
from s1ray.generation.engine import engine_kwargs
from s1ray.models import EngineConfig

BLOCK_TOKENS = 32
"""Tokens of a KV-cache block, and so the grain of the prefix cache."""

COUNTERS: Mapping[str, str] = {
    "requests": "vllm:request_success_total",
    "decode_steps": "vllm:iteration_tokens_total_count",
    "generated_tokens": "vllm:generation_tokens_total",
    "prompt_tokens": "vllm:prompt_tokens_total",
    "prompt_tokens_cached": "vllm:prompt_tokens_cached_total",
    "preemptions": "vllm:num_preemptions_total",
}

TIMED_PROCESSOR = "benchmarks.budget_forcing.timed_processor:TimedBudgetForcing"
CONTROLLER_CLOCK = "benchmarks.budget_forcing.timed_processor.ControllerClock"


@dataclass(frozen=True)
class EngineWork:
    """What an engine did, by its own counters: the same on every machine."""

    requests: int
    decode_steps: int
    """Forward passes, those that prefill included."""
    generated_tokens: int
    prompt_tokens: int
    """Of all requests together."""
    prompt_tokens_cached: int
    """Those of them that the prefix cache had."""
    preemptions: int

    @property
    def prompt_tokens_computed(self) -> int:
        """Prompt tokens that went through the model."""
        return self.prompt_tokens - self.prompt_tokens_cached

    def describe(self) -> dict[str, int]:
        """For the results file."""
        return asdict(self) | {"prompt_tokens_computed": self.prompt_tokens_computed}


class Engine:
    """vLLM with the budget-forcing processor and its own thinking budget, on the scripted model."""

    def __init__(self, model: ScriptedModel, *, max_num_seqs: int, context: int) -> None:
        from vllm import AsyncEngineArgs
        from vllm.config import ReasoningConfig
        from vllm.v1.engine.async_llm import AsyncLLM

        fmt = model.tokenized.format
        config = EngineConfig(
            model=model.folder,
            device="cpu",
            dtype="float32",
            max_model_len=context,
            max_num_seqs=max_num_seqs,
            kv_cache_gib=1.0,
            engine_kwargs={
                "block_size": BLOCK_TOKENS,
                "enable_prefix_caching": True,
                "max_num_batched_tokens": max(8192, context),
                "disable_log_stats": False,
                # The text that our own forcer writes at the maximum.
                "reasoning_config": ReasoningConfig(
                    reasoning_start_str=fmt.start,
                    reasoning_end_str=f"\n{fmt.end}{fmt.answer_separator}{fmt.final_answer}",
                ),
            },
        )
        timed = {"logits_processors": [TIMED_PROCESSOR], "worker_extension_cls": CONTROLLER_CLOCK}
        self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**engine_kwargs(config, "cpu") | timed))
        self._number = itertools.count()

    async def generate(self, prompt_ids: list[int], **sampling: Any) -> tuple[list[int], str]:
        """Ids of a response at temperature 0, and why it ended."""
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(temperature=0.0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY, **sampling)
        outputs = [out async for out in self._llm.generate(tokens_input(prompt_ids), params, f"r{next(self._number)}")]
        response = outputs[-1].outputs[0]
        return list(response.token_ids), response.finish_reason or "stop"

    async def forget(self) -> None:
        """Empty the prefix cache, so that no arm finds what another one left."""
        if not await self._llm.reset_prefix_cache():
            raise RuntimeError("the engine did not reset its prefix cache; a request must still be running")

    async def counters(self) -> dict[str, float]:
        """The engine's counters since its start."""
        from prometheus_client import REGISTRY

        # They are recorded behind the outputs.
        await asyncio.sleep(0.1)
        samples = [sample for metric in REGISTRY.collect() for sample in metric.samples]
        return {
            name: sum(sample.value for sample in samples if sample.name == sampled)
            for name, sampled in COUNTERS.items()
        }

    async def controller_seconds(self) -> float:
        """Seconds that the engine has spent in the budget-forcing processor so far."""
        seconds: list[float] = await self._llm.collective_rpc("controller_seconds")
        return sum(seconds)

    def close(self) -> None:
        """Stop the engine."""
        self._llm.shutdown()


def work_between(before: Mapping[str, float], after: Mapping[str, float]) -> EngineWork:
    """What was done between two readings of the counters."""
    return EngineWork(**{name: round(after[name] - before[name]) for name in COUNTERS})
