"""Budget forcing for callers of `vllm.LLM`.

llm = LLM(model, logits_processors=[PROCESSOR])
forcing = BudgetForcing(llm, ThinkingBudget(max_tokens=256, waits=1), thinking_format="qwen3")
completions = forcing.completions(llm.chat(messages, forcing.sampling_params(temperature=0.6)))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from s1ray.errors import InputError
from s1ray.thinking.budget import ThinkingBudget
from s1ray.thinking.completion import completion_from_ids
from s1ray.thinking.format import ThinkingFormat, eos_ids_of
from s1ray.thinking.plan import EXTRA_ARG, PROCESSOR, make_plan

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams

    from s1ray.schemas import Completion


class BudgetForcing:
    """One budget, for any number of requests to an LLM.

    Args:
        llm: made with `logits_processors=[PROCESSOR]`.
        budget: how long each response thinks.
        thinking_format: how the model writes its thinking; a name is a preset (s1, deepseek_r1, qwen3).
        max_tokens: tokens of a whole response at most, thinking and answer. None: what the context allows.

    Raises:
        InputError: the LLM was made without the processor, its tokenizer cannot express the format, or the format the
            budget.
    """

    def __init__(
        self,
        llm: LLM,
        budget: ThinkingBudget,
        *,
        thinking_format: ThinkingFormat | str = "s1",
        max_tokens: int | None = None,
    ) -> None:
        from s1ray.thinking.vllm.stops import install

        model = llm.llm_engine.vllm_config.model_config
        if PROCESSOR not in (model.logits_processors or ()):
            raise InputError(f"llm: forces no budgets; make it with logits_processors=[{PROCESSOR!r}]")
        fmt = ThinkingFormat.preset(thinking_format) if isinstance(thinking_format, str) else thinking_format
        self._tokenized = fmt.resolve(llm.get_tokenizer(), eos_ids_of(model.model))
        self._plan = make_plan(self._tokenized, budget)
        self._context = int(model.max_model_len)
        install(self._context)
        self._max_tokens = max_tokens

    def sampling_params(self, **sampling: Any) -> SamplingParams:
        """Sampling parameters under which vLLM forces the budget; `sampling` are further fields of theirs."""
        from vllm import SamplingParams

        return SamplingParams(max_tokens=self._max_tokens, extra_args={EXTRA_ARG: self._plan.to_json()}, **sampling)

    def completions(self, outputs: Sequence[RequestOutput]) -> list[Completion]:
        """Every sample's thinking and answer, counted from its ids; `id` is "<request id>-<sample>".

        Args:
            outputs: what the LLM gave for `sampling_params`.
        """
        return [
            completion_from_ids(
                f"{output.request_id}-{sample.index}",
                self._tokenized,
                self._plan,
                output.prompt_token_ids,
                list(sample.token_ids),
                sample.finish_reason or "stop",
                room=self._room(len(output.prompt_token_ids)),
            )
            for output in outputs
            for sample in output.outputs
        ]

    def _room(self, prompt_tokens: int) -> int:
        left = self._context - prompt_tokens
        return left if self._max_tokens is None else min(left, self._max_tokens)
