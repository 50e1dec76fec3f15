"""Stop strings that act on the answer only.

vLLM looks for a request's stop strings in everything that the model writes: a line break would end a response in the
first line of its thinking. Where a request has a forcing plan, its response is followed beside the detokenizer,
and only what the model writes into its answer counts: not the forced beginning, and not the white space before the
first word. `ThinkingBudget.stop` asks for vLLM's own behaviour.

The one place where this can be had is the frontend's detokenizer, which has no setting for it: `install` replaces what
makes it, in the process that asks the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.v1.engine import output_processor
from vllm.v1.engine.detokenizer import BaseIncrementalDetokenizer, IncrementalDetokenizer

from s1ray.errors import InputError
from s1ray.thinking.forcer import BudgetForcer, Phase
from s1ray.thinking.plan import EXTRA_ARG, ForcingPlan

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.v1.engine import EngineCoreRequest


class AnswerStops(IncrementalDetokenizer):  # type: ignore[misc]  # vLLM's types are not followed
    """A detokenizer that looks for stop strings in the answer.

    Args:
        inner: does the detokenizing, and keeps back what may be a begun stop string; its own search is switched off.
        forcer: follows the response.
    """

    def __init__(self, inner: BaseIncrementalDetokenizer, forcer: BudgetForcer) -> None:
        self._inner, self._forcer = inner, forcer
        self._stop, inner.stop = list(inner.stop), []
        self._from: int | None = None
        """Where the answer's own text begins in the output; None: not yet."""

    @property
    def output_token_ids(self) -> list[int]:
        """All ids of the output."""
        ids: list[int] = self._inner.output_token_ids
        return ids

    def num_output_tokens(self) -> int:
        """How many there are."""
        return len(self.output_token_ids)

    def get_next_output_text(self, finished: bool, delta: bool) -> str:
        """The text, or what is new of it."""
        text: str = self._inner.get_next_output_text(finished, delta)
        return text

    def update(self, new_token_ids: list[int], stop_terminated: bool) -> str | None:
        """Take the next ids; give the stop string that ends the response."""
        for number, token_id in enumerate(new_token_ids, 1):
            answering, length = self._forcer.phase is Phase.ANSWER, len(self._inner.output_text)
            self._inner.update([token_id], stop_terminated and number == len(new_token_ids))
            self._forcer.observe(token_id)
            if not answering or self.num_output_tokens() <= self._inner.min_tokens:
                self._from = None
                continue
            self._from = length if self._from is None else self._from
            if (found := self._search(self._from)) is not None:
                return found
        return None

    def _search(self, begin: int) -> str | None:
        text: str = self._inner.output_text
        first = len(text) - len(text[begin:].lstrip())
        # The one that is complete first; of those the one that was given first.
        ends: list[tuple[int, str]] = [
            (at + len(stop), stop) for stop in self._stop if (at := text.find(stop, first)) >= 0
        ]
        if not ends:
            return None
        end, stop = min(ends, key=lambda match: match[0])
        self._inner.output_text = text[: end if self._inner.include_stop_str_in_output else end - len(stop)]
        return stop


def follow(detokenizer: IncrementalDetokenizer, request: EngineCoreRequest, context: int) -> IncrementalDetokenizer:
    """The detokenizer for a request: vLLM's own, or one whose stop strings act on the answer.

    Args:
        detokenizer: vLLM's.
        request: as it goes to the engine.
        context: tokens that prompt and response may have together.
    """
    params: SamplingParams = request.sampling_params
    plan_json = (params.extra_args or {}).get(EXTRA_ARG)
    if plan_json is None or not params.stop or not isinstance(detokenizer, BaseIncrementalDetokenizer):
        return detokenizer
    plan = ForcingPlan.from_json(plan_json)
    if plan.stop_in_thinking:
        return detokenizer
    prompt_ids = list(request.prompt_token_ids or ())
    left = context - len(prompt_ids)
    room = left if params.max_tokens is None else min(left, int(params.max_tokens))
    stop_ids = tuple(params.all_stop_token_ids)
    return AnswerStops(detokenizer, BudgetForcer(plan, prompt_ids, room=room, stop_ids=stop_ids, from_ids=True))


def install(context: int) -> None:
    """Let stop strings act on the answer only, for the engine that this process asks.

    Args:
        context: tokens that prompt and response may have together.

    Raises:
        InputError: this vLLM makes its detokenizers in another way.
    """
    if getattr(output_processor, "IncrementalDetokenizer", None) not in (IncrementalDetokenizer, _Detokenizers):
        raise InputError("vllm: this version detokenizes in another way, so stop strings cannot act on the answer only")
    _Detokenizers.context = context
    output_processor.IncrementalDetokenizer = _Detokenizers


class _Detokenizers:
    """Stands where vLLM looks for its detokenizers."""

    context: int

    @classmethod
    def from_new_request(cls, tokenizer: Any, request: EngineCoreRequest) -> IncrementalDetokenizer:
        """The detokenizer of one request."""
        return follow(IncrementalDetokenizer.from_new_request(tokenizer, request), request, cls.context)
