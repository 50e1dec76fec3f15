"""The training loop: what each Ray Train worker runs.

All workers go through the same steps. For step s they derive from the seed which examples it has and who takes which
(`batching`), accumulate their share of the gradient, agree on the loss, and let DeepSpeed update. The first worker
writes the metrics, and at the end the model.

torch, transformers and deepspeed are imported inside: the driver passes this function by name and never loads them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1ray.training.batching import global_batch, lay_out, padding
from s1ray.training.config import TrainingConfig
from s1ray.training.metrics import METRICS_FILE, MetricsFile
from s1ray.training.schedule import learning_rate, steps_per_epoch

if TYPE_CHECKING:
    from s1ray.training.collate import Dataset
    from s1ray.training.engine import Engine

EXAMPLES_FILE = "examples.parquet"
MODEL_FOLDER = "model"


def train_worker(settings: dict[str, Any], after_step: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Train, resuming from the newest checkpoint if there is one, and export the model.

    Args:
        settings: "config", the stage's config as a mapping; "model", the base model's folder or id; "output", the
            absolute run folder, which holds the examples.
        after_step: called with the number of finished steps after each of them.

    Returns:
        "steps", "loss" (of the last step) and "precision" (as decided).

    Raises:
        FloatingPointError: the loss is not a finite number; names the step and its rows.
    """
    import ray.train
    import ray.train.torch
    import torch

    from s1ray.training.checkpoints import report_checkpoint, restore_checkpoint
    from s1ray.training.collate import Dataset
    from s1ray.training.engine import resolve_precision
    from s1ray.training.model import load_engine

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
    finished = restore_checkpoint(engine, rank=rank)
    total = steps_per_epoch(len(dataset), config.global_batch) * config.epochs
    metrics_file = MetricsFile(output / METRICS_FILE, finished_steps=finished) if rank == 0 else None
    metrics: dict[str, Any] = {}
    for step in range(finished, total):
        metrics = _train_step(step, total, dataset, engine, config)
        if metrics_file is not None:
            metrics_file.write(metrics)
        if config.checkpoints.every is not None and (step + 1) % config.checkpoints.every == 0 and step + 1 < total:
            report_checkpoint(engine, finished_steps=step + 1, rank=rank, metrics=metrics)
        if after_step is not None:
            after_step(step + 1)
    if metrics_file is not None:
        metrics_file.close()
    _export(engine, config, settings["model"], output / MODEL_FOLDER, rank)
    return {"steps": total, "loss": metrics.get("loss"), "precision": config.precision}


def _train_step(
    step: int,
    total: int,
    dataset: Dataset,
    engine: Engine,
    config: TrainingConfig,
) -> dict[str, Any]:
    import torch

    started = time.perf_counter()
    indices = global_batch(step, len(dataset), config.global_batch, config.seed)
    layout = lay_out(
        dataset.lengths,
        indices,
        num_workers=config.data_parallel,
        micro_batch_tokens=config.micro_batch,
        packing=config.packing,
    )
    micro_batches = [engine.inputs(dataset, batch) for batch in layout[engine.row_group]]
    trained_tokens = sum(dataset.trained[index] for index in indices)
    loss = engine.accumulate(micro_batches, trained_tokens)
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(loss)
    mean_loss = float(loss)
    if not torch.isfinite(loss):
        ids = ", ".join(dataset.ids[index] for index in indices)
        raise FloatingPointError(
            f"step {step + 1}: the loss is {mean_loss}; lower optimizer.learning_rate, or look at its rows: {ids}"
        )
    rate = learning_rate(step, total, config.optimizer)
    gradient_norm = engine.step(rate)
    seconds = time.perf_counter() - started
    tokens = sum(dataset.lengths[index] for index in indices)
    metrics = {
        "step": step + 1,
        "epoch": step // steps_per_epoch(len(dataset), config.global_batch) + 1,
        "loss": mean_loss,
        "grad_norm": gradient_norm,
        "learning_rate": rate,
        "tokens": tokens,
        "trained_tokens": trained_tokens,
        "padding": round(padding(layout, dataset.lengths, config.packing), 4),
        "seconds": round(seconds, 4),
        "tokens_per_second": round(tokens / seconds, 1),
    }
    if engine.device.type == "cuda":
        metrics["memory_gib"] = round(torch.cuda.max_memory_allocated(engine.device) / 2**30, 2)
    return metrics


def _export(engine: Engine, config: TrainingConfig, model: str, folder: Path, rank: int) -> None:
    from transformers import AutoTokenizer

    from s1ray.training.examples import ChatRenderer
    from s1ray.training.export import export

    tokenizer = AutoTokenizer.from_pretrained(model)
    renderer = ChatRenderer(tokenizer, config.format)
    export(engine, tokenizer, renderer.turn_end, config, folder, rank=rank)
