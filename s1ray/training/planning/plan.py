"""What a run would do, before anything starts: rows, steps, layout, memory (`s1ray train --dry-run`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from s1ray.config import ConfigError
from s1ray.training.accuracy.questions import accuracy_lines
from s1ray.training.config import TrainingConfig
from s1ray.training.data.batching import BY_TOKENS, Layout, RowCost, busy_share, global_batch, lay_out, padding
from s1ray.training.data.dataset import Dataset
from s1ray.training.data.examples import explain
from s1ray.training.data.preparation import prepare
from s1ray.training.data.schedule import steps_per_epoch, warmup_steps
from s1ray.training.data.sources import check_there
from s1ray.training.model.checks import check_heads
from s1ray.training.planning.architecture import network_without_weights, read_architecture, row_cost
from s1ray.training.planning.busy import busy_lines
from s1ray.training.planning.disk import DiskNeed, disk_line, disk_need
from s1ray.training.planning.hardware import Hardware, find_hardware
from s1ray.training.planning.memory import Architecture, MemoryEstimate, Workload, estimate
from s1ray.training.planning.memory_advice import advise, fits, host_need, options_for, size
from s1ray.training.planning.requirements import check_ids, check_requirements


def plan(config: TrainingConfig) -> list[str]:
    """What a run would do, a line each. Reads and tokenises the traces; starts nothing.

    Raises:
        ConfigError: the model, the tokenizer or the rows do not fit the config.
        MissingError: there are no traces.
    """
    # Whether the traces are there is known at once; the model may be asked for on the hub.
    check_there(config.traces)
    check_requirements(config)
    training_set = prepare(config)
    check_ids(config, training_set.largest_id)
    rows = Rows.of(training_set.examples, config)
    per_epoch = steps_per_epoch(len(rows.lengths), config.global_batch)
    total = per_epoch * config.epochs
    layouts = rows.layouts(config, per_epoch)
    accumulation = [len(layout[0]) for layout in layouts]
    waste = sum(padding(layout, rows.lengths, config.packing) for layout in layouts) / len(layouts)
    lines = [
        f"{len(rows.lengths):,} of {training_set.num_traces:,} traces, {sum(rows.lengths):,} tokens an epoch "
        f"({sum(rows.trained):,} trained), longest {max(rows.lengths):,}",
        f"{total:,} optimizer steps ({config.epochs} epochs of {per_epoch}), "
        f"{warmup_steps(total, config.optimizer)} of warm-up",
        f"{config.num_workers} worker(s), {min(accumulation)} to {max(accumulation)} micro-batches a step each, "
        f"{100 * waste:.1f} % padding",
        *busy_lines(config, lambda changed: rows.busy(changed, per_epoch), lambda size: _heads_divide(config, size)),
        *memory_lines(config, rows),
        *(disk_line(need) for need in disk_needs(config, total)),
    ]
    lines.extend(accuracy_lines(config, total))
    if training_set.held_out:
        lines.insert(1, f"{len(training_set.held_out):,} traces held out to measure the loss on")
    if training_set.template_date is not None:
        lines.append(f"the chat template writes a date: {training_set.template_date}, also when the run is resumed")
    if training_set.unusable:
        lines.extend(explain(training_set.unusable).splitlines())
    return lines


@dataclasses.dataclass(frozen=True)
class Rows:
    """The sizes of the training rows."""

    lengths: Sequence[int]
    trained: Sequence[int]
    cost: RowCost = BY_TOKENS
    """Of the model that is trained on them."""

    @classmethod
    def of(cls, examples: Dataset, config: TrainingConfig) -> Rows:
        """The sizes of some examples, and their cost for a config's model."""
        return cls(examples.lengths, examples.trained, row_cost(network_without_weights(config.model).config))

    def layouts(self, config: TrainingConfig, steps: int) -> list[Layout]:
        """How the examples of the first steps are spread over the workers."""
        return [self._layout(config, step) for step in range(steps)]

    def _layout(self, config: TrainingConfig, step: int) -> Layout:
        return lay_out(
            self.lengths,
            global_batch(step, len(self.lengths), config.global_batch, config.seed),
            num_workers=config.data_parallel,
            micro_batch_tokens=config.micro_batch,
            packing=config.packing,
            cost=self.cost,
        )

    def busy(self, config: TrainingConfig, steps: int) -> float:
        """The part of their time in the first steps that the workers are busy, 0 to 1."""
        return busy_share(self.layouts(config, steps), self.lengths, config.packing, self.cost)

    def workload(self, config: TrainingConfig) -> Workload:
        """The largest micro-batch of any step of the run."""
        steps = steps_per_epoch(len(self.lengths), config.global_batch) * config.epochs
        tokens = trained = 0
        several = accumulates = False
        # One step at a time: a large run has hundreds of thousands.
        for step in range(steps):
            layout = self._layout(config, step)
            accumulates |= len(layout[0]) > 1
            for batch in (batch for worker in layout for batch in worker if batch):
                lengths = [self.lengths[index] for index in batch]
                tokens = max(tokens, sum(lengths) if config.packing else len(batch) * max(lengths))
                trained = max(trained, sum(self.trained[index] for index in batch))
                several |= config.packing and len(batch) > 1
        tokens = -(-tokens // config.sequence_parallel)
        # All trained tokens of a shared row may belong to one worker.
        return Workload(
            tokens=tokens,
            trained_tokens=min(trained, tokens),
            several_examples=several,
            accumulates=accumulates,
        )


def _heads_divide(config: TrainingConfig, size: int) -> bool:
    try:
        check_heads(network_without_weights(config.model).config, size, config.model)
    except ConfigError:
        return False
    return True


def disk_needs(config: TrainingConfig, total_steps: int) -> list[DiskNeed]:
    """The room that the run needs in its folder."""
    architecture = read_architecture(config)
    decided = config if config.precision != "auto" else _decided(config, find_hardware(config))
    return [disk_need(decided, architecture, total_steps=total_steps)]


def memory_lines(config: TrainingConfig, rows: Rows) -> list[str]:
    """How much memory the run needs, whether the hardware has it, and which settings would help if not."""
    architecture = read_architecture(config)
    hardware = find_hardware(config)
    config = _decided(config, hardware)
    memory = estimate_for(config, architecture, rows, hardware)
    return [
        _device_line(memory, architecture, hardware),
        f"  most of it at the moment of the {memory.peak_moment}: {_parts(memory)}",
        _host_line(memory, hardware),
        *_verdict(config, architecture, rows, hardware, memory),
    ]


def memory_warning(config: TrainingConfig, rows: Rows) -> str | None:
    """The same lines for a run that is about to start, if it does not fit what the cluster has now."""
    lines = memory_lines(config, rows)
    return "\n".join(lines) if any("does NOT fit" in line for line in lines) else None


def estimate_for(config: TrainingConfig, architecture: Architecture, rows: Rows, hardware: Hardware) -> MemoryEstimate:
    """The memory estimate of a run with these rows on this hardware."""
    if config.lora is not None and architecture.trained is None:
        architecture = read_architecture(config)
    return estimate(architecture, config, rows.workload(config), on_gpu=hardware.on_gpu)


def _decided(config: TrainingConfig, hardware: Hardware) -> TrainingConfig:
    """The config with `precision: auto` decided for the hardware."""
    if hardware.on_gpu and config.precision == "auto":
        return config.model_copy(update={"precision": "bf16"})
    import torch

    from s1ray.training.model.engine import resolve_precision

    return resolve_precision(config, torch.device("cpu"))


def _device_line(memory: MemoryEstimate, architecture: Architecture, hardware: Hardware) -> str:
    count = f"{architecture.parameters / 1e6:,.1f}M parameters"
    if not hardware.on_gpu:
        return f"memory: {size(memory.total)} a worker for {count}"
    there = "an unknown amount" if hardware.device_memory is None else size(hardware.device_memory)
    return f"memory: {size(memory.total)} of {there} on each GPU for {count} ({hardware.source})"


def _parts(memory: MemoryEstimate) -> str:
    parts = memory.moments[memory.peak_moment]
    return ", ".join(f"{name} {size(number)}" for name, number in parts.items() if number)


def _host_line(memory: MemoryEstimate, hardware: Hardware) -> str:
    there = "" if hardware.host_memory is None else f" of {size(hardware.host_memory)}"
    offloaded = f", {size(memory.host)} of each worker's states offloaded" if memory.host else ""
    if memory.loading:
        offloaded += f", {size(memory.loading)} of each worker's on loading a mixture of experts"
    return (
        f"  host memory: {size(host_need(memory, hardware))}{there} on each node of {hardware.workers_per_node} "
        f"worker(s){offloaded}"
    )


def _verdict(
    config: TrainingConfig, architecture: Architecture, rows: Rows, hardware: Hardware, memory: MemoryEstimate
) -> list[str]:
    enough = fits(memory, hardware)
    if enough:
        return ["  it fits"]
    if enough is None:
        return ["  whether it fits is unknown; set accelerator_type, or run this on the cluster"]
    options = options_for(config, architecture, hardware, max(rows.lengths))
    advice = advise(config, lambda changed: estimate_for(changed, architecture, rows, hardware), hardware, options)
    if not advice:
        return ["  it does NOT fit, nor would it with any setting known here; use a smaller model or more memory"]
    return ["  it does NOT fit; it would with", *(f"    {found}" for found in advice)]
