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

All that is the V1 model runner's interface. Model Runner V2 (the default of vLLM 0.32 and later where Triton runs)
takes another one and refuses classes that have only the first, so this class has both, and the arguments of its
constructor say which runner made it. There the sampled ids stay on the device, and so does the forcing
(`device_forcer.py`), with the same outcome. Three things differ. Penalties and bad words come before the processor, so
they are within what the replacement is exact for. Requests without a seed draw the attribution of ambiguous waits from
other numbers than on V1. And a banned text has at most `MAX_BANNED_IDS` ids where V2 exists.

Neither runner is followed through speculative decoding: the constructor refuses it.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from vllm.utils.gpu_sync_debug import gpu_sync_allowed
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from s1ray.thinking.actions import RowAction
from s1ray.thinking.forcer import BudgetForcer
from s1ray.thinking.plan import EXTRA_ARG, ForcingPlan
from s1ray.thinking.vllm.logit_edits import LogitEdits, RowEdit, Shares
from s1ray.thinking.vllm.v2.forcer import DeviceForcer
from s1ray.thinking.vllm.v2.state import DeviceRequest

try:
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as DeviceLogitsProcessor

    HAS_MODEL_RUNNER_V2 = True
except ImportError:
    HAS_MODEL_RUNNER_V2 = False

    class DeviceLogitsProcessor:  # type: ignore[no-redef]
        """Stands for Model Runner V2's interface, which this vLLM does not have yet."""


if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

logger = logging.getLogger(__name__)

GREEDY_BELOW = 1e-5
"""vLLM samples greedily below this temperature."""

MAX_REPETITION_PENALTY = 1e4
"""vLLM divides by it what budget forcing has made certain."""

MAX_BANNED_IDS = 64
"""Ids of a banned text on Model Runner V2, which compares every banned text with the last ids in each step."""

_SUSPENDED = "_s1ray_rows"
"""Attribute of a SamplingParams object under which its rows are found again after a preemption."""


@dataclass(eq=False)
class _Row:
    """One request in the batch."""

    forcer: BudgetForcer
    prompt_ids: Sequence[int]
    output_ids: Sequence[int]
    """vLLM's live list."""
    temperature: float
    active: bool = True
    """In the batch; False after a preemption, and for good after the end."""
    shares: Shares | None = None
    """Shares of the last step that this row took part in, and the row's place in them."""
    place: int = 0

    def advance(self) -> None:
        """Observe what was appended to the output since the last step."""
        output, forcer = self.output_ids, self.forcer
        position, length = forcer.position, len(output)
        if length < position:
            # The engine threw tokens away (a failed KV load): go back to what is left.
            self.forcer = forcer.rewound(self.prompt_ids, output)
            return
        for at in range(position, length):
            token_id = output[at]
            if token_id < 0 or forcer.done:
                return
            share, action = None, forcer.action
            if action is not None and action.wants_share and length == position + 1 and self.shares is not None:
                # Asking waits for the device, so only where the answer matters.
                share = self.shares[self.place] if action.move_to in (None, token_id) else 0.0
            forcer.observe(token_id, share)


class BudgetForcingProcessor(LogitsProcessor, DeviceLogitsProcessor):
    """Applies each request's `BudgetForcer` to its row of the batch.

    Made by the V1 model runner as `(vllm_config, device, is_pin_memory)`, by Model Runner V2 as
    `(vllm_config, req_states)`.

    Raises:
        ValueError: the engine decodes speculatively.
    """

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse, in the frontend, what the worker could not do.

        Raises:
            ValueError: the plan is malformed or contradicts another sampling parameter; becomes an HTTP 400.
        """
        text = (sampling_params.extra_args or {}).get(EXTRA_ARG)
        if text is None:
            return
        plan = ForcingPlan.from_json(text)
        clash = sorted(plan.written.intersection(sampling_params.stop_token_ids or ()))
        if clash:
            raise ValueError(
                f"stop_token_ids: {clash} are part of the text that budget forcing writes, so the response would stop "
                "in the middle of it; leave them out"
            )
        if sampling_params.repetition_penalty > MAX_REPETITION_PENALTY:
            raise ValueError(
                f"repetition_penalty: at most {MAX_REPETITION_PENALTY:g} with a thinking budget, whose forced tokens "
                "a larger one would push aside"
            )
        if sampling_params.thinking_token_budget is not None:
            raise ValueError("thinking_token_budget: a forcing plan sets the budget already; give one of the two")
        if sampling_params.structured_outputs is not None and not plan.ends_with_delimiter:
            raise ValueError(
                "structured_outputs: the forcing plan writes into the answer, which the grammar would refuse; make the "
                "plan with bare_end=True"
            )

        if HAS_MODEL_RUNNER_V2 and max(map(len, plan.ban), default=0) > MAX_BANNED_IDS:
            raise ValueError(f"ban: a banned text has at most {MAX_BANNED_IDS} tokens on Model Runner V2; shorten it")

    def __init__(self, vllm_config: VllmConfig, *runner: Any) -> None:
        if getattr(vllm_config, "speculative_config", None) is not None:
            raise ValueError(
                "speculative_config: budget forcing decides token by token and cannot follow drafted tokens; start the "
                "engine without speculative decoding"
            )
        self._vocab_size = vllm_config.model_config.get_vocab_size()
        self._context = vllm_config.model_config.max_model_len
        self._rows: dict[int, _Row] = {}
        self._edits: LogitEdits | None = None
        self._edits_for: list[tuple[int, RowAction | None]] = []
        if len(runner) == 2:
            self._device, self._pin = runner
            return
        (self._slots,) = runner
        self._device = torch.device(self._slots.device)
        self._pin = self._device.type == "cuda"
        self._forcer = DeviceForcer(
            self._slots.max_num_reqs, self._vocab_size, self._slots.all_token_ids.gpu, self._array_to_device
        )

    def is_argmax_invariant(self) -> bool:
        """False: forcing changes what greedy sampling picks."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow requests into, out of and around the batch."""
        if batch_update is None:
            return
        self._edits = None
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

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """Model Runner V2: a request enters a slot. True where it is forced."""
        plan = self._plan(sampling_params)
        if plan is None:
            self._forcer.stage(req_idx, None)
            return False
        prompt_len = int(self._slots.prompt_len.np[req_idx])
        request = DeviceRequest(
            plan=plan,
            prompt_len=prompt_len,
            prefill_len=int(self._slots.prefill_len.np[req_idx]),
            room=self._room(sampling_params, prompt_len),
            temperature=_temperature(sampling_params),
            stop_ids=self._stop_ids(sampling_params),
            seed=sampling_params.seed,
        )
        self._forcer.stage(req_idx, request)
        return True

    def apply_staged_writes(self) -> None:
        """Model Runner V2: once a step, after the slots' ids have been written."""
        with gpu_sync_allowed():  # A request that resumes may need one; see device_forcer.py.
            replayed = self._forcer.flush()
        if replayed:
            logger.warning(
                "%d preempted requests came back after too many others: every Wait in them that may have been inserted "
                "counts as such",
                replayed,
            )

    def apply(self, logits: torch.Tensor, ctx: Any = None) -> torch.Tensor:
        """Edit the rows of requests that are being forced, in place.

        Args:
            logits: [requests, vocabulary], float32.
            ctx: Model Runner V2's `LogitsContext`. None: the V1 runner, where row i belongs to batch index i.
        """
        if ctx is not None:
            slots = np.asarray(ctx.idx_mapping_np)
            self._forcer.edit(logits, ctx.expanded_idx_mapping, slots, ctx.input_ids, ctx.pos)
            return logits
        if not self._rows:
            return logits
        actions: list[tuple[int, RowAction | None]] = []
        for index, row in self._rows.items():
            row.advance()
            actions.append((index, row.forcer.action))
        # Most steps change no request's action: then the index tensors are still right.
        if self._edits is None or actions != self._edits_for:
            edits = [
                RowEdit(index, row.forcer.action, row.temperature, row.forcer.plan.vocab_size)
                for index, row in self._rows.items()
            ]
            self._edits, self._edits_for = LogitEdits(edits, logits.shape[1], self._to_device), actions
        shares = self._edits.apply(logits)
        for place, index in enumerate(self._edits.watched):
            row = self._rows[index]
            row.shares, row.place = shares, place
        return logits

    def _drop(self, index: int) -> None:
        row = self._rows.pop(index, None)
        if row is not None:
            row.active = False

    def _admit(self, params: SamplingParams, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> _Row | None:
        plan = self._plan(params)
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
                room=self._room(params, len(prompt_ids)),
                stop_ids=self._stop_ids(params),
                seed=seed,
            ),
            prompt_ids=prompt_ids,
            output_ids=output_ids,
            temperature=_temperature(params),
        )
        setattr(params, _SUSPENDED, [*suspended, row])
        return row

    def _plan(self, params: SamplingParams) -> ForcingPlan | None:
        text = (params.extra_args or {}).get(EXTRA_ARG)
        if text is None:
            return None
        plan = ForcingPlan.from_json(text)
        if plan.vocab_size > self._vocab_size:
            logger.error(
                "request left unforced: its plan is for %d token ids, the model has %d; make plans with the model's "
                "own tokenizer",
                plan.vocab_size,
                self._vocab_size,
            )
            return None
        return plan

    def _stop_ids(self, params: SamplingParams) -> list[int]:
        """Those that there are: vLLM checks none, and one beyond the vocabulary would be written beyond the logits."""
        return sorted(i for i in params.all_stop_token_ids if 0 <= i < self._vocab_size)

    def _room(self, params: SamplingParams, prompt_len: int) -> int:
        left = self._context - prompt_len
        return left if params.max_tokens is None else min(left, params.max_tokens)

    def _to_device(self, values: list, dtype: torch.dtype) -> torch.Tensor:
        tensor = torch.tensor(values, dtype=dtype, pin_memory=self._pin)
        return tensor.to(self._device, non_blocking=True)

    def _array_to_device(self, values: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(values)
        return (tensor.pin_memory() if self._pin else tensor).to(self._device, non_blocking=True)


def _temperature(params: SamplingParams) -> float:
    return 0.0 if params.temperature < GREEDY_BELOW else params.temperature
