"""What budget forcing reads off a request's `SamplingParams`, and what it refuses; the same for both model runners."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from s1ray.errors import InputError
from s1ray.thinking.plan import EXTRA_ARG, ForcingPlan
from s1ray.thinking.vllm.parent import end_with_parent

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

logger = logging.getLogger(__name__)

GREEDY_BELOW = 1e-5
"""vLLM samples greedily below this temperature."""

REPETITION_PENALTIES = 1e-4, 1e4
"""vLLM divides the logits of forced tokens by it, or multiplies those of others."""


def check_params(params: SamplingParams) -> ForcingPlan | None:
    """Refuse, in the frontend, what the worker could not do; give the request's plan, if it has one.

    Raises:
        InputError: the plan is malformed or contradicts another sampling parameter; vLLM's server answers 400.
    """
    text = (params.extra_args or {}).get(EXTRA_ARG)
    if text is None:
        return None
    plan = ForcingPlan.from_json(text)
    if clash := sorted(plan.written.intersection(params.stop_token_ids or ())):
        raise InputError(
            f"stop_token_ids: {clash} are part of the text that budget forcing writes, so the response would stop in "
            "the middle of it; leave them out"
        )
    least, most = REPETITION_PENALTIES
    if not least <= params.repetition_penalty <= most:
        raise InputError(
            f"repetition_penalty: from {least:g} to {most:g} with a thinking budget; another one would outweigh the "
            "forced tokens"
        )
    if params.repetition_detection is not None and params.repetition_detection.max_pattern_size:
        raise InputError(
            "repetition_detection: would end the response within its thinking; `thinking.loops` ends the thinking, and "
            "the answer follows"
        )
    if params.thinking_token_budget is not None:
        raise InputError("thinking_token_budget: a forcing plan sets the budget already; give one of the two")
    if plan.answer_max_tokens is not None:
        for name in ("ignore_eos", "min_tokens"):
            if getattr(params, name):
                raise InputError(f"{name}: contradicts answer_max_tokens, which ends the answer; leave one of them out")
    if params.structured_outputs is not None and plan.answer_max_tokens is not None:
        raise InputError(
            "answer_max_tokens: a grammar governs the answer, so its end cannot be forced; give max_tokens instead"
        )
    if params.structured_outputs is not None and not plan.ends_with_delimiter:
        raise InputError(
            "structured_outputs: the forcing plan writes into the answer, which the grammar would refuse; make the "
            "plan with bare_end=True"
        )
    return plan


class RequestReader:
    """Reads requests for the model of one engine.

    Raises:
        InputError: the engine decodes speculatively.
    """

    def __init__(self, config: VllmConfig) -> None:
        if getattr(config, "speculative_config", None) is not None:
            raise InputError(
                "speculative_config: budget forcing decides token by token and cannot follow drafted tokens; start the "
                "engine without speculative decoding"
            )
        end_with_parent()
        self.vocab_size: int = config.model_config.get_vocab_size()
        self._context: int = config.model_config.max_model_len

    def plan(self, params: SamplingParams) -> ForcingPlan | None:
        """The request's plan. None: the request is not forced."""
        text = (params.extra_args or {}).get(EXTRA_ARG)
        if text is None:
            return None
        plan = ForcingPlan.from_json(text)
        if plan.vocab_size > self.vocab_size:
            logger.error(
                "request left unforced: its plan is for %d token ids, the model has %d; make plans with the model's "
                "own tokenizer",
                plan.vocab_size,
                self.vocab_size,
            )
            return None
        return plan

    def stop_ids(self, params: SamplingParams) -> list[int]:
        """The stop ids that the model has. vLLM does not check them, and writing to one beyond the vocabulary would
        write beyond the logits.
        """
        return sorted(i for i in params.all_stop_token_ids if 0 <= i < self.vocab_size)

    def room(self, params: SamplingParams, prompt_len: int) -> int:
        """Tokens that the response may have."""
        left = self._context - prompt_len
        return left if params.max_tokens is None else min(left, int(params.max_tokens))

    def temperature(self, params: SamplingParams) -> float:
        """The sampling temperature; 0: greedy."""
        return 0.0 if params.temperature < GREEDY_BELOW else params.temperature
