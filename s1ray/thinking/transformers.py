"""Budget forcing in Hugging Face transformers: the forcer as a logits processor for `model.generate`.

    forcing = BudgetForcingLogitsProcessor(
        tokenizer, budget=ThinkingBudget(max_tokens=256, waits=1), thinking_format="qwen3", max_new_tokens=1024
    )
    output = model.generate(**inputs, max_new_tokens=1024, do_sample=False, logits_processor=[forcing])
    completions = forcing.completions(output)

Each row of the batch has a forcer of its own; several samples of a prompt (`num_return_sequences`) and prompts
padded on the left are fine. A processor follows one call of `generate`: make another one for the next call.

What is exact. As in vLLM (`vllm/processor.py`): an attempt to stop is replaced in the same forward pass, with the
distribution of "sample, then replace" under plain temperature sampling, and the same token under greedy decoding.
`generate` applies penalties before this processor, so they are within what is exact, and top-k, top-p and min-p after
it, so that the replacement happens before the truncation.

What cannot be followed is refused where it can be seen: beam search and assisted decoding rewrite or drop ids that were
generated before, and sampling where greedy decoding was announced takes other ids than the best. It is seen at the
first step at which it makes a difference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from transformers import LogitsProcessor

from s1ray.errors import InputError
from s1ray.thinking.batch import BatchEditor, ForcedRow
from s1ray.thinking.budget import ThinkingBudget
from s1ray.thinking.completion import completion_from_ids
from s1ray.thinking.counts import Accounting
from s1ray.thinking.forcer import BudgetForcer
from s1ray.thinking.format import ThinkingFormat, Tokenizer, eos_ids_of
from s1ray.thinking.plan import make_plan

if TYPE_CHECKING:
    from s1ray.schemas import Completion


class GenerateOutput(Protocol):
    """What `generate` returns with `return_dict_in_generate=True`."""

    sequences: torch.Tensor


@dataclass(eq=False, kw_only=True)
class _Row(ForcedRow):
    """One sequence of the batch."""

    prompt_ids: list[int]
    output_ids: list[int]
    ended: bool = False


class BudgetForcingLogitsProcessor(LogitsProcessor):  # type: ignore[misc]  # transformers' types are not followed
    """Forces one budget on every row of one `generate` call.

    Args:
        tokenizer: the model's.
        budget: how long each row thinks.
        thinking_format: how the model writes its thinking; a name is a preset (s1, deepseek_r1, qwen3).
        max_new_tokens: the same number as `generate` gets, so that room is kept for the answer. None: not known; then
            nothing but the budget's own maximum cuts the thinking.
        temperature: the same number as `generate` samples with. 0: greedy decoding (`do_sample=False`).
        eos_token_ids: the ids at which `generate` ends a response. None: the tokenizer's EOS, and those of the
            generation_config.json in the folder that the tokenizer was loaded from.
        seed: varies the attribution of ambiguous waits (see `forcer.py`).

    Raises:
        InputError: the tokenizer cannot express the format, or the format the budget.
    """

    supports_continuous_batching = False
    """Rows come and go there."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        budget: ThinkingBudget,
        *,
        thinking_format: ThinkingFormat | str = "s1",
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        eos_token_ids: int | Iterable[int] | None = None,
        seed: int = 0,
    ) -> None:
        fmt = ThinkingFormat.preset(thinking_format) if isinstance(thinking_format, str) else thinking_format
        if eos_token_ids is None:
            eos_token_ids = eos_ids_of(str(getattr(tokenizer, "name_or_path", "")))
        eos = {eos_token_ids} if isinstance(eos_token_ids, int) else set(eos_token_ids)
        self._tokenized = fmt.resolve(tokenizer, eos)
        self._plan = make_plan(self._tokenized, budget)
        self._room, self._temperature, self._seed = max_new_tokens, temperature, seed
        self._pad: int | None = getattr(tokenizer, "pad_token_id", None)
        own = tokenizer.eos_token_id
        self._eos = frozenset(eos if own is None else {*eos, own})
        self._rows: dict[int, _Row] = {}
        self._editor: BatchEditor | None = None
        self._seen: torch.Tensor | None = None
        """[rows, tokens] the ids of the last step."""
        self._edited: torch.Tensor | None = None
        """[rows, vocabulary] the scores of the last step."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Observe the ids that came since the last step; give the scores edited.

        Args:
            input_ids: [rows, tokens], prompts included.
            scores: [rows, vocabulary], float32; left as they are.

        Raises:
            InputError: what `generate` does cannot be followed.
        """
        if self._seen is None:
            self._begin(input_ids, scores)
        else:
            self._follow(input_ids)
        edited = scores.clone()  # `output_logits=True` keeps these
        active = {index: row for index, row in self._rows.items() if not row.ended}
        if self._editor is not None and active:
            self._editor.edit(edited, active)
        self._seen, self._edited = input_ids, edited
        return edited

    def accounting(self, output: torch.Tensor | GenerateOutput) -> list[Accounting]:
        """What became of the budget in each row.

        Args:
            output: what `generate` returned.
        """
        self._finish(output)
        return [row.forcer.accounting() for row in self._rows.values()]

    def completions(self, output: torch.Tensor | GenerateOutput) -> list[Completion]:
        """Each row's thinking and answer, with its accounting; `id` is the row's number.

        Args:
            output: what `generate` returned.
        """
        self._finish(output)
        return [
            completion_from_ids(
                str(index),
                self._tokenized,
                self._plan,
                row.prompt_ids,
                row.output_ids,
                "stop" if row.output_ids and row.output_ids[-1] in self._eos else "length",
                swallowed=row.forcer.swallowed,
                room=self._room,
            )
            for index, row in self._rows.items()
        ]

    def _begin(self, input_ids: torch.Tensor, scores: torch.Tensor) -> None:
        if self._plan.vocab_size > scores.shape[1]:
            raise InputError(
                f"tokenizer: {self._tokenized.tokenizer_name!r} has {self._plan.vocab_size} token ids, the model only "
                f"{scores.shape[1]}; give the model's own tokenizer"
            )
        self._editor = BatchEditor(lambda values, dtype: torch.tensor(values, dtype=dtype, device=scores.device))
        for index, ids in enumerate(input_ids.tolist()):
            prompt_ids = self._without_padding(ids)
            forcer = BudgetForcer(self._plan, prompt_ids, room=self._room, seed=self._seed + index)
            self._rows[index] = _Row(forcer=forcer, temperature=self._temperature, prompt_ids=prompt_ids, output_ids=[])

    def _without_padding(self, ids: list[int]) -> list[int]:
        begin = next((i for i, token_id in enumerate(ids) if token_id != self._pad), len(ids))
        return ids[begin:]

    def _follow(self, input_ids: torch.Tensor) -> None:
        """Observe one more id of every row."""
        assert self._seen is not None
        assert self._edited is not None
        if input_ids.shape[1] != self._seen.shape[1] + 1 or not torch.equal(input_ids[:, :-1], self._seen):
            raise InputError(
                "the ids do not continue those of the last step: budget forcing cannot follow beam search or assisted "
                "decoding, and each call of generate needs a BudgetForcingLogitsProcessor of its own"
            )
        last = input_ids[:, -1:]
        below_best = (self._edited.gather(1, last).squeeze(1) < self._edited.amax(1)).tolist()
        for index, (token_id, sampled) in enumerate(zip(last.squeeze(1).tolist(), below_best, strict=True)):
            row = self._rows[index]
            # `generate` pads rows that have ended, by an EOS or by a stopping criterion of the caller, with the
            # tokenizer's padding or an EOS.
            ends = token_id in self._eos
            row.ended = row.ended or (token_id == self._pad and not ends)
            if row.ended:
                continue
            if sampled and not ends and self._temperature == 0:
                raise InputError(
                    "temperature: generate took another id than the best one, but the processor was made for greedy "
                    "decoding; pass do_sample=False, or give the processor the temperature (beam search is not "
                    "supported)"
                )
            row.observe(token_id)
            row.output_ids.append(token_id)
            row.ended = ends

    def _finish(self, output: torch.Tensor | GenerateOutput) -> None:
        """Observe the last ids, which `generate` shows to no processor."""
        sequences = output if isinstance(output, torch.Tensor) else output.sequences
        if self._seen is None:
            raise InputError("no call of generate has used this BudgetForcingLogitsProcessor")
        # On some devices `generate` takes one step too many and cuts it off.
        if not torch.equal(sequences, self._seen[:, : sequences.shape[1]]):
            self._follow(sequences)
            self._seen = sequences
