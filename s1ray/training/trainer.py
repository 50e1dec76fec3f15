"""The training stage: check everything, then hand over to Ray Train.

    run = train(load_config(TrainingConfig, "s1ray/recipes/train/miniature.yaml"))

The run folder gets `examples.parquet` (what the model sees), `validation.parquet` (what is held out),
`metrics.jsonl` (a line a step), `loss.svg`, `tensorboard/`, `checkpoints/` (Ray Train's; the same config and input
resume from there, on any number of workers) and `model/` (the Hugging Face folder).
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from s1ray.cluster import connected
from s1ray.runs import Run, RunError
from s1ray.schemas import Example, to_table, write_table
from s1ray.stages import Stage
from s1ray.training.checkpoint.folder import CHECKPOINTS_FOLDER, UNIVERSAL_FOLDER, tidy
from s1ray.training.config import TrainingConfig
from s1ray.training.data.preparation import TrainingSet, prepare
from s1ray.training.data.schedule import steps_per_epoch
from s1ray.training.interruption import stop_on_sigterm
from s1ray.training.loop import EXAMPLES_FILE, MODEL_FOLDER, VALIDATION_FILE, train_worker
from s1ray.training.monitoring.metrics import METRICS_FILE, MetricsFile, read_metrics
from s1ray.training.monitoring.plots import plot_loss
from s1ray.training.monitoring.progress import Progress
from s1ray.training.monitoring.tracking import Tracker, check_packages, open_trackers
from s1ray.training.planning.plan import Rows, memory_warning, plan
from s1ray.training.publishing import check_upload, upload, write_card

log = logging.getLogger("s1ray")

LOSS_PLOT = "loss.svg"
RECORDED_IDS = 1000
"""Ids of dropped rows that the manifest lists at most."""


def check(config: TrainingConfig) -> list[str]:
    """The plan, once everything that a run needs beside the cluster is found to be there.

    Raises:
        ConfigError: the model, the tokenizer or the rows do not fit the config, or a package that it needs is missing.
    """
    check_packages(config.tracking)
    check_upload(config)
    return plan(config)


def inputs(config: TrainingConfig) -> dict[str, str]:
    """The traces, and the model's weights where they lie in a folder."""
    return {"traces": config.traces} | ({} if config.folder is None else {"model": config.model})


def publish(config: TrainingConfig, run: Run) -> None:
    """Upload the exported model, where the config asks for it."""
    if config.push_to is not None:
        log.info("train: uploaded as %s", upload(config, run.path / MODEL_FOLDER))


def work(config: TrainingConfig, run: Run) -> None:
    """Fine-tune, in an open run folder."""
    training_set = prepare(config)
    write_table(to_table(training_set.examples, Example), run.path / EXAMPLES_FILE)
    if training_set.held_out:
        write_table(to_table(training_set.held_out, Example), run.path / VALIDATION_FILE)
    _record(run, training_set)
    total_steps = steps_per_epoch(len(training_set.examples), config.global_batch) * config.epochs
    metrics_path = run.path / METRICS_FILE
    with connected(), stop_on_sigterm(run.path):
        if (warning := memory_warning(config, Rows.of(training_set.examples))) is not None:
            log.warning("train: %s", warning)
        _take_up(config, run.path)
        with Progress(metrics_path, total_steps, trackers=_trackers(config, run)):
            result = _fit(config, run.path)
    shutil.rmtree(run.path / UNIVERSAL_FOLDER, ignore_errors=True)
    lines = read_metrics(metrics_path)
    plot_loss(lines, run.path / LOSS_PLOT)
    run.figures |= result | _figures(lines) | {"model": MODEL_FOLDER, "loss_plot": LOSS_PLOT}
    write_card(config, run.path / MODEL_FOLDER, examples=len(training_set.examples), figures=run.figures)


def _take_up(config: TrainingConfig, output: Path) -> None:
    """Mend what a killed run left behind, and say where this one goes on."""
    newest = tidy(output / CHECKPOINTS_FOLDER)
    MetricsFile(output / METRICS_FILE, finished_steps=newest.finished_steps if newest else 0).close()
    if newest is None:
        return
    log.info("train: going on after step %d", newest.finished_steps)
    if newest.world_size != config.num_workers:
        log.warning(
            "train: the checkpoint was written by %d worker(s), and %d go on: the steps and their examples stay the "
            "same, the weights will differ by rounding",
            newest.world_size,
            config.num_workers,
        )


def _trackers(config: TrainingConfig, run: Run) -> list[Tracker]:
    try:
        return open_trackers(config.tracking, run.path, parameters=config.model_dump(mode="json"))
    except Exception as error:
        # Tracking services raise what they like, here for want of a key or a connection.
        raise RunError(f"tracking: cannot be started: {error}; leave it out, or mend its settings") from error


def _figures(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """What the manifest tells of the steps."""
    skipped = [
        {"step": line["step"], "why": line["skipped"], "rows": line["rows"]} for line in lines if "skipped" in line
    ]
    return {
        "step_seconds": round(sum(line["seconds"] for line in lines), 1),
        "workers": sorted({line["workers"] for line in lines}),
        "skipped_steps": skipped,
    }


def _record(run: Run, training_set: TrainingSet) -> None:
    run.rows = {"traces": training_set.num_traces, "examples": len(training_set.examples)}
    for row in training_set.unusable:
        run.drops[row.reason] = run.drops.get(row.reason, 0) + 1
    if training_set.unusable:
        run.figures["dropped_ids"] = [row.id for row in training_set.unusable[:RECORDED_IDS]]
    if training_set.held_out:
        run.rows["held_out"] = len(training_set.held_out)
    run.figures["tokens_per_epoch"] = sum(len(example.input_ids) for example in training_set.examples)


def _fit(config: TrainingConfig, output: Path) -> dict[str, Any]:
    """Run the training loop on Ray Train's workers; returns what the first worker returned."""
    import ray
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = ray.cluster_resources()
    use_gpu = config.device != "cpu" and (
        config.device == "gpu" or config.accelerator_type is not None or resources.get("GPU", 0) > 0
    )
    for kind, needed in _demand(config, use_gpu).items():
        if resources.get(kind, 0) < needed:
            log.warning(
                "train: needs %d %ss, the cluster has %d now; waiting until it has grown",
                needed,
                kind,
                resources.get(kind, 0),
            )
    if config.accelerator_type is not None and f"accelerator_type:{config.accelerator_type}" not in resources:
        log.warning("train: the cluster has no %s now; waiting until it has", config.accelerator_type)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"config": config.model_dump(mode="json"), "model": config.model, "output": str(output)},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=use_gpu,
            accelerator_type=config.accelerator_type if use_gpu else None,
            resources_per_worker={"CPU": config.cpus_per_worker} | ({"GPU": 1} if use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=CHECKPOINTS_FOLDER,
            storage_path=str(output),
            failure_config=ray.train.FailureConfig(max_failures=config.max_restarts),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=config.checkpoints.keep,
                checkpoint_score_attribute="validation_loss" if config.validation is not None else None,
                checkpoint_score_order="min",
            ),
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise RunError(
            f"{output}: training failed: {_cause(error)}\n"
            "run the same command again to go on from the newest checkpoint"
        ) from error
    returned = dict(result.return_value)
    match returned.pop("outcome"):
        case "diverged":
            raise RunError(f"{output}: training diverged: {returned['message']}")
        case "stopped":
            raise RunError(
                f"{output}: stopped as asked, with a checkpoint after step {returned['steps']}; run the same command "
                "again to go on from there"
            )
    return returned


def _demand(config: TrainingConfig, use_gpu: bool) -> dict[str, int]:
    demand = {"CPU": config.num_workers * config.cpus_per_worker}
    return demand | {"GPU": config.num_workers} if use_gpu else demand


def _cause(error: BaseException) -> str:
    """The workers' own errors, without the stacks they came up through."""
    failures = getattr(error, "worker_failures", None) or {}
    if not failures:
        return str(error).strip()
    return "; ".join(f"worker {rank}: {failure}" for rank, failure in sorted(failures.items()))


train = Stage(name="train", config=TrainingConfig, plan=check, inputs=inputs, work=work, afterwards=publish)
"""The stage. A run that was interrupted resumes from its newest checkpoint, also with another number of workers.
SIGTERM to this process makes the workers save and stop."""
