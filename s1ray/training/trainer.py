"""The training stage: check everything, then hand over to Ray Train.

    run = train(load_config(TrainingConfig, "jobs/configs/train.miniature.yaml"))

The run folder gets `examples.parquet` (what the model sees), `metrics.jsonl` (a line a step), `checkpoints/` (Ray
Train's; the same config and input resume from there) and `model/` (the Hugging Face folder).
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

from s1ray.cluster import connected
from s1ray.config import ConfigError, resolve_model
from s1ray.runs import Run, RunError
from s1ray.schemas import Example, Trace, read_table, to_table, write_table
from s1ray.training.batching import global_batch, lay_out, padding
from s1ray.training.config import TrainingConfig
from s1ray.training.examples import ChatRenderer, Unusable, build_examples, explain
from s1ray.training.loop import EXAMPLES_FILE, MODEL_FOLDER, train_worker
from s1ray.training.memory import Architecture, MemoryEstimate, estimate
from s1ray.training.metrics import METRICS_FILE, Progress, read_metrics
from s1ray.training.schedule import steps_per_epoch, warmup_steps

log = logging.getLogger("s1ray")

CHECKPOINTS_FOLDER = "checkpoints"
RECORDED_IDS = 1000
"""Ids of dropped rows that the manifest lists at most."""


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """The examples of a run, checked."""

    examples: list[Example]
    unusable: list[Unusable]
    num_traces: int


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


def plan(config: TrainingConfig) -> list[str]:
    """What a run would do: rows, steps, tokens, layout, memory. Reads and tokenises the traces; starts nothing."""
    training_set = prepare(config)
    examples = training_set.examples
    lengths = [len(example.input_ids) for example in examples]
    per_epoch = steps_per_epoch(len(examples), config.global_batch)
    total = per_epoch * config.epochs
    layouts = [
        lay_out(
            lengths,
            global_batch(step, len(examples), config.global_batch, config.seed),
            num_workers=config.num_workers,
            micro_batch_tokens=config.micro_batch,
            packing=config.packing,
        )
        for step in range(per_epoch)
    ]
    accumulation = [len(layout[0]) for layout in layouts]
    waste = sum(padding(layout, lengths, config.packing) for layout in layouts) / len(layouts)
    lines = [
        f"{len(examples):,} of {training_set.num_traces:,} traces, {sum(lengths):,} tokens an epoch "
        f"({sum(sum(e.loss_mask) for e in examples):,} trained), longest {max(lengths):,}",
        f"{total:,} optimizer steps ({config.epochs} epochs of {per_epoch}), "
        f"{warmup_steps(total, config.optimizer)} of warm-up",
        f"{config.num_workers} worker(s), {min(accumulation)} to {max(accumulation)} micro-batches a step each, "
        f"{100 * waste:.1f} % padding",
        _memory_line(config),
    ]
    if training_set.unusable:
        lines.extend(explain(training_set.unusable).splitlines())
    return lines


def prepare(config: TrainingConfig) -> TrainingSet:
    """Read the traces and make the examples.

    Raises:
        ConfigError: rows are unusable and the config refuses them, or none is left, or the tokenizer does not fit.
    """
    table = read_table(config.traces, Trace)
    traces = [Trace(**row) for row in table.to_pylist()]
    _check_ids(traces, config.traces)
    try:
        renderer = ChatRenderer(_load_tokenizer(config), config.format, config.conditional_control)
        examples, unusable = build_examples(traces, renderer, config.max_length)
    except ValueError as error:
        raise ConfigError(f"model {config.model}, thinking_format {config.thinking_format}: {error}") from error
    if unusable:
        if config.unusable_rows == "refuse":
            raise ConfigError(
                f"{config.traces}: {explain(unusable)}\nmend the rows, raise max_length where they are too long, or "
                "set unusable_rows: drop"
            )
        log.warning("train: dropping %s", explain(unusable))
    if not examples:
        raise ConfigError(f"{config.traces}: no usable row of {len(traces)}")
    return TrainingSet(examples, unusable, len(traces))


def _check_ids(traces: list[Trace], path: str) -> None:
    seen: set[str] = set()
    for trace in traces:
        if trace.id in seen:
            raise ConfigError(f"{path}: id {trace.id!r} occurs twice; every trace needs an id of its own")
        seen.add(trace.id)


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


def _load_tokenizer(config: TrainingConfig) -> Any:
    from transformers import AutoTokenizer

    model = resolve_model(config.model)
    try:
        return AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model {config.model}: no tokenizer could be loaded from {model}; give a Hugging Face id that can be "
            f"reached, or a folder with tokenizer files ({str(error).splitlines()[0]})"
        ) from error


def _memory_line(config: TrainingConfig) -> str:
    architecture = _architecture(config)
    if architecture is None:
        return "memory: not estimated (the model's config cannot be read)"
    memory = estimate(architecture, config)
    parts = ", ".join(
        f"{name} {_size(getattr(memory, name))}" for name in (f.name for f in dataclasses.fields(MemoryEstimate))
    )
    return f"about {_size(memory.total)} a worker for {architecture.parameters / 1e6:,.1f}M parameters ({parts})"


def _size(number: int) -> str:
    return f"{number / 2**30:,.1f} GiB" if number >= 2**30 else f"{number / 2**20:,.0f} MiB"


def _architecture(config: TrainingConfig) -> Architecture | None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        model_config = AutoConfig.from_pretrained(resolve_model(config.model))
    except (OSError, ValueError):
        return None
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config)
    text = model_config.get_text_config()
    return Architecture(
        parameters=sum(p.numel() for p in model.parameters()),
        layers=text.num_hidden_layers,
        hidden_size=text.hidden_size,
        vocabulary=text.vocab_size,
    )
