"""What a run would do, before anything is started: rows, steps, layout, memory (`s1ray train --dry-run`)."""

from __future__ import annotations

import dataclasses

from s1ray.config import resolve_model
from s1ray.training.batching import global_batch, lay_out, padding
from s1ray.training.config import TrainingConfig
from s1ray.training.examples import explain
from s1ray.training.memory import Architecture, MemoryEstimate, estimate
from s1ray.training.preparation import prepare
from s1ray.training.schedule import steps_per_epoch, warmup_steps


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
