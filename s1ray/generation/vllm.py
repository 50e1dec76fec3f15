"""A vLLM engine with budget forcing inside. Its core is a process of its own, and so is each of several workers.

Imports vLLM only when a generator is made. One engine a process; share it.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from s1ray.errors import S1rayError
from s1ray.generation.base import Continuation, GenerationError, GenerationRequest
from s1ray.generation.engine import engine_kwargs
from s1ray.generation.prompts import prompt_ids_of
from s1ray.models import EngineConfig
from s1ray.schemas import Completion, Confidence
from s1ray.thinking.accounting import forced_spans
from s1ray.thinking.completion import completion_from_ids
from s1ray.thinking.format import eos_ids_of
from s1ray.thinking.plan import EXTRA_ARG, make_plan
from s1ray.thinking.segmented import Segment
from s1ray.voting.confidence import measure

if TYPE_CHECKING:
    from vllm import CompletionOutput, SamplingParams
    from vllm.config import VllmConfig
    from vllm.v1.engine.async_llm import AsyncLLM


def keep_worker_inside(settings: VllmConfig) -> None:
    """Make an engine one process smaller where it has one worker on a CPU.

    vLLM asks for its multiprocess executor on every CPU. With one worker that is a second process which imports
    everything again (more than ten seconds of CPU) and polls shared memory at every decode step. Inside the engine
    core's own process the same worker needs neither.
    """
    parallel = settings.parallel_config
    if settings.device_config.device_type == "cpu" and parallel.world_size == 1:
        parallel.distributed_executor_backend = "uni"


class EngineError(S1rayError):
    """The engine has died: no further request can be answered."""


class VLLMGenerator:
    """Completes requests on an engine of its own.

    Args:
        config: the engine; `model` is a folder, a Hugging Face id or "miniature-base".

    Raises:
        InputError: the config contradicts itself, or the model's tokenizer cannot express the thinking format.
    """

    def __init__(self, config: EngineConfig) -> None:
        # vLLM logs only errors, unless its own variable asks for more.
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        import torch
        from transformers import AutoTokenizer

        device = config.device
        if device == "auto":
            device = "gpu" if torch.cuda.is_available() else "cpu"
        kwargs = engine_kwargs(config.with_local_models(), device)
        # Before the engine: a format that does not fit the model is found in a second instead of a minute.
        self._tokenizer = AutoTokenizer.from_pretrained(kwargs.get("tokenizer", kwargs["model"]))
        self._tokenized = config.thinking_format.resolve(self._tokenizer, eos_ids_of(kwargs["model"]))

        from vllm import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        # Many prompts at once, as for `vllm.LLM`: others default to a quarter or an eighth of its tokens a step.
        settings = AsyncEngineArgs(**kwargs).create_engine_config(UsageContext.LLM_CLASS)
        keep_worker_inside(settings)
        self._engine = AsyncLLM.from_vllm_config(settings, disable_log_stats=kwargs["disable_log_stats"])
        self._context = self._engine.model_config.max_model_len
        self._number = itertools.count()

    async def complete(self, request: GenerationRequest) -> Completion:
        """Generate one response."""
        from vllm.exceptions import VLLMValidationError
        from vllm.inputs.engine import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            prompt_ids = prompt_ids_of(request, self._tokenizer)
        except ValueError as error:
            raise GenerationError(f"request {request.id!r}: {error}") from error
        room = self._context - len(prompt_ids)
        if room < 1:
            raise GenerationError(
                f"request {request.id!r}: the prompt has {len(prompt_ids)} tokens, which fills the model's context of "
                f"{self._context}"
            )
        try:
            plan = None if request.budget is None else make_plan(self._tokenized, request.budget)
            room = room if request.max_tokens is None else min(room, request.max_tokens)
            params = self._sampling_params(request, None if plan is None else plan.to_json(), room)
            # Ids of requests may repeat between runs; the engine's must not.
            engine_id = f"{request.id}#{next(self._number)}"
            prompt = tokens_input(prompt_ids)
            outputs = [output async for output in self._engine.generate(prompt, params, engine_id)]
        except (ValueError, VLLMValidationError) as error:
            raise GenerationError(f"request {request.id!r}: {error}") from error
        except EngineDeadError as error:
            # Not this request's failure: every one after it would fail, too.
            raise EngineError(f"request {request.id!r}: the vLLM engine has died; its log says why") from error
        response = outputs[-1].outputs[0]
        if request.continues is not None:
            return _continued(request, request.continues, prompt_ids, response)
        completion = completion_from_ids(
            request.id,
            self._tokenized,
            plan,
            prompt_ids,
            list(response.token_ids),
            response.finish_reason or "stop",
            room=room,
        )
        cached_tokens, completion_tokens = outputs[-1].num_cached_tokens or 0, len(response.token_ids)
        completion = replace(completion, cached_tokens=cached_tokens, completion_tokens=completion_tokens)
        if request.top_logprobs is None:
            return completion
        forced = () if plan is None else forced_spans(plan, prompt_ids, response.token_ids, room=room)
        return replace(completion, confidence=_confidence(request, response.logprobs or (), forced))

    async def close(self) -> None:
        """Stop the engine."""
        self._engine.shutdown()

    def _sampling_params(self, request: GenerationRequest, plan: str | None, room: int) -> SamplingParams:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        how = request.continues
        return SamplingParams(
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=1.0 if request.top_p is None else request.top_p,
            top_k=request.top_k or 0,
            max_tokens=room,
            seed=request.seed,
            logprobs=request.top_logprobs,
            stop=None if how is None else list(how.stop),
            stop_token_ids=None if how is None else list(how.stop_ids),
            include_stop_str_in_output=how is not None,
            skip_special_tokens=how is None,
            # Stops are texts, so they are looked for in text.
            detokenize=how is not None,
            output_kind=RequestOutputKind.FINAL_ONLY,
            extra_args=None if plan is None else {EXTRA_ARG: plan},
        )


def _continued(
    request: GenerationRequest, how: Continuation, prompt_ids: Sequence[int], response: CompletionOutput
) -> Completion:
    """The next part of a response."""
    ids, is_thinking = list(response.token_ids), how.of == "thinking"
    if type(response.stop_reason) is int and ids[-1:] != [response.stop_reason]:
        ids.append(response.stop_reason)
    return Completion(
        id=request.id,
        thinking=response.text if is_thinking else "",
        answer="" if is_thinking else response.text,
        prompt_tokens=len(prompt_ids),
        thinking_tokens=len(ids) if is_thinking else 0,
        answer_tokens=0 if is_thinking else len(ids),
        finish_reason=response.finish_reason or "stop",
        output_ids=ids,
        completion_tokens=len(ids),
    )


def _confidence(
    request: GenerationRequest, places: Iterable[Mapping[int, Any]], forced: Iterable[tuple[int, int]]
) -> Confidence:
    """The figures of a response, from vLLM's log-probabilities: at each place of the likeliest tokens and the sampled
    one, by id.
    """
    most = request.top_logprobs
    likeliest = (sorted((each.logprob for each in place.values()), reverse=True)[:most] for place in places)
    left_out = {place for begin, end in forced for place in range(begin, end)}
    return measure(likeliest, window=request.confidence_window, forced=left_out)


@dataclass(frozen=True)
class EngineSegments:
    """`CompleteIds` over an engine in this process: for budget forcing from outside (`s1ray.thinking.segmented`)."""

    engine: AsyncLLM
    temperature: float = 0.0
    """0: greedy."""
    top_p: float = 1.0

    async def __call__(
        self, prompt_ids: list[int], *, max_tokens: int, stop_ids: Sequence[int], ban: Sequence[int], seed: int | None
    ) -> Segment:
        """Generate up to `max_tokens` ids."""
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=max_tokens,
            seed=seed,
            stop_token_ids=list(stop_ids),
            logit_bias=dict.fromkeys(ban, -100.0) or None,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        engine_id = f"segment-{uuid.uuid4().hex}"
        outputs = [output async for output in self.engine.generate(tokens_input(prompt_ids), params, engine_id)]
        response = outputs[-1].outputs[0]
        return Segment(list(response.token_ids), response.finish_reason or "stop")
