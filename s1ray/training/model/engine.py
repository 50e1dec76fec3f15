"""The model inside a DeepSpeed engine: which ZeRO config, which optimizer, and one optimizer step.

DeepSpeed averages gradients over workers and, if told of accumulation, over micro-batches. Neither is the mean that we
want, the one over the trained tokens of the whole global batch, so each micro-batch's summed loss is divided by that
number and multiplied by the number of workers, and accumulation is ours: `set_gradient_accumulation_boundary` on the
last one.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from s1ray.training.config import TrainingConfig
from s1ray.training.data.collate import Dataset, collate
from s1ray.training.model.loss import LossModel


def barrier() -> None:
    """Wait for all workers, where there are several."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def resolve_precision(config: TrainingConfig, device: torch.device) -> TrainingConfig:
    """The config with `precision: auto` decided, alike on all workers; each must call it."""
    if config.precision != "auto":
        return config
    native = torch.tensor(int(device.type != "cpu" or _native_bf16()), device=device)
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(native, op=torch.distributed.ReduceOp.MIN)
    return config.model_copy(update={"precision": "bf16" if native.item() else "fp32"})


def _native_bf16() -> bool:
    """Whether this CPU has instructions for products of bf16 (AVX-512 BF16, AMX, or Arm's)."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def deepspeed_config(config: TrainingConfig, *, on_gpu: bool) -> dict[str, Any]:
    """DeepSpeed's config for a run."""
    offload = config.offload
    resolved: dict[str, Any] = {
        # Global batch and accumulation are not DeepSpeed's business here (see above).
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0 if _plain(config) else config.optimizer.gradient_clip,
        "zero_allow_untested_optimizer": True,
        # torch's fused AdamW updates offloaded states no slower than DeepSpeed's own, which has to be compiled first.
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {
            "stage": config.zero_stage,
            "overlap_comm": on_gpu,
            "contiguous_gradients": on_gpu,
        },
        "steps_per_print": 2**31 - 1,
    }
    zero = resolved["zero_optimization"]
    if offload.optimizer != "none":
        zero["offload_optimizer"] = {"device": offload.optimizer, "pin_memory": on_gpu}
    if offload.parameters != "none":
        zero["offload_param"] = {"device": offload.parameters, "pin_memory": on_gpu}
    if config.precision == "bf16":
        resolved["bf16"] = {"enabled": True}
        if config.zero_stage > 0:
            resolved["data_types"] = {"grad_accum_dtype": "fp32"}
    return resolved


def _plain(config: TrainingConfig) -> bool:
    """Whether DeepSpeed leaves the optimizer unwrapped, and does not tell the gradient norm that it clips by."""
    return config.zero_stage == 0 and config.precision == "fp32"


class Engine:
    """A DeepSpeed engine and what a training step needs of it.

    Attributes:
        adapter: peft's model around `model`, if LoRA updates are what is trained.
        row_group: which of the groups that take different rows this worker belongs to (its rank unless rows are
            shared): its micro-batches are `lay_out(...)[row_group]`.
    """

    adapter: Any = None

    def __init__(
        self,
        model: LossModel,
        config: TrainingConfig,
        *,
        device: torch.device,
        world_size: int,
        rank: int,
        flash: bool = False,
    ):
        deepspeed = import_deepspeed(device)
        on_gpu = device.type != "cpu"
        self._config = config
        self._world_size = world_size
        self._flash = flash
        self.row_group, self._place_in_group = divmod(rank, config.sequence_parallel)
        optimizer = torch.optim.AdamW(
            _parameter_groups(model, config.optimizer.weight_decay),
            lr=config.optimizer.learning_rate,
            betas=config.optimizer.betas,
            eps=config.optimizer.eps,
            fused=True,
        )
        self._refused: Callable[[], bool] | None = None
        self._guard(optimizer)
        self.deepspeed, *_ = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            config=deepspeed_config(config, on_gpu=on_gpu),
            dist_init_required=False if deepspeed.comm.is_initialized() else None,
        )

    @property
    def device(self) -> torch.device:
        """Where the micro-batches go."""
        return torch.device(self.deepspeed.device)

    @property
    def model(self) -> Any:
        """The transformers model; under ZeRO-3 its parameters are in pieces."""
        return self.deepspeed.module.model

    def inputs(self, dataset: Dataset, batch: Sequence[int]) -> dict[str, Any]:
        """What this worker puts in for a micro-batch: indices of examples, perhaps none."""
        return collate(
            dataset,
            batch,
            packing=self._config.packing,
            flash=self._flash,
            device=self.device,
            part=(self._place_in_group, self._config.sequence_parallel),
        )

    def accumulate(self, micro_batches: Sequence[dict[str, Any]], trained_tokens: int) -> torch.Tensor:
        """Forward and backward over a worker's micro-batches of one global batch.

        Args:
            micro_batches: inputs of `LossModel` (see `inputs`).
            trained_tokens: of the whole global batch, over all workers.

        Returns:
            This worker's part of the mean loss (fp32 scalar): summed over the workers it is the loss of the step.
        """
        share = torch.zeros((), dtype=torch.float32, device=self.device)
        for number, inputs in enumerate(micro_batches):
            self.deepspeed.set_gradient_accumulation_boundary(number == len(micro_batches) - 1)
            loss = self.deepspeed(**inputs) / trained_tokens
            self.deepspeed.backward(loss * self._world_size)
            share += loss.detach()
        return share

    def step(self, learning_rate: float, refuse: Callable[[float], bool] | None = None) -> float:
        """Clip and apply the accumulated gradients.

        Args:
            refuse: given the norm, whether to leave the update out (the gradients are then dropped); all workers must
                say the same. Gradients that are no finite numbers are left out in any case.

        Returns:
            The gradients' global norm before clipping; infinite or negative if they are no finite numbers.
        """
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = learning_rate
        norm = None
        if _plain(self._config):
            clip = self._config.optimizer.gradient_clip or float("inf")
            norm = float(torch.nn.utils.clip_grad_norm_(self.deepspeed.module.parameters(), clip))
        self._refused = lambda: self._refuses(refuse, norm)
        self.deepspeed.step()
        self._refused = None
        return norm if norm is not None else float(self.deepspeed.get_global_grad_norm() or 0.0)

    def _refuses(self, refuse: Callable[[float], bool] | None, norm: float | None) -> bool:
        # DeepSpeed's optimizers know the norm before they update anything.
        norm = float(self.deepspeed.optimizer._global_grad_norm) if norm is None else norm
        return not (0 <= norm < float("inf")) or (refuse is not None and refuse(norm))

    def _guard(self, optimizer: torch.optim.Optimizer) -> None:
        """Let `step` have a say between DeepSpeed's gradient norm and the update.

        DeepSpeed's optimizers clip, update and clear in one call, each in its own way; what they have in common is that
        the update itself is a call to this optimizer, and that without one nothing has changed but the gradients.
        """
        update = optimizer.step

        def guarded(closure: Any = None) -> Any:
            if self._refused is not None and self._refused():
                return None
            return update(closure)

        optimizer.step = guarded


def _parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    trainable = [p for p in model.parameters() if p.requires_grad]
    # Under ZeRO-3 a parameter is already in pieces, and remembers its shape.
    matrices = {id(p) for p in trainable if len(getattr(p, "ds_shape", p.shape)) > 1}
    groups = [
        {"params": [p for p in trainable if id(p) in matrices], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) not in matrices], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def import_deepspeed(device: torch.device) -> Any:
    """DeepSpeed for this device, quiet; it decides on the device when it is first imported."""
    if device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed

    deepspeed.utils.logger.setLevel(logging.WARNING)
    # DeepSpeed's calls, not ours: nothing that a user could mend.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    if device.type == "cpu":
        # On CPU DeepSpeed would compile a shared-memory kernel at the first start (a minute or two, and a C++ compiler)
        # that serves inference only. Its table of usable kernels is probed once and may be edited: none are.
        import deepspeed.ops
        from deepspeed.ops.op_builder.all_ops import ALL_OPS

        deepspeed.ops.__compatible_ops__ = dict.fromkeys([*ALL_OPS, "deepspeed_not_implemented"], False)
    return deepspeed
