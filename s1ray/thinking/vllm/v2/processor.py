"""Budget forcing inside vLLM's Model Runner V2: the device forcer behind the runner's logits-processor interface.

    AsyncEngineArgs(..., logits_processors=["s1ray.thinking.vllm.v2.processor:BudgetForcingProcessor"])

Model Runner V2 is the default of vLLM 0.32 and later where Triton runs, and refuses V1's processors. There the sampled
ids stay on the device, and so does the forcing (`v2/forcer.py`), with the same outcome as on V1 but for five things.
Penalties and bad words come before the processor, so they are within what the replacement is exact for. Requests
without a seed draw the attribution of ambiguous waits from other numbers. A banned text has at most
`MAX_BANNED_IDS` ids. A model does not think again in its answer (`reopen`). And no schedule writes waits.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from vllm.utils.gpu_sync_debug import gpu_sync_allowed

from s1ray.errors import InputError
from s1ray.thinking.vllm.requests import RequestReader, check_params
from s1ray.thinking.vllm.v2.forcer import DeviceForcer
from s1ray.thinking.vllm.v2.state import DeviceRequest

try:
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor
except ImportError:  # vLLM 0.29: only the tests make a processor there

    class LogitsProcessor:  # type: ignore[no-redef]  # stands for the interface that this vLLM does not have
        """Stands for Model Runner V2's interface."""


if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

logger = logging.getLogger(__name__)

MAX_BANNED_IDS = 64
"""Ids of a banned text: the device compares every banned text with the last ids in each step."""


class HostArray(Protocol):
    """A tensor of the runner that the host reads."""

    np: np.ndarray


class DeviceArray(Protocol):
    """A tensor of the runner on the device."""

    gpu: torch.Tensor


class RequestStates(Protocol):
    """What is used of the runner's `LogitsProcRequestState`."""

    device: torch.device
    max_num_reqs: int
    all_token_ids: DeviceArray
    """[slots, longest sequence]"""
    prompt_len: HostArray
    prefill_len: HostArray


class LogitsContext(Protocol):
    """What is used of the runner's description of a step's rows."""

    idx_mapping_np: np.ndarray
    """The slots of the step, in any order."""
    expanded_idx_mapping: torch.Tensor
    """[rows] slot of each row."""
    input_ids: torch.Tensor
    """[rows] the token that the row feeds to the model."""
    pos: torch.Tensor
    """[rows] its position in the sequence."""


class BudgetForcingProcessor(LogitsProcessor):  # type: ignore[misc]  # vLLM's types are not followed
    """Applies each request's plan to its row of the batch.

    Raises:
        InputError: the engine decodes speculatively.
    """

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse, in the frontend, what the worker could not do.

        Raises:
            InputError: the plan is malformed or contradicts another sampling parameter; vLLM's server answers 400.
        """
        plan = check_params(sampling_params)
        if plan is None:
            return
        if plan.reopen:
            raise InputError(
                'reopen: thinking again in the answer is not on Model Runner V2; make the plan with "forbid"'
            )
        if plan.schedule is not None:
            raise InputError("schedule: waits by a schedule are not on Model Runner V2; leave the schedule out")
        for name in ("ban", "end_spellings", "answer_ban"):
            if max(map(len, getattr(plan, name)), default=0) > MAX_BANNED_IDS:
                raise InputError(
                    f"{name}: a banned text has at most {MAX_BANNED_IDS} tokens on Model Runner V2; shorten it"
                )

    def __init__(self, vllm_config: VllmConfig, req_states: RequestStates) -> None:
        self._reader = RequestReader(vllm_config)
        self._states = req_states
        self._device = torch.device(req_states.device)
        self._forcer = DeviceForcer(
            req_states.max_num_reqs, self._reader.vocab_size, req_states.all_token_ids.gpu, self._to_device
        )

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """A request enters a slot. True where it is forced."""
        plan = self._reader.plan(sampling_params)
        if plan is None:
            self._forcer.stage(req_idx, None)
            return False
        prompt_len = int(self._states.prompt_len.np[req_idx])
        request = DeviceRequest(
            plan=plan,
            prompt_len=prompt_len,
            prefill_len=int(self._states.prefill_len.np[req_idx]),
            room=self._reader.room(sampling_params, prompt_len),
            temperature=self._reader.temperature(sampling_params),
            stop_ids=self._reader.stop_ids(sampling_params),
            seed=sampling_params.seed,
        )
        self._forcer.stage(req_idx, request)
        return True

    def apply_staged_writes(self) -> None:
        """Once a step, after the slots' ids have been written."""
        with gpu_sync_allowed():  # A request that resumes may need one; see v2/forcer.py.
            replayed = self._forcer.flush()
        if replayed:
            logger.warning(
                "%d preempted requests came back after too many others: every Wait in them that may have been inserted "
                "counts as such",
                replayed,
            )

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        """Edit the rows of forced requests in place.

        Args:
            logits: [rows, vocabulary], float32.
            ctx: which request each row belongs to, and where it is.
        """
        slots = np.asarray(ctx.idx_mapping_np)
        self._forcer.edit(logits, ctx.expanded_idx_mapping, slots, ctx.input_ids, ctx.pos)
        return logits

    def _to_device(self, values: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(values)
        pinned = tensor.pin_memory() if self._device.type == "cuda" else tensor
        return pinned.to(self._device, non_blocking=True)
