"""The trained model as a Hugging Face folder: safetensors, tokenizer, chat template, generation config.

Weights are written a few at a time, in files of at most `SHARD_BYTES`, so that in addition to its part of the model a
worker never holds more than one file's worth. On the way they are gathered from all workers under ZeRO-3, and the
updates are added to them under LoRA. The first worker writes; all must take part.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from s1ray.storage import remove, write_json
from s1ray.training.config import TrainingConfig
from s1ray.training.model.engine import Engine, barrier
from s1ray.training.model.lora import BASE, UPDATE, merge

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

SHARD_BYTES = 5 * 10**9
"""Size of the largest file of weights: good for Hugging Face's hub, and what the first worker must have free."""
POLL_SECONDS = 0.5
"""Time between two checks whether the first worker has finished writing."""


def export(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    turn_end: str,
    config: TrainingConfig,
    folder: Path,
    *,
    rank: int,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the model to `folder`, whole or not at all; every worker must call it.

    Args:
        turn_end: the text that ends an assistant's turn: its first token joins the generation config's stop tokens.
        shard_bytes: most bytes of one file, unless a single weight is larger.
    """
    # A fixed name, because the other workers wait for it to disappear, and what a killed attempt left is replaced.
    temporary = folder.with_name(f".{folder.name}.tmp")
    if rank == 0:
        remove(temporary)
        temporary.mkdir(parents=True)
    barrier()
    if config.lora is not None and config.lora.export == "adapter":
        _write_adapter(engine, config, temporary if rank == 0 else None)
    else:
        _write_model(engine, tokenizer, turn_end, config, temporary if rank == 0 else None, shard_bytes)
    if rank == 0:
        tokenizer.save_pretrained(temporary)
        for file in temporary.rglob("*"):
            # safetensors makes files that only their owner can read, but another user often serves the model.
            file.chmod(0o755 if file.is_dir() else 0o644)
        remove(folder)
        os.replace(temporary, folder)
    # A collective would time out on a slow disk; if the first worker fails, Ray Train ends the others as well.
    while rank != 0 and temporary.exists():
        time.sleep(POLL_SECONDS)
    barrier()


class ShardWriter:
    """Writes weights to safetensors files as they come, and at the end the index of which file has which."""

    def __init__(self, folder: Path, shard_bytes: int):
        self._folder = folder
        self._limit = shard_bytes
        self._pending: dict[str, torch.Tensor] = {}
        self._shards: list[list[str]] = []
        self._bytes = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Add a weight; if it would make the current file too large, that file is written first."""
        if self._pending and _bytes(*self._pending.values(), tensor) > self._limit:
            self._flush()
        self._pending[name] = tensor.contiguous()
        self._bytes += _bytes(tensor)

    def close(self) -> None:
        """Write what is left, and give the files their final names, as their number is known only now."""
        self._flush()
        count = len(self._shards)
        names = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
        if count == 1:
            names = ["model.safetensors"]
        for number, name in enumerate(names):
            os.replace(self._part(number), self._folder / name)
        if count > 1:
            index = {
                "metadata": {"total_size": self._bytes},
                "weight_map": {w: name for name, weights in zip(names, self._shards, strict=True) for w in weights},
            }
            write_json(self._folder / "model.safetensors.index.json", index)

    def _flush(self) -> None:
        from safetensors.torch import save_file

        save_file(self._pending, self._part(len(self._shards)), metadata={"format": "pt"})
        self._shards.append(list(self._pending))
        self._pending = {}

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number}.safetensors"


def _write_model(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    turn_end: str,
    config: TrainingConfig,
    folder: Path | None,
    shard_bytes: int,
) -> None:
    model, dtype = engine.model, getattr(torch, config.export_dtype)
    if folder is not None:
        model.config.dtype = dtype
        # The attention function of training is not registered where the model is loaded.
        model.config._attn_implementation = None
        model.generation_config.eos_token_id = _stop_tokens(model.generation_config, tokenizer, turn_end)
        _fix(model.generation_config)
    pieces = _pieces(model, config, dtype, keep=folder is not None)
    if getattr(model, "_weight_conversions", None):
        # transformers rearranges the files of this family on loading; undoing that takes all weights at once.
        weights = dict(itertools.chain.from_iterable(piece.items() for piece in pieces))
        if folder is not None:
            model.save_pretrained(folder, state_dict=weights, max_shard_size=shard_bytes)
        return
    writer = None if folder is None else ShardWriter(folder, shard_bytes)
    for piece in pieces:
        for name, tensor in piece.items():
            if writer is not None:
                writer.add(name, tensor)
    if writer is not None and folder is not None:
        writer.close()
        model.config.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)


def _write_adapter(engine: Engine, config: TrainingConfig, folder: Path | None) -> None:
    assert engine.adapter is not None
    model, dtype = engine.model, getattr(torch, config.export_dtype)
    updates = {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if UPDATE in name}
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in updates.items():
        weights |= _gathered({name: tensor}, config, dtype, keep=folder is not None)
    if folder is not None:
        settings = engine.adapter.peft_config["default"]
        settings.base_model_name_or_path = config.model
        engine.adapter.save_pretrained(
            str(folder), state_dict={f"base_model.model.{name}": tensor for name, tensor in weights.items()}
        )


def _pieces(
    model: PreTrainedModel, config: TrainingConfig, dtype: torch.dtype, *, keep: bool
) -> Iterator[dict[str, torch.Tensor]]:
    """The model's weights on the CPU, one layer and its updates at a time; empty mappings unless `keep`."""
    seen: set[int] = set()
    tensors = []
    for name, tensor in model.state_dict(keep_vars=True).items():
        # Tied weights are written once, under the first of their names, as transformers does.
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors.append((name, tensor))
    for _, group in itertools.groupby(tensors, key=lambda entry: _layer(entry[0])):
        piece = _gathered(dict(group), config, dtype, keep=keep)
        yield merge(piece, config.lora) if keep and config.lora is not None else piece


def _layer(name: str) -> str:
    """The name of the layer that a weight and its updates belong to; the weight's own where there are no updates."""
    for part in (BASE + ".", UPDATE):
        if part in name:
            return name.split(part)[0]
    return name


def _gathered(
    tensors: dict[str, torch.Tensor], config: TrainingConfig, dtype: torch.dtype, *, keep: bool
) -> dict[str, torch.Tensor]:
    """Whole copies on the CPU in `dtype`; empty unless `keep`."""
    whole: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if config.zero_stage == 3:
        import deepspeed

        whole = deepspeed.zero.GatheredParameters([t for t in tensors.values() if isinstance(t, torch.nn.Parameter)])
    with whole:
        return {name: _copy(tensor, dtype) for name, tensor in tensors.items()} if keep else {}


def _copy(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype, copy=True)


def _bytes(*tensors: torch.Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _fix(generation_config: GenerationConfig) -> None:
    """Make transformers accept a generation config: many published ones have a temperature without sampling."""
    try:
        generation_config.validate(strict=True)
    except ValueError:
        generation_config.do_sample = True


def _stop_tokens(generation_config: GenerationConfig, tokenizer: PreTrainedTokenizerBase, turn_end: str) -> list[int]:
    known = generation_config.eos_token_id
    stop = [known] if isinstance(known, int) else list(known or ())
    turn_end_id = tokenizer(turn_end.strip(), add_special_tokens=False)["input_ids"][0]
    for token in (turn_end_id, tokenizer.eos_token_id):
        if token is not None and token not in stop:
            stop.append(token)
    return stop
