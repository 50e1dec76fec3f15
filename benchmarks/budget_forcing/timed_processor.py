"""The budget-forcing processor with a clock in it, and how the engine's worker is asked for the reading.

Imported by the engine's worker.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from s1ray.thinking.vllm.processor import BudgetForcingProcessor

if TYPE_CHECKING:
    import torch
    from vllm.v1.sample.logits_processor import BatchUpdate


class TimedBudgetForcing(BudgetForcingProcessor):
    """Counts the seconds that it takes."""

    seconds = 0.0

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the batch."""
        begin = time.perf_counter()
        super().update_state(batch_update)
        self.seconds += time.perf_counter() - begin

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Edit the logits."""
        begin = time.perf_counter()
        edited = super().apply(logits)
        self.seconds += time.perf_counter() - begin
        return edited


class ControllerClock:
    """Mixed into vLLM's worker."""

    model_runner: Any

    def controller_seconds(self) -> float:
        """Seconds in the processor since the engine's start."""
        processors = self.model_runner.input_batch.logitsprocs.all
        return sum(processor.seconds for processor in processors if isinstance(processor, TimedBudgetForcing))
