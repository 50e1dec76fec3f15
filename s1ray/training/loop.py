"""The training loop: what each Ray Train worker runs.

All workers perform the same steps (`steps`). Between steps they measure the loss on held-out traces, write checkpoints,
and check whether to stop. The last step is always followed by a checkpoint, so that a run that could not export its
model does nothing else when it is started again. The first worker writes the metrics, and at the end the model.

torch, transformers and deepspeed are imported inside: the driver passes this function by name and never loads them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from s1ray.manifests import RunError
from s1ray.storage import Location, location
from s1ray.training.config import TrainingConfig
from s1ray.training.data.preparation import EXAMPLES_FILE, VALIDATION_FILE, load_renderer
from s1ray.training.interruption import LOOK, NOTHING, STOP, PreemptionNotice, StopRequests
from s1ray.training.monitoring.metrics import METRICS_FILE, MetricsFile

if TYPE_CHECKING:
    from s1ray.training.accuracy.writer import SnapshotWriter
    from s1ray.training.checkpoint.manager import Checkpointer, RunState
    from s1ray.training.data.collate import Dataset
    from s1ray.training.monitoring.divergence import DivergenceMonitor
    from s1ray.training.steps import Stepper, StepResult

MODEL_FOLDER = "model"
MAX_MESSAGE = 500
"""Characters of a message from the first worker to the others; Ray Train allows a thousand bytes."""


@dataclass(frozen=True)
class Outcome:
    """How the run ended. What a restart would not change is no error to Ray Train, which would restart the workers."""

    status: Literal["complete", "stopped", "diverged", "not exported"]
    steps: int
    """Finished steps."""
    message: str = ""
    """What diverged, and what to do; or why the model could not be written."""
    precision: str = ""
    """As decided."""
    best_loss: float | None = None
    """Lowest validation loss."""
    exported_step: int | None = None
    """Under validation: the finished steps of the exported model."""


def train_worker(settings: Mapping[str, object], after_step: Callable[[int], None] | None = None) -> Outcome:
    """Train, resuming from the newest checkpoint if there is one, and export the model.

    Args:
        settings: the stage's config as a mapping, its `output` absolute; that run folder holds the examples.
        after_step: called after each step with the number of finished steps.
    """
    import ray.train
    import ray.train.collective
    import ray.train.torch
    import torch

    from s1ray.training.accuracy.writer import SnapshotWriter
    from s1ray.training.checkpoint.manager import Checkpointer, RunState
    from s1ray.training.data.collate import Dataset
    from s1ray.training.model.engine import resolve_precision
    from s1ray.training.model.export import export
    from s1ray.training.model.loading import load_engine
    from s1ray.training.model.proof import prove_loaded
    from s1ray.training.monitoring.divergence import DivergenceMonitor
    from s1ray.training.steps import Stepper

    config = TrainingConfig.model_validate(settings).with_local_models()
    output = location(config.output)
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(config.cpus_per_worker)
    torch.manual_seed(config.seed)
    dataset = Dataset.read(output / EXAMPLES_FILE)
    config = resolve_precision(config, device)
    engine = load_engine(config, device=device, rank=rank, world_size=world_size)
    prove_loaded(engine, dataset, config)
    checkpointer = Checkpointer(engine, config, output, rank=rank, world_size=world_size)
    state = checkpointer.restore() or RunState()
    monitor = DivergenceMonitor(config.divergence, losses=state.losses, norms=state.norms, skipped=state.skipped)

    def export_to(folder: Location) -> str | None:
        """Why the model could not be written there, on all workers; None: it is there."""
        renderer = load_renderer(config)
        problem = None
        try:
            export(engine, renderer.tokenizer, renderer.turn_end, config, folder, rank=rank)
        except RunError as error:
            problem = str(error)[:MAX_MESSAGE]
        # The others wait here without a limit while the first worker writes; a collective of torch would time out.
        shared: str | None = ray.train.collective.broadcast_from_rank_zero(problem)
        return shared

    run = _WorkerRun(
        config=config,
        stepper=Stepper(engine, dataset, config, monitor, world_size=world_size),
        monitor=monitor,
        checkpointer=checkpointer,
        state=state,
        held_out=Dataset.read(output / VALIDATION_FILE) if config.validation is not None else None,
        stop_requests=StopRequests(output) if rank == 0 else None,
        metrics_file=MetricsFile(output / METRICS_FILE, finished_steps=state.finished_steps) if rank == 0 else None,
        snapshots=None if config.accuracy is None else SnapshotWriter(config.accuracy, output, export_to, rank=rank),
    )
    outcome = run.resume(after_step)
    if outcome.status == "complete":
        checkpointer.wait()
        if run.exported_step != run.total:
            checkpointer.restore_step(run.exported_step)
        if (problem := export_to(output / MODEL_FOLDER)) is not None:
            return dataclasses.replace(outcome, status="not exported", message=problem)
    return outcome


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
        stop_requests: StopRequests | None,
        metrics_file: MetricsFile | None,
        snapshots: SnapshotWriter | None,
    ):
        self.total = stepper.total
        self._config = config
        self._stepper = stepper
        self._monitor = monitor
        self._checkpointer = checkpointer
        self._state = state
        self._held_out = held_out
        self._stop_requests = stop_requests
        self._metrics_file = metrics_file
        self._snapshots = snapshots
        self._preemption = PreemptionNotice()

    def resume(self, after_step: Callable[[int], None] | None) -> Outcome:
        """Perform the remaining steps, if there are any."""
        for step in range(self._state.finished_steps, self.total):
            result = self._stepper.step(step, NOTHING if self._stop_requests is None else self._stop_requests.signal())
            if result.problem is not None and (self._config.divergence.action == "stop" or self._monitor.exhausted):
                self._checkpointer.wait()
                return Outcome("diverged", step, self._diagnosis(result))
            self._record(step + 1)
            validation_loss, is_best = self._validate(step + 1)
            if self._metrics_file is not None:
                if validation_loss is not None:
                    result.metrics["validation_loss"] = validation_loss
                self._metrics_file.write(result.metrics)
            # In this order, as every worker must ask whether one is due.
            if self._is_due(step + 1, result.signal) or is_best or step + 1 == self.total:
                if self._metrics_file is not None:
                    self._metrics_file.flush()
                self._checkpointer.save(self._state, validation_loss=validation_loss)
                if result.signal == STOP:
                    self._checkpointer.wait()
                    return Outcome("stopped", step + 1)
            if self._snapshots is not None and step + 1 < self.total:
                self._snapshots.after_step(step + 1)
            if after_step is not None:
                after_step(step + 1)
        if self._metrics_file is not None:
            self._metrics_file.close()
        return Outcome(
            "complete",
            self.total,
            precision=self._config.precision,
            best_loss=self._state.best_loss,
            exported_step=None if self._config.validation is None else self.exported_step,
        )

    @property
    def exported_step(self) -> int:
        """The finished steps of the model to export, once all steps are done."""
        settings, best = self._config.validation, self._state.best_step
        return best if settings is not None and settings.export == "best" and best is not None else self.total

    def _record(self, finished_steps: int) -> None:
        self._state.finished_steps = finished_steps
        self._state.losses = list(self._monitor.losses)
        self._state.norms = list(self._monitor.norms)
        self._state.skipped = self._monitor.skipped

    def _validate(self, finished_steps: int) -> tuple[float | None, bool]:
        """The validation loss if a measurement is due, and whether it calls for a checkpoint."""
        settings, state = self._config.validation, self._state
        if settings is None or self._held_out is None:
            return None, False
        if finished_steps % settings.every and finished_steps != self.total:
            return None, False
        loss = self._stepper.validate(self._held_out)
        # Of two equal ones the later wins, because Ray Train keeps that one.
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
            what = f"more steps were skipped than divergence.max_skips ({allowed}) allows; the last: "
            advice = "lower optimizer.learning_rate, or look at the rows"
        else:
            what = ""
            advice = "lower optimizer.learning_rate, look at its rows, or set divergence.action: skip"
        return f"{what}step {result.metrics['step']}: {result.problem}; {advice}: {rows}"
