"""The training loop: what each Ray Train worker runs.

All workers go through the same steps (`steps`). Between them they measure the loss on held-out traces, write
checkpoints, and look whether they are to stop. The first worker writes the metrics, and at the end the model.

torch, transformers and deepspeed are imported inside: the driver passes this function by name and never loads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1ray.training.config import TrainingConfig
from s1ray.training.interruption import LOOK, NOTHING, STOP, Lookout, PreemptionNotice
from s1ray.training.monitoring.metrics import METRICS_FILE, MetricsFile

if TYPE_CHECKING:
    from s1ray.training.checkpoint.manager import Checkpointer, RunState
    from s1ray.training.data.collate import Dataset
    from s1ray.training.model.engine import Engine
    from s1ray.training.monitoring.divergence import DivergenceMonitor
    from s1ray.training.steps import Stepper, StepResult

EXAMPLES_FILE = "examples.parquet"
VALIDATION_FILE = "validation.parquet"
MODEL_FOLDER = "model"


def train_worker(settings: dict[str, Any], after_step: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Train, resuming from the newest checkpoint if there is one, and export the model.

    Args:
        settings: "config", the stage's config as a mapping; "model", the base model's folder or id; "output", the
            absolute run folder, which holds the examples.
        after_step: called with the number of finished steps after each of them.

    Returns:
        "outcome": complete, stopped (asked to) or diverged; "steps" that were finished; if complete, "loss" (of the
        last step), "precision" (as decided) and under validation "best_loss" and "exported_step"; if diverged,
        "message". An error that would only come again is returned, as Ray Train starts workers that raise one anew.
    """
    import ray.train
    import ray.train.torch
    import torch

    from s1ray.training.checkpoint.manager import Checkpointer, RunState
    from s1ray.training.data.collate import Dataset
    from s1ray.training.model.engine import resolve_precision
    from s1ray.training.model.loading import load_engine
    from s1ray.training.monitoring.divergence import DivergenceMonitor
    from s1ray.training.steps import Stepper

    config = TrainingConfig.model_validate(settings["config"])
    output = Path(settings["output"])
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(config.cpus_per_worker)
    torch.manual_seed(config.seed)
    dataset = Dataset.read(str(output / EXAMPLES_FILE))
    config = resolve_precision(config, device)
    engine = load_engine(config, settings["model"], device=device, rank=rank, world_size=world_size)
    checkpointer = Checkpointer(engine, config, output, rank=rank, world_size=world_size)
    state = checkpointer.restore() or RunState()
    monitor = DivergenceMonitor(config.divergence, losses=state.losses, norms=state.norms, skipped=state.skipped)
    run = _WorkerRun(
        config=config,
        stepper=Stepper(engine, dataset, config, monitor, world_size=world_size),
        monitor=monitor,
        checkpointer=checkpointer,
        state=state,
        held_out=Dataset.read(str(output / VALIDATION_FILE)) if config.validation is not None else None,
        lookout=Lookout(output) if rank == 0 else None,
        metrics_file=MetricsFile(output / METRICS_FILE, finished_steps=state.finished_steps) if rank == 0 else None,
    )
    result = run.go_on(after_step)
    if result["outcome"] == "complete":
        if (exported := run.exported_step) != run.total:
            checkpointer.wait()
            checkpointer.restore_step(exported)
        _export(engine, config, settings["model"], output / MODEL_FOLDER, rank)
    return result


class _WorkerRun:
    """The steps of a run on one worker, and what happens between them."""

    def __init__(
        self,
        *,
        config: TrainingConfig,
        stepper: Stepper,
        monitor: DivergenceMonitor,
        checkpointer: Checkpointer,
        state: RunState,
        held_out: Dataset | None,
        lookout: Lookout | None,
        metrics_file: MetricsFile | None,
    ):
        self.total = stepper.total
        self._config = config
        self._stepper = stepper
        self._monitor = monitor
        self._checkpointer = checkpointer
        self._state = state
        self._held_out = held_out
        self._lookout = lookout
        self._metrics_file = metrics_file
        self._preemption = PreemptionNotice()

    def go_on(self, after_step: Callable[[int], None] | None) -> dict[str, Any]:
        """Do the steps that are left; see `train_worker` for what it returns."""
        loss = None
        for step in range(self._state.finished_steps, self.total):
            result = self._stepper.step(step, NOTHING if self._lookout is None else self._lookout.signal())
            if result.problem is not None and (self._config.divergence.action == "stop" or self._monitor.exhausted):
                self._checkpointer.wait()
                return {"outcome": "diverged", "steps": step, "message": self._diagnosis(result)}
            loss = result.metrics["loss"]
            self._take_note(step + 1)
            validation_loss, is_best = self._validate(step + 1)
            if self._metrics_file is not None:
                measured = {} if validation_loss is None else {"validation_loss": validation_loss}
                self._metrics_file.write(result.metrics | measured)
            if step + 1 < self.total and (self._is_due(step + 1, result.signal) or is_best):
                self._checkpointer.save(self._state, validation_loss=validation_loss)
                if result.signal == STOP:
                    self._checkpointer.wait()
                    return {"outcome": "stopped", "steps": step + 1}
            if after_step is not None:
                after_step(step + 1)
        if self._metrics_file is not None:
            self._metrics_file.close()
        complete = {"outcome": "complete", "steps": self.total, "loss": loss, "precision": self._config.precision}
        if self._config.validation is None:
            return complete
        return complete | {"best_loss": self._state.best_loss, "exported_step": self.exported_step}

    @property
    def exported_step(self) -> int:
        """After how many steps the exported model was, once all are done."""
        settings, best = self._config.validation, self._state.best_step
        return best if settings is not None and settings.export == "best" and best is not None else self.total

    def _take_note(self, finished_steps: int) -> None:
        self._state.finished_steps = finished_steps
        self._state.losses = list(self._monitor.losses)
        self._state.norms = list(self._monitor.norms)
        self._state.skipped = self._monitor.skipped

    def _validate(self, finished_steps: int) -> tuple[float | None, bool]:
        """The validation loss if it is time for one, and whether it makes a checkpoint worth having."""
        settings, state = self._config.validation, self._state
        if settings is None or self._held_out is None:
            return None, False
        if finished_steps % settings.every and finished_steps != self.total:
            return None, False
        loss = self._stepper.validate(self._held_out)
        # Of two that are equal the later one, as Ray Train keeps that.
        is_best = math.isfinite(loss) and (state.best_loss is None or loss <= state.best_loss)
        if is_best:
            state.best_loss, state.best_step = loss, finished_steps
        return loss, is_best and settings.export == "best"

    def _is_due(self, finished_steps: int, signal: int) -> bool:
        """Whether a checkpoint is due; every worker must ask."""
        noticed = signal == LOOK and self._preemption.is_new()
        every = self._config.checkpoints.every
        return noticed or signal == STOP or (every is not None and finished_steps % every == 0)

    def _diagnosis(self, result: StepResult) -> str:
        rows = ", ".join(result.metrics["rows"])
        if self._config.divergence.action == "skip":
            allowed = self._config.divergence.max_skips
            what = f"more than the {allowed} steps of divergence.max_skips had to be left out; the last: "
            advice = "lower optimizer.learning_rate, or look at the rows"
        else:
            what = ""
            advice = "lower optimizer.learning_rate, look at its rows, or set divergence.action: skip"
        return f"{what}step {result.metrics['step']}: {result.problem}; {advice}: {rows}"


def _export(engine: Engine, config: TrainingConfig, model: str, folder: Path, rank: int) -> None:
    from transformers import AutoTokenizer

    from s1ray.training.data.examples import ChatRenderer
    from s1ray.training.model.export import export

    tokenizer = AutoTokenizer.from_pretrained(model)
    renderer = ChatRenderer(tokenizer, config.thinking_format)
    export(engine, tokenizer, renderer.turn_end, config, folder, rank=rank)
