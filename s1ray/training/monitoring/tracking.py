"""Sends each step to TensorBoard, Weights & Biases and MLflow, from the machine that starts the run.

They get the lines of the metrics file, so a worker never waits for one of them. A resumed run sends all steps again:
TensorBoard's files are then rewritten from the first step, and the other two continue after the last step that they
have. Packages are imported only if the config asks for them; `check_packages` finds out before anything starts whether
one is missing.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import time
import uuid
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from s1ray.config import ConfigError
from s1ray.storage import Location, StorePath, remove, upload
from s1ray.training.config import MlflowConfig, TrackingConfig, WandbConfig
from s1ray.training.monitoring.metrics import StepMetrics

TENSORBOARD_FOLDER = "tensorboard"
MLFLOW_RUN_FILE = "mlflow_run_id"
WANDB_RUN_FILE = "wandb_run_id"
"""In the run folder: the run's id at the service, so that a resumed run finds it again."""
FLUSH_S = 30.0
"""Until TensorBoard can show a step."""
IDENTIFIERS = ("step", "epoch", "skipped", "rows")
"""Fields of a step that are not drawn over the steps."""


class Tracker(Protocol):
    """A service that gets each step."""

    name: str

    def log(self, metrics: StepMetrics) -> None:
        """Send a line of the metrics file."""

    def close(self, *, failed: bool) -> None:
        """Record that the run has ended."""


def check_packages(config: TrackingConfig) -> None:
    """Check that the packages which the config needs are installed here.

    Raises:
        ConfigError: one is not.
    """
    wanted = {
        "wandb": config.wandb is not None,
        "mlflow": config.mlflow is not None,
        "tensorboardX": config.tensorboard,
    }
    for package, asked in wanted.items():
        if asked and importlib.util.find_spec(package) is None:
            field = package.removesuffix("X")
            raise ConfigError(
                f"tracking.{field}: the package {package} is not installed here (pip install {package}); install it, "
                f"or leave tracking.{field} out"
            )


def open_trackers(config: TrackingConfig, output: Location, *, parameters: dict[str, JsonValue]) -> list[Tracker]:
    """The trackers that the config asks for.

    Args:
        output: the run folder; the run takes its name.
        parameters: the stage's config, recorded with the run.
    """
    trackers: list[Tracker] = []
    if config.tensorboard:
        trackers.append(TensorBoard(output / TENSORBOARD_FOLDER))
    if isinstance(output, StorePath):
        return trackers  # the others need a folder, and the config's check refuses them
    if config.wandb is not None:
        trackers.append(WeightsAndBiases(config.wandb, output, parameters=parameters))
    if config.mlflow is not None:
        trackers.append(Mlflow(config.mlflow, output, parameters=parameters))
    return trackers


def series(metrics: StepMetrics) -> dict[str, float]:
    """The numbers of a step that are drawn over the steps."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if name not in IDENTIFIERS and isinstance(value, int | float)
    }


class TensorBoard:
    """Event files, rewritten by each start of the run.

    Written at once: tensorboardX's `SummaryWriter` writes in a thread, for which it waits for ever once that has met a
    full disk.
    """

    name = "TensorBoard"

    def __init__(self, folder: Location):
        from tensorboardX.event_file_writer import EventsWriter

        remove(folder)
        self._folder = folder
        self._local = Path(
            tempfile.mkdtemp(prefix="s1ray-tensorboard-") if isinstance(folder, StorePath) else str(folder)
        )
        self._local.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(self._local / "events"))
        self._flushed = time.monotonic()

    def log(self, metrics: StepMetrics) -> None:
        """Send a line of the metrics file.

        Raises:
            OSError: it cannot be written.
        """
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for name, value in series(metrics).items():
            summary = scalar(f"train/{name}", value)
            self._writer.write_event(Event(wall_time=time.time(), step=metrics["step"], summary=summary))
        if time.monotonic() - self._flushed > FLUSH_S:
            self._writer.flush()
            self._flushed = time.monotonic()

    def close(self, *, failed: bool) -> None:
        """Write the remaining events; in a store they appear now."""
        self._writer.close()
        if isinstance(self._folder, StorePath):
            upload(self._local, self._folder)
            shutil.rmtree(self._local, ignore_errors=True)


class WeightsAndBiases:
    """A run whose id is in the run folder."""

    name = "Weights & Biases"

    def __init__(self, config: WandbConfig, output: Path, *, parameters: dict[str, JsonValue]):
        import wandb

        known = output / WANDB_RUN_FILE
        if not known.exists():
            known.write_text(uuid.uuid4().hex[:16] + "\n", encoding="utf-8")
        self._run = wandb.init(
            project=config.project,
            entity=config.entity,
            mode=config.mode,
            dir=str(output),
            id=known.read_text(encoding="utf-8").strip(),
            name=output.name,
            resume="allow",
            config=parameters,
        )
        self._next_step = int(self._run.step)

    def log(self, metrics: StepMetrics) -> None:
        """Send a line of the metrics file."""
        if metrics["step"] >= self._next_step:
            self._run.log({f"train/{name}": value for name, value in series(metrics).items()}, step=metrics["step"])

    def close(self, *, failed: bool) -> None:
        """End the run there."""
        self._run.finish(exit_code=int(failed))


class Mlflow:
    """A run whose id is in the run folder."""

    name = "MLflow"

    def __init__(self, config: MlflowConfig, output: Path, *, parameters: dict[str, JsonValue]):
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=config.tracking_uri)
        known = output / MLFLOW_RUN_FILE
        self._last_step = 0
        if known.exists():
            self._run_id = known.read_text(encoding="utf-8").strip()
            self._client.update_run(self._run_id, status="RUNNING")
            history = self._client.get_metric_history(self._run_id, "train/seconds")
            self._last_step = max((entry.step for entry in history), default=0)
            return
        experiment = self._client.get_experiment_by_name(config.experiment)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(config.experiment)
        self._run_id = self._client.create_run(experiment_id, run_name=output.name).info.run_id
        known.write_text(self._run_id + "\n", encoding="utf-8")
        # MLflow takes values of at most 6,000 characters.
        self._client.log_batch(
            self._run_id, params=[Param(name, str(value)[:6000]) for name, value in parameters.items()]
        )

    def log(self, metrics: StepMetrics) -> None:
        """Send a line of the metrics file."""
        from mlflow.entities import Metric

        if metrics["step"] <= self._last_step:
            return
        now = int(time.time() * 1000)
        entries = [Metric(f"train/{name}", value, now, metrics["step"]) for name, value in series(metrics).items()]
        self._client.log_batch(self._run_id, metrics=entries)

    def close(self, *, failed: bool) -> None:
        """End the run there."""
        self._client.set_terminated(self._run_id, "FAILED" if failed else "FINISHED")
