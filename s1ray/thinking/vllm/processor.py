"""Budget forcing inside vLLM: the forcer as one batch-level logits processor.

Loaded by its fully qualified name, never by an entry point (which sees placeholder ids under async scheduling):

    AsyncEngineArgs(..., logits_processors=[s1ray.thinking.plan.PROCESSOR])

Requests carry their plan in `SamplingParams.extra_args["s1ray"]` (see `plan.py`); rows without one are left alone.

What is exact. An attempt to stop is replaced in the same forward pass (see `logit_edits.py`), which gives the
distribution of "sample, then replace" under plain temperature sampling and the same token under greedy sampling. vLLM
applies penalties, min-p, top-k and top-p after this processor, so with those set the replacement happens before the
truncation, not after it: the triggers' probability then counts for the target when the tail is cut.

How it follows the ids. vLLM hands over a live list of each request's output ids. Under async scheduling its last id is
filled in only just before sampling, so the list is read in `apply`, never in `update_state`. Rows of partly prefilled
requests pass through `apply` too and their sample is thrown away, so a forcer advances only when the list has grown. A
preempted request comes back with the same `SamplingParams` object: its forcer waits there, because ids alone do not
tell an inserted "Wait" from the model's own.

This is the V1 model runner's interface, which vLLM 0.29 runs wherever a logits processor is configured. Model Runner V2
has another one: `v2/processor.py`. Speculative decoding is refused: drafted tokens cannot be followed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from s1ray.thinking.batch import BatchEditor, ForcedRow
from s1ray.thinking.forcer import BudgetForcer
from s1ray.thinking.vllm.eager import count_ranks_eagerly
from s1ray.thinking.vllm.requests import RequestReader, check_params

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

_SUSPENDED = "_s1ray_rows"
"""Attribute of a SamplingParams object under which its rows are found again after a preemption."""


@dataclass(eq=False, kw_only=True)
class _Row(ForcedRow):
    """One request in the batch."""

    prompt_ids: Sequence[int]
    output_ids: Sequence[int]
    """vLLM's live list."""
    active: bool = True
    """In the batch; False after a preemption, and for good after the end."""

    def advance(self) -> None:
        """Observe what was appended to the output since the last step."""
        output = self.output_ids
        position, length = self.forcer.position, len(output)
        if length < position:
            # The engine threw tokens away (a failed KV load): go back to what is left.
            self.forcer = self.forcer.rewound(self.prompt_ids, output)
            return
        for token_id in output[position:length]:
            if token_id < 0 or self.forcer.done:
                return
            self.observe(token_id, from_last_step=length == position + 1)


class BudgetForcingProcessor(LogitsProcessor):  # type: ignore[misc]  # vLLM's types are not followed
    """Applies each request's `BudgetForcer` to its row of the batch.

    Raises:
        InputError: the engine decodes speculatively.
    """

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse, in the frontend, what the worker could not do.

        Raises:
            InputError: the plan is malformed or contradicts another sampling parameter; vLLM's server answers 400.
        """
        check_params(sampling_params)

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        if device.type == "cpu":
            count_ranks_eagerly()
        self._reader = RequestReader(vllm_config)
        self._device, self._pin = device, is_pin_memory
        self._rows: dict[int, _Row] = {}
        self._editor = BatchEditor(self._to_device)

    def is_argmax_invariant(self) -> bool:
        """False: forcing changes what greedy sampling picks."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow requests into, out of and around the batch."""
        if batch_update is None:
            return
        self._editor.forget()
        for index in batch_update.removed:
            self._drop(index)
        for index, params, prompt_ids, output_ids in batch_update.added:
            self._drop(index)
            row = self._admit(params, prompt_ids or (), output_ids)
            if row is not None:
                self._rows[index] = row
        for source, target, direction in batch_update.moved:
            moved, displaced = self._rows.pop(source, None), self._rows.pop(target, None)
            if moved is not None:
                self._rows[target] = moved
            if displaced is not None:
                if direction is MoveDirectionality.SWAP:
                    self._rows[source] = displaced
                else:
                    displaced.active = False

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Edit the rows of forced requests in place.

        Args:
            logits: [requests, vocabulary], float32; row i belongs to batch index i.
        """
        if not self._rows:
            return logits
        for row in self._rows.values():
            row.advance()
        self._editor.edit(logits, self._rows)
        return logits

    def _drop(self, index: int) -> None:
        row = self._rows.pop(index, None)
        if row is not None:
            row.active = False

    def _admit(self, params: SamplingParams, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> _Row | None:
        plan = self._reader.plan(params)
        if plan is None:
            return None
        suspended: list[_Row] = getattr(params, _SUSPENDED, None) or []
        if output_ids:
            for row in suspended:
                known = row.forcer.position
                if (
                    not row.active
                    and row.prompt_ids == prompt_ids
                    and (row.output_ids is output_ids or row.output_ids[:known] == output_ids[:known])
                ):
                    row.active, row.output_ids = True, output_ids
                    return row
        seed = params.seed if params.seed is not None else zlib.crc32(str(list(prompt_ids[-64:])).encode())
        row = _Row(
            forcer=BudgetForcer(
                plan,
                prompt_ids,
                room=self._reader.room(params, len(prompt_ids)),
                stop_ids=self._reader.stop_ids(params),
                seed=seed,
            ),
            prompt_ids=prompt_ids,
            output_ids=output_ids,
            temperature=self._reader.temperature(params),
        )
        setattr(params, _SUSPENDED, [*suspended, row])
        return row

    def _to_device(self, values: Sequence[float], dtype: torch.dtype) -> torch.Tensor:
        tensor = torch.tensor(values, dtype=dtype, pin_memory=self._pin)
        return tensor.to(self._device, non_blocking=True)
