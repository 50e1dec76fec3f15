"""One optimizer step, and one validation pass: what all workers do together.

For each step every worker derives from the seed which examples the step has and which of them are its own (`batching`),
accumulates its share of the gradient, agrees with the others on the loss, and lets DeepSpeed update the weights, unless
the step has diverged.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Sequence

import torch

from s1ray.training.config import TrainingConfig
from s1ray.training.data.batching import Layout, busy_share, global_batch, lay_out, padding
from s1ray.training.data.collate import Dataset, ModelInputs
from s1ray.training.data.schedule import learning_rate, steps_per_epoch
from s1ray.training.model.engine import Engine
from s1ray.training.monitoring.divergence import DivergenceMonitor
from s1ray.training.monitoring.metrics import StepMetrics
from s1ray.training.planning.architecture import row_cost
from s1ray.training.planning.gpus import peak_flops
from s1ray.training.planning.mfu import model_flops


@dataclasses.dataclass(frozen=True)
class StepResult:
    """The outcome of a step."""

    metrics: StepMetrics
    problem: str | None
    """Why the update was skipped; None: it was applied."""
    signal: int
    """The first worker's signal (see `interruption`)."""


class Stepper:
    """Performs the steps of a run.

    Attributes:
        total: optimizer steps of the whole run.
    """

    def __init__(
        self, engine: Engine, dataset: Dataset, config: TrainingConfig, monitor: DivergenceMonitor, *, world_size: int
    ):
        self._engine = engine
        self._dataset = dataset
        self._config = config
        self._monitor = monitor
        self._world_size = world_size
        self._flops = model_flops(engine.model)
        self._cost = row_cost(engine.model.config)
        self._peak = _device_peak(engine.device, config)
        self._per_epoch = steps_per_epoch(len(dataset), config.global_batch)
        self.total = self._per_epoch * config.epochs

    def step(self, step: int, signal: int) -> StepResult:
        """Perform a step, counted from 0.

        Args:
            signal: this worker's signal to the others; only the first worker's may be other than 0.
        """
        started = time.perf_counter()
        dataset, config = self._dataset, self._config
        indices = global_batch(step, len(dataset), config.global_batch, config.seed)
        layout = self._lay_out(dataset, indices)
        trained_tokens = sum(dataset.trained[index] for index in indices)
        share = self._engine.accumulate(self._own_inputs(dataset, layout), trained_tokens)
        agreed = torch.stack([share, share.new_tensor(float(signal))])
        _sum_over_workers(agreed)
        loss, signal = float(agreed[0]), int(agreed[1])
        rate = learning_rate(step, self.total, config.optimizer)
        problem = self._monitor.check_loss(loss)
        norm = self._engine.step(rate, lambda norm: (problem or self._monitor.check_norm(norm)) is not None)
        problem = problem or self._monitor.check_norm(norm)
        if problem is None:
            self._monitor.accept(loss, norm)
        else:
            self._monitor.skipped += 1
        seconds = time.perf_counter() - started
        lengths = [dataset.lengths[index] for index in indices]
        metrics: StepMetrics = {
            "step": step + 1,
            "epoch": step // self._per_epoch + 1,
            "loss": loss,
            "grad_norm": norm,
            "learning_rate": rate,
            "tokens": sum(lengths),
            "trained_tokens": trained_tokens,
            "padding": round(padding(layout, dataset.lengths, config.packing), 4),
            "busy": round(busy_share([layout], dataset.lengths, config.packing, self._cost), 4),
            "seconds": round(seconds, 4),
            "tokens_per_second": round(sum(lengths) / seconds, 1),
            "memory_gib": round(_peak_memory(self._engine.device) / 2**30, 2),
            "workers": self._world_size,
        }
        if self._flops is not None and self._peak is not None:
            used = self._flops.of_step(lengths, trained_tokens) / seconds
            metrics["mfu"] = round(used / (self._peak * self._world_size), 4)
        if problem is not None:
            metrics["skipped"] = problem
            metrics["rows"] = [dataset.ids[index] for index in indices]
        return StepResult(metrics, problem, signal)

    def validate(self, held_out: Dataset) -> float:
        """Mean loss over the trained tokens of the held-out traces; every worker must call it."""
        layout = self._lay_out(held_out, range(len(held_out)))
        total = self._engine.evaluate(self._own_inputs(held_out, layout))
        _sum_over_workers(total)
        return float(total) / sum(held_out.trained)

    def _lay_out(self, dataset: Dataset, indices: Sequence[int]) -> Layout:
        return lay_out(
            dataset.lengths,
            indices,
            num_workers=self._config.data_parallel,
            micro_batch_tokens=self._config.micro_batch,
            packing=self._config.packing,
            cost=self._cost,
        )

    def _own_inputs(self, dataset: Dataset, layout: Layout) -> list[ModelInputs]:
        return [self._engine.inputs(dataset, batch) for batch in layout[self._engine.row_group]]


def _sum_over_workers(tensor: torch.Tensor) -> None:
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(tensor)


def _device_peak(device: torch.device, config: TrainingConfig) -> float | None:
    """Operations per second that MFU is measured against; known peaks are for bf16, so fp32 has none."""
    if config.tracking.peak_tflops is not None:
        return config.tracking.peak_tflops * 1e12
    if device.type != "cuda" or config.precision != "bf16":
        return None
    return peak_flops(torch.cuda.get_device_name(device))


def _peak_memory(device: torch.device) -> int:
    """Peak memory of this process so far, in bytes: allocated on its GPU, or resident on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
