"""The training stage: check everything, then hand over to Ray Train.

    run = train(load_config(TrainingConfig, "jobs/configs/train.miniature.yaml"))

The run folder gets `examples.parquet` (what the model sees), `metrics.jsonl` (a line a step), `checkpoints/` (Ray
Train's; the same config and input resume from there) and `model/` (the Hugging Face folder).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from s1ray.cluster import connected
from s1ray.config import resolve_model
from s1ray.runs import Run, RunError
from s1ray.schemas import Example, to_table, write_table
from s1ray.training.config import TrainingConfig
from s1ray.training.loop import EXAMPLES_FILE, MODEL_FOLDER, train_worker
from s1ray.training.metrics import METRICS_FILE, Progress, read_metrics
from s1ray.training.planning import plan
from s1ray.training.preparation import TrainingSet, prepare
from s1ray.training.schedule import steps_per_epoch

__all__ = ["plan", "train"]

log = logging.getLogger("s1ray")

CHECKPOINTS_FOLDER = "checkpoints"
RECORDED_IDS = 1000
"""Ids of dropped rows that the manifest lists at most."""


def train(config: TrainingConfig, *, force: bool = False) -> Run:
    """Fine-tune `config.model` on `config.traces`; the model is in `<output>/model`.

    A run that was interrupted goes on from its newest checkpoint; a complete one is skipped.

    Raises:
        ConfigError: the model, the tokenizer or the rows do not fit the config.
        RunError: the folder holds another run, or training failed.
    """
    model = resolve_model(config.model)
    inputs = {"traces": config.traces}
    if Path(model).is_dir():
        inputs["model"] = model
    with Run("train", config, inputs, force=force) as run:
        if run.skipped:
            log.info("train: %s is already complete, skipped", run.path)
            return run
        training_set = prepare(config)
        write_table(to_table(training_set.examples, Example), run.path / EXAMPLES_FILE)
        _record(run, training_set)
        total_steps = steps_per_epoch(len(training_set.examples), config.global_batch) * config.epochs
        with connected(), Progress(run.path / METRICS_FILE, total_steps):
            result = _fit(config, model, run.path)
        seconds = [line["seconds"] for line in read_metrics(run.path / METRICS_FILE)]
        run.figures |= result | {"step_seconds": round(sum(seconds), 1), "model": MODEL_FOLDER}
    return run


def _record(run: Run, training_set: TrainingSet) -> None:
    run.rows = {"traces": training_set.num_traces, "examples": len(training_set.examples)}
    for row in training_set.unusable:
        run.drops[row.reason] = run.drops.get(row.reason, 0) + 1
    if training_set.unusable:
        run.figures["dropped_ids"] = [row.id for row in training_set.unusable[:RECORDED_IDS]]
    run.figures["tokens_per_epoch"] = sum(len(example.input_ids) for example in training_set.examples)


def _fit(config: TrainingConfig, model: str, output: Path) -> dict[str, Any]:
    """Run the training loop on Ray Train's workers; returns what the first worker returned."""
    import ray
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = ray.cluster_resources()
    use_gpu = config.device == "gpu" or (config.device == "auto" and resources.get("GPU", 0) > 0)
    for kind, needed in _demand(config, use_gpu).items():
        if resources.get(kind, 0) < needed:
            log.warning(
                "train: needs %d %ss, the cluster has %d now; waiting until it has grown",
                needed,
                kind,
                resources.get(kind, 0),
            )
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"config": config.model_dump(mode="json"), "model": model, "output": str(output)},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": config.cpus_per_worker} | ({"GPU": 1} if use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=CHECKPOINTS_FOLDER,
            storage_path=str(output),
            failure_config=ray.train.FailureConfig(max_failures=config.max_restarts),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=config.checkpoints.keep),
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise RunError(
            f"{output}: training failed: {_cause(error)}\n"
            "run the same command again to go on from the newest checkpoint"
        ) from error
    return dict(result.return_value)


def _demand(config: TrainingConfig, use_gpu: bool) -> dict[str, int]:
    demand = {"CPU": config.num_workers * config.cpus_per_worker}
    return demand | {"GPU": config.num_workers} if use_gpu else demand


def _cause(error: BaseException) -> str:
    """The workers' own errors, without the stacks they came up through."""
    failures = getattr(error, "worker_failures", None) or {}
    if not failures:
        return str(error).strip()
    return "; ".join(f"worker {rank}: {failure}" for rank, failure in sorted(failures.items()))
