"""The training stage: check everything, then hand over to Ray Train.

    run = train(load_config(TrainingConfig, "s1ray/recipes/train/miniature.yaml"))

The run folder gets `examples.arrow` (what the model sees), `validation.arrow` (what is held out), `rows.json` (what
they were made of), `metrics.jsonl` (a line for each step), `loss.svg`, `tensorboard/`, `checkpoints/` (Ray Train's; a
run of the same config and input resumes from there, on any number of workers) and `model/` (the Hugging Face folder).
"""

from __future__ import annotations

import contextlib
import errno
import logging
from typing import TYPE_CHECKING

from s1ray.cluster import check_node_labels, connected, resources_of
from s1ray.errors import S1rayError
from s1ray.manifests import RunError
from s1ray.probe import check_seen
from s1ray.runs import Run
from s1ray.stages import Stage
from s1ray.storage import Location, StorePath, arrow_place, local_copy, remove
from s1ray.training.accuracy.questions import choose_questions
from s1ray.training.accuracy.snapshots import Snapshots
from s1ray.training.accuracy.watch import AccuracyWatch, finish
from s1ray.training.checkpoint.folder import CHECKPOINTS_FOLDER, UNIVERSAL_FOLDER, repair
from s1ray.training.config import TrainingConfig
from s1ray.training.data import preparation
from s1ray.training.data.preparation import TrainingSet
from s1ray.training.data.schedule import steps_per_epoch
from s1ray.training.interruption import stop_on_sigterm
from s1ray.training.loop import MODEL_FOLDER, Outcome, train_worker
from s1ray.training.monitoring.metrics import METRICS_FILE, MetricsFile, StepMetrics, read_metrics
from s1ray.training.monitoring.plots import plot_loss
from s1ray.training.monitoring.progress import Progress
from s1ray.training.monitoring.tracking import Tracker, check_packages, open_trackers
from s1ray.training.planning.disk import check_disk
from s1ray.training.planning.plan import Rows, disk_needs, memory_warning, plan
from s1ray.training.publishing import check_upload, upload, write_card
from s1ray.training.startup import START_MINUTES, START_TIMEOUT, Awaited, Workers, check_room, check_spare_gpus, patient

if TYPE_CHECKING:
    from ray.train import TrainingFailedError
    from ray.train.torch import TorchTrainer

log = logging.getLogger("s1ray")

LOSS_PLOT = "loss.svg"
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What a disk says that a user can put right."""


def check(config: TrainingConfig) -> list[str]:
    """The plan, after checking everything that a run needs besides the cluster.

    Raises:
        ConfigError: the model, the tokenizer or the rows do not fit the config, or a package that it needs is missing.
    """
    check_packages(config.tracking)
    check_upload(config)
    return plan(config.with_local_models())


def inputs(config: TrainingConfig) -> dict[str, str]:
    """The traces, and the model and the tokenizer where they are folders."""
    return preparation.inputs(config)


def publish(config: TrainingConfig, run: Run) -> None:
    """Delete the models of the snapshots, and upload the exported one where the config asks for it."""
    output = run.path
    Snapshots(output).delete_models()
    if config.push_to is not None:
        log.info("train: uploaded as %s", upload(config, local_copy(output / MODEL_FOLDER)))


def work(config: TrainingConfig, run: Run) -> None:
    """Fine-tune, in an open run folder."""
    output = run.path
    # The workers get the config as it is: each node fetches models for itself.
    given, config = config, config.with_local_models()
    training_set = preparation.prepare(config)
    total_steps = steps_per_epoch(len(training_set.examples), config.global_batch) * config.epochs
    for need in disk_needs(config, total_steps):
        check_disk(need)
    training_set = preparation.keep(training_set, output)
    _record(run, training_set)
    metrics_path = output / METRICS_FILE
    with connected():
        check_node_labels(config)
        check_seen(output)
        if (warning := memory_warning(config, Rows.of(training_set.examples, config))) is not None:
            log.warning("train: %s", warning)
        _resume(config, output)
        workers = Workers.of(config, resources_of(config.node_labels))
        check_room(workers)
        if config.accuracy is not None:
            check_spare_gpus(workers, config.accuracy)
        progress = Progress(metrics_path, total_steps, trackers=_trackers(config, output), awaited=Awaited(workers))
        known = len(read_metrics(metrics_path))
        with (
            stop_on_sigterm(output, lambda: len(read_metrics(metrics_path)) > known),
            progress,
            _measuring(config, output),
        ):
            outcome = _fit(given, output, workers)
        if outcome.exported_step is not None:
            run.figures |= {"exported_step": outcome.exported_step}
        if config.accuracy is not None:
            exported = outcome.exported_step or total_steps
            run.figures |= finish(config, output, output / MODEL_FOLDER, exported)
    remove(output / UNIVERSAL_FOLDER)
    lines = read_metrics(metrics_path)
    plot_loss(lines, output / LOSS_PLOT, accuracies=Snapshots(output).results())
    run.figures |= {"steps": outcome.steps, "loss": lines[-1]["loss"], "precision": outcome.precision}
    if config.validation is not None:
        run.figures |= {"best_loss": outcome.best_loss}
    run.figures |= _figures(lines) | {"model": MODEL_FOLDER, "loss_plot": LOSS_PLOT}
    write_card(given, output / MODEL_FOLDER, examples=len(training_set.examples), figures=run.figures)


def _resume(config: TrainingConfig, output: Location) -> None:
    """Repair what a killed run left behind, and log where this one resumes."""
    newest = repair(output / CHECKPOINTS_FOLDER)
    finished_steps = newest.finished_steps if newest else 0
    MetricsFile(output / METRICS_FILE, finished_steps=finished_steps).close()
    Snapshots(output).forget_after(finished_steps)
    if newest is None:
        return
    if isinstance(output, StorePath) and config.zero_stage > 0 and newest.world_size != config.num_workers:
        raise RunError(
            f"{output}: {newest.world_size} worker(s) wrote its checkpoint, and from an object store as many resume; "
            f"set num_workers: {newest.world_size}, or copy the run to a folder that all nodes share"
        )
    log.info("train: resuming after step %d", newest.finished_steps)
    if newest.world_size != config.num_workers:
        log.warning(
            "train: %d worker(s) wrote the checkpoint, and %d resume: steps and examples stay the same, the weights "
            "will differ by rounding",
            newest.world_size,
            config.num_workers,
        )


def _measuring(config: TrainingConfig, output: Location) -> contextlib.AbstractContextManager[object]:
    """Measures the accuracy while the workers train, where the config asks for it."""
    if config.accuracy is None:
        return contextlib.nullcontext()
    return AccuracyWatch(config, output, choose_questions(config.accuracy, config.seed))


def _trackers(config: TrainingConfig, output: Location) -> list[Tracker]:
    try:
        return open_trackers(config.tracking, output, parameters=config.model_dump(mode="json"))
    except Exception as error:
        # Tracking services raise all sorts of errors, here for a missing key or connection.
        raise RunError(f"tracking: cannot be started: {error}; leave it out, or fix its settings") from error


def _figures(lines: list[StepMetrics]) -> dict[str, object]:
    """The manifest's summary of the steps."""
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
    run.drops |= training_set.unusable.counts
    if training_set.unusable:
        run.figures["dropped_ids"] = [row.id for row in training_set.unusable.first]
    if training_set.held_out:
        run.rows["held_out"] = len(training_set.held_out)
    run.figures["tokens_per_epoch"] = sum(training_set.examples.lengths)


def _fit(config: TrainingConfig, output: Location, workers: Workers) -> Outcome:
    """Run the training loop on Ray Train's workers; the first worker's outcome.

    Raises:
        RunError: the run did not complete, for a reason outside of this program.
        TrainingFailedError: a worker raised something else: a bug, with the worker's traceback.
    """
    import ray.train

    trainer = _trainer(config, output, workers)
    try:
        with patient():
            outcome: Outcome = trainer.fit().return_value
    except ray.train.TrainingFailedError as error:
        if (cause := _cause(error, config.max_restarts)) is None:
            raise
        raise RunError(
            f"{output}: training failed: {cause}\nrun the same command again to resume from the newest checkpoint"
        ) from error
    if outcome.status == "diverged":
        raise RunError(f"{output}: training diverged: {outcome.message}")
    if outcome.status == "stopped":
        raise RunError(
            f"{output}: stopped as asked, with a checkpoint after step {outcome.steps}; run the same command again to "
            "resume from there"
        )
    if outcome.status == "not exported":
        raise RunError(
            f"{outcome.message}\nall {outcome.steps} steps are done and in a checkpoint: make room there, or let it be "
            "written to, and run the same command again; it only exports the model"
        )
    return outcome


def _trainer(config: TrainingConfig, output: Location, workers: Workers) -> TorchTrainer:
    import ray.train
    from ray.train.torch import TorchTrainer

    from s1ray.training.process_group import NodeAddressConfig

    place, filesystem = arrow_place(output)
    return TorchTrainer(
        train_worker,
        train_loop_config=config.model_dump(mode="json") | {"output": str(output)},
        torch_config=NodeAddressConfig(backend="nccl" if workers.on_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.number,
            use_gpu=workers.on_gpu,
            accelerator_type=workers.accelerator_type,
            resources_per_worker=dict(workers.each),
            label_selector=None if workers.node_labels is None else dict(workers.node_labels),
        ),
        run_config=ray.train.RunConfig(
            name=CHECKPOINTS_FOLDER,
            storage_path=place,
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(
                max_failures=config.max_restarts, controller_failure_limit=config.max_restarts
            ),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=config.checkpoints.keep,
                checkpoint_score_attribute="validation_loss" if config.validation is not None else None,
                checkpoint_score_order="min",
            ),
        ),
    )


def _cause(error: TrainingFailedError, restarts: int) -> str | None:
    """The reasons that are outside of this program, if there are any; None: a worker met a bug.

    Args:
        restarts: how often the workers were to be restarted.
    """
    import torch

    failures: dict[int | None, Exception] = getattr(error, "worker_failures", None) or {
        None: getattr(error, "controller_failure", error)
    }
    reasons: dict[str, list[int | None]] = {}
    for rank, failure in failures.items():
        if isinstance(failure, torch.OutOfMemoryError):
            reason = f"out of GPU memory: {failure}; --dry-run says which settings need less"
        elif type(failure).__name__ == "WorkerGroupStartupTimeoutError":
            reason = (
                f"the workers could not start: in each of {restarts + 1} attempt(s) the cluster did not have what they "
                f"need within {START_MINUTES} minutes (max_restarts allows for more attempts, {START_TIMEOUT} for more "
                "time)"
            )
        elif isinstance(failure, S1rayError) or type(failure).__module__.split(".")[0] == "ray":
            # Ray's own errors report a process or a node that died.
            reason = str(failure).strip()
        elif isinstance(failure, OSError) and failure.errno in UNWRITABLE:
            reason = f"{failure}; make room there, or let it be written to"
        else:
            # A bug, or only the loss of the connection to a worker that failed for one of the other reasons.
            continue
        reasons.setdefault(reason, []).append(rank)
    return (
        "; ".join(
            reason if None in ranks else f"worker {', '.join(map(str, ranks))}: {reason}"
            for reason, ranks in reasons.items()
        )
        or None
    )


train = Stage(name="train", config=TrainingConfig, plan=check, inputs=inputs, work=work, afterwards=publish)
"""The stage. An interrupted run resumes from its newest checkpoint, also with another number of workers. SIGTERM to
this process makes the workers save and stop."""
