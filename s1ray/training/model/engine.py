"""The model inside a DeepSpeed engine: which ZeRO config, which optimizer, and one optimizer step.

DeepSpeed averages gradients over workers and, if it does the accumulation, over micro-batches. Neither is the mean that
training needs, which is over the trained tokens of the whole global batch. So each micro-batch's summed loss is divided
by that number of tokens and multiplied by the number of workers, and this module does the accumulation, with
`set_gradient_accumulation_boundary` on the last micro-batch.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from pydantic import JsonValue

from s1ray.training.config import TrainingConfig
from s1ray.training.data.collate import Dataset, ModelInputs, collate
from s1ray.training.model.loss import LossModel

if TYPE_CHECKING:
    from types import ModuleType

    from peft import PeftModel
    from transformers import PreTrainedModel


def barrier() -> None:
    """Wait for all workers; returns at once where there is no process group."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def resolve_precision(config: TrainingConfig, device: torch.device) -> TrainingConfig:
    """The config with `precision: auto` decided, the same on all workers; every worker must call it."""
    if config.precision != "auto":
        return config
    native = torch.tensor(int(device.type != "cpu" or _native_bf16()), device=device)
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(native, op=torch.distributed.ReduceOp.MIN)
    return config.model_copy(update={"precision": "bf16" if native.item() else "fp32"})


def _native_bf16() -> bool:
    """Whether this CPU multiplies bf16 natively (AVX-512 BF16, AMX, or Arm's)."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def deepspeed_config(config: TrainingConfig, *, on_gpu: bool) -> dict[str, JsonValue]:
    """DeepSpeed's config for a run."""
    offload = config.offload
    zero: dict[str, JsonValue] = {
        "stage": config.zero_stage,
        "overlap_comm": on_gpu,
        "contiguous_gradients": on_gpu,
    }
    if offload.optimizer != "none":
        zero["offload_optimizer"] = {"device": offload.optimizer, "pin_memory": on_gpu}
    if offload.parameters != "none":
        zero["offload_param"] = {"device": offload.parameters, "pin_memory": on_gpu}
    resolved: dict[str, JsonValue] = {
        # DeepSpeed takes no part in global batch and accumulation (see the module's docstring).
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0 if _plain(config) else config.optimizer.gradient_clip,
        "zero_allow_untested_optimizer": True,
        # torch's fused AdamW updates offloaded states as fast as DeepSpeed's own, which would have to be compiled.
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": zero,
        "steps_per_print": 2**31 - 1,
    }
    if config.precision == "bf16":
        resolved["bf16"] = {"enabled": True}
        if config.zero_stage > 0:
            resolved["data_types"] = {"grad_accum_dtype": "fp32"}
    return resolved


def _plain(config: TrainingConfig) -> bool:
    """Whether DeepSpeed leaves the optimizer unwrapped; it then does not report the gradient norm that it clips by."""
    return config.zero_stage == 0 and config.precision == "fp32"


class Engine:
    """A DeepSpeed engine and what a training step needs of it.

    Attributes:
        adapter: under LoRA, peft's model around `model`.
        row_group: the worker's index among the groups that take different rows (its rank, unless workers share rows):
            its micro-batches are `lay_out(...)[row_group]`.
    """

    def __init__(
        self,
        model: LossModel,
        config: TrainingConfig,
        *,
        device: torch.device,
        world_size: int,
        rank: int,
        flash: bool = False,
        adapter: PeftModel | None = None,
    ):
        deepspeed = import_deepspeed(device)
        on_gpu = device.type != "cpu"
        self.adapter = adapter
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
        self._skips_update: Callable[[], bool] | None = None
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
    def model(self) -> PreTrainedModel:
        """The transformers model; under ZeRO-3 each worker has a part of every parameter."""
        return self.deepspeed.module.model

    def inputs(self, dataset: Dataset, batch: Sequence[int]) -> ModelInputs:
        """The worker's inputs for a micro-batch: indices of examples, perhaps none."""
        return collate(
            dataset,
            batch,
            packing=self._config.packing,
            flash=self._flash,
            device=self.device,
            part=(self._place_in_group, self._config.sequence_parallel),
        )

    def accumulate(self, micro_batches: Sequence[ModelInputs], trained_tokens: int) -> torch.Tensor:
        """Forward and backward over a worker's micro-batches of one global batch.

        Args:
            micro_batches: from `inputs`; as many on every worker.
            trained_tokens: of the whole global batch, over all workers.

        Returns:
            This worker's part of the mean loss (fp32 scalar); its sum over the workers is the loss of the step.
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
            refuse: given the norm, whether to skip the update and drop the gradients; must return the same on all
                workers. Gradients that are not finite are dropped in any case.

        Returns:
            The gradients' global norm before clipping; infinite or negative if they are not finite.
        """
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = learning_rate
        norm = None
        if _plain(self._config):
            clip = self._config.optimizer.gradient_clip or float("inf")
            norm = float(torch.nn.utils.clip_grad_norm_(self.deepspeed.module.parameters(), clip))
        self._skips_update = lambda: self._refuses(refuse, norm)
        self.deepspeed.step()
        self._skips_update = None
        return norm if norm is not None else float(self.deepspeed.get_global_grad_norm() or 0.0)

    def evaluate(self, micro_batches: Sequence[ModelInputs]) -> torch.Tensor:
        """Sum the loss over a worker's micro-batches (fp32 scalar), without dropout.

        Every worker must call it, with as many micro-batches as the others.
        """
        total = torch.zeros((), dtype=torch.float32, device=self.device)
        self.deepspeed.eval()
        with torch.no_grad():
            for inputs in micro_batches:
                total += self.deepspeed(**inputs)
        self.deepspeed.train()
        return total

    def evaluate_plainly(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """An example's summed loss by transformers' own attention and loss (fp32 scalar); every worker must call it.

        Args:
            tokens: ids.
            labels: of the same length, as in `Dataset`.
        """
        used = self.model.config._attn_implementation
        self.model.set_attn_implementation("eager")
        try:
            row = {"input_ids": tokens[None].to(self.device), "labels": labels[None].to(self.device)}
            self.deepspeed.eval()
            with torch.no_grad():
                loss: torch.Tensor = self.deepspeed(**row, plain=True).float()
            self.deepspeed.train()
        finally:
            self.model.set_attn_implementation(used)
        return loss

    def _refuses(self, refuse: Callable[[float], bool] | None, norm: float | None) -> bool:
        # DeepSpeed's optimizers know the norm before they update anything.
        norm = float(self.deepspeed.optimizer._global_grad_norm) if norm is None else norm
        return not (0 <= norm < float("inf")) or (refuse is not None and refuse(norm))

    def _guard(self, optimizer: torch.optim.Optimizer) -> None:
        """Let `step` decide on the update once DeepSpeed knows the gradient norm.

        Each of DeepSpeed's optimizers clips, updates and clears in one call, in its own way. What they share is that
        the update itself is a call to this optimizer; without that call nothing but the gradients has changed.
        """
        update = optimizer.step

        def guarded(closure: Callable[[], float] | None = None) -> float | None:
            if self._skips_update is not None and self._skips_update():
                return None
            loss: float | None = update(closure)
            return loss

        optimizer.step = guarded


def _parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, object]]:
    trainable = [p for p in model.parameters() if p.requires_grad]
    # Under ZeRO-3 each parameter is already partitioned, and keeps its whole shape as `ds_shape`.
    matrices = {id(p) for p in trainable if len(getattr(p, "ds_shape", p.shape)) > 1}
    decayed = [p for p in trainable if id(p) in matrices]
    spared = [p for p in trainable if id(p) not in matrices]
    groups = [(decayed, weight_decay), (spared, 0.0)]
    return [{"params": parameters, "weight_decay": decay} for parameters, decay in groups if parameters]


def import_deepspeed(device: torch.device) -> ModuleType:
    """DeepSpeed for this device, without its log; it chooses the device when it is first imported."""
    if device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)  # For as long as the worker lives.
    # DeepSpeed causes them: a user can do nothing about them.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    if device.type == "cpu":
        # On CPUs DeepSpeed would at the first start compile a shared-memory kernel, which takes a C++ compiler and a
        # minute or two, and only inference uses it. Its table of compatible kernels is filled once: mark all as not.
        import deepspeed.ops
        from deepspeed.ops.op_builder.all_ops import ALL_OPS

        deepspeed.ops.__compatible_ops__ = dict.fromkeys([*ALL_OPS, "deepspeed_not_implemented"], False)
    module: ModuleType = deepspeed
    return module
