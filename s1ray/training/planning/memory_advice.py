"""Whether a run fits its hardware, and which settings would make it fit.

Advice is tried, not guessed: each setting that could help is put into the config, and memory is estimated again. The
advice names every setting that is enough by itself; where none is, a smallest set of settings that is enough together,
tried in the order of what they cost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

from pydantic import JsonValue

from s1ray.training.config import TrainingConfig
from s1ray.training.planning.hardware import Hardware
from s1ray.training.planning.memory import Architecture, MemoryEstimate

HEADROOM = 0.95
"""Part of a device's memory that can be used; the allocator loses the rest to fragmentation."""
CPU_HEADROOM = 0.8
"""Likewise of the main memory that CPU workers share: fragmentation of glibc's heap takes about a sixth."""
CPU_LORA_HEADROOM = 0.6
"""The same under LoRA, where almost everything comes and goes with each layer: it takes more than a third."""
HOST_RUNTIME = 3 * 2**30
"""Main memory of a worker's process on a GPU: libraries, CUDA's host side, communication."""
CPU_RUNTIME = 1 * 2**30
"""Main memory of a worker's process on CPUs, in addition to the estimate."""

Estimator = Callable[[TrainingConfig], MemoryEstimate]


@dataclasses.dataclass(frozen=True)
class Advice:
    """Settings that would make a run fit."""

    settings: tuple[str, ...]
    """As they are written in the YAML file."""
    device_bytes: int
    """The peak of a worker with them."""

    def __str__(self) -> str:
        return f"{' and '.join(self.settings)} ({size(self.device_bytes)})"


def host_need(memory: MemoryEstimate, hardware: Hardware) -> int:
    """Main memory that a node needs for all its workers."""
    if hardware.on_gpu:
        return hardware.workers_per_node * (HOST_RUNTIME + max(memory.host, memory.loading))
    return hardware.workers_per_node * (CPU_RUNTIME + max(memory.total, memory.loading))


def fits(memory: MemoryEstimate, hardware: Hardware) -> bool | None:
    """Whether the run fits; None: the hardware's memory is not known."""
    known: list[bool | None] = []
    if hardware.on_gpu:
        known.append(None if hardware.device_memory is None else memory.total <= HEADROOM * hardware.device_memory)
    if hardware.host_memory is not None:
        on_cpu = CPU_LORA_HEADROOM if memory.updates_only else CPU_HEADROOM
        part = HEADROOM if hardware.on_gpu else on_cpu
        known.append(host_need(memory, hardware) <= part * hardware.host_memory)
    if False in known:
        return False
    return None if None in known or not known else True


def advise(config: TrainingConfig, estimate: Estimator, hardware: Hardware, options: Iterable[Option]) -> list[Advice]:
    """Settings that would make the run fit, the cheapest first; empty: none of those known here would."""
    options = list(options)
    alone = [found for option in options if (found := _try(config, [option], estimate, hardware)) is not None]
    if alone:
        return alone
    for count in range(2, len(options) + 1):
        if (found := _try(config, options[:count], estimate, hardware)) is not None:
            return [_shortened(found, config, options[:count], estimate, hardware)]
    return []


@dataclasses.dataclass(frozen=True)
class Option:
    """A setting that saves memory."""

    text: str
    """As it is written in the YAML file."""
    changes: dict[str, JsonValue]
    """Fields of the config."""


def options_for(
    config: TrainingConfig, architecture: Architecture, hardware: Hardware, longest_row: int
) -> Iterator[Option]:
    """The settings that could still save memory, the cheapest first."""
    workers = config.num_workers
    if config.micro_batch > longest_row:
        # No example needs more; a larger micro-batch only packs more of them together.
        shorter: dict[str, JsonValue] = {
            "max_length": min(config.max_length, longest_row),
            "micro_batch_tokens": longest_row,
        }
        yield Option(f"micro_batch_tokens: {longest_row}, max_length: {longest_row}", shorter)
    if config.logits_chunk > 1024:
        yield Option("logits_chunk: 1024", {"logits_chunk": 1024})
    for stage in range(max(config.zero_stage + 1, 1), 4):
        if workers > 1:
            yield Option(f"zero_stage: {stage}", {"zero_stage": stage})
    if not config.gradient_checkpointing:
        yield Option("gradient_checkpointing: true", {"gradient_checkpointing": True})
    shared = architecture.key_value_heads
    for degree in (2, 4, 8):
        divides = workers % degree == 0 and architecture.heads % degree == 0
        divides = divides and (shared % degree == 0 or degree % shared == 0)
        if divides and degree > config.sequence_parallel and config.packing and degree <= hardware.workers_per_node:
            yield Option(f"sequence_parallel: {degree}", {"sequence_parallel": degree})
    if hardware.on_gpu:
        optimizer: dict[str, JsonValue] = {"optimizer": "cpu", "parameters": config.offload.parameters}
        if config.offload.optimizer == "none" and config.zero_stage > 0:
            yield Option("offload.optimizer: cpu", {"offload": optimizer})
        if config.offload.parameters == "none":
            everything: dict[str, JsonValue] = {"offload": {"optimizer": "cpu", "parameters": "cpu"}, "zero_stage": 3}
            text = "offload.optimizer: cpu, offload.parameters: cpu"
            yield Option(text if config.zero_stage == 3 else f"{text}, zero_stage: 3", everything)
    if config.zero_stage > 0:
        for factor in (2, 4):
            yield Option(f"num_workers: {workers * factor}", {"num_workers": workers * factor})
    if config.lora is None:
        yield Option("lora: {}", {"lora": {}})
    elif hardware.on_gpu and config.lora.quantize == "none" and config.zero_stage < 3:
        yield Option("lora.quantize: nf4", {"lora": config.lora.model_dump() | {"quantize": "nf4"}})


def _try(config: TrainingConfig, options: list[Option], estimate: Estimator, hardware: Hardware) -> Advice | None:
    changes: dict[str, JsonValue] = {}
    for option in options:
        changes |= option.changes
    try:
        changed = TrainingConfig.model_validate(config.model_dump() | changes)
    except ValueError:
        return None
    memory = estimate(changed)
    if not fits(memory, hardware):
        return None
    return Advice(tuple(option.text for option in options), memory.total)


def _shortened(
    advice: Advice, config: TrainingConfig, options: list[Option], estimate: Estimator, hardware: Hardware
) -> Advice:
    """The advice without the settings that it does not need."""
    for option in list(options):
        rest = [other for other in options if other is not option]
        if (found := _try(config, rest, estimate, hardware)) is not None:
            advice, options = found, rest
    return advice


def size(number: int) -> str:
    """Bytes as text."""
    return f"{number / 2**30:,.1f} GiB" if number >= 2**30 else f"{number / 2**20:,.0f} MiB"
