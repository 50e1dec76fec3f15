"""The trained model as a Hugging Face folder: safetensors, tokenizer, chat template, generation config.

Weights are written a few at a time, in files of at most `SHARD_BYTES`, so that in addition to its part of the model a
worker never holds more than one file's worth. On the way they are gathered from all workers under ZeRO-3, and the
updates are added to them under LoRA. The first worker writes; all must take part.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from s1ray.manifests import RunError
from s1ray.storage import Location, StorePath, remove, write_json, writing
from s1ray.training.config import TrainingConfig
from s1ray.training.model.engine import Engine
from s1ray.training.model.lora import BASE, UPDATE, merge
from s1ray.training.model.quantization import widened
from s1ray.training.model.readers import copy_processor, join_config, write_tokenizer

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

ABOUT = "config.json"
"""Where it is, a model is there: a store gets it last."""
GENERATION_CONFIG = "generation_config.json"
SHARD_BYTES = 5 * 10**9
"""Size of the largest file of weights: good for Hugging Face's hub, and what the first worker must have free."""


def export(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    turn_end: str,
    config: TrainingConfig,
    folder: Location,
    *,
    rank: int,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the model to `folder`, whole or not at all; every worker must call it.

    The folder is there once the call has returned on the first worker.

    Args:
        turn_end: the text that ends an assistant's turn: its first token joins the generation config's stop tokens.
        shard_bytes: most bytes of one file, unless a single weight is larger.

    Raises:
        RunError: on the first worker, once all have gathered all weights: the folder cannot be written.
    """
    adapter = config.lora is not None and config.lora.export == "adapter"
    pieces = (_updates if adapter else _pieces)(engine.model, config, keep=rank == 0)
    try:
        if rank == 0:
            with _writing(folder) as temporary:
                if adapter:
                    _write_adapter(engine, config, temporary, pieces)
                else:
                    _write_model(engine.model, tokenizer, turn_end, config, temporary, pieces, shard_bytes)
                commit = getattr(engine.model.config, "_commit_hash", None)
                join_config(temporary, config.model, commit)
                if not adapter:
                    copy_processor(temporary, config.model, commit)
                if config.tokenizer is None:
                    write_tokenizer(temporary, tokenizer, config.model, commit)
                else:
                    write_tokenizer(temporary, tokenizer, config.tokenizer, None)
    finally:
        # All workers take part in gathering every weight, also after the first one has failed to write one.
        for _ in pieces:
            pass


@contextlib.contextmanager
def _writing(folder: Location) -> Iterator[Path]:
    """A temporary folder that takes the place of `folder` at the end of the block."""
    if isinstance(folder, StorePath):
        with _told(folder), writing(folder, last=[ABOUT]) as temporary:
            temporary.mkdir()
            yield temporary
        return
    # A fixed name: what a killed attempt left is replaced.
    temporary = folder.with_name(f".{folder.name}.tmp")
    with _told(folder):
        try:
            remove(temporary)
            temporary.mkdir(parents=True)
            yield temporary
            for file in temporary.rglob("*"):
                # safetensors makes files that only their owner can read, but another user often serves the model.
                file.chmod(0o755 if file.is_dir() else 0o644)
            remove(folder)
            os.replace(temporary, folder)
        except Exception:
            with contextlib.suppress(OSError):
                remove(temporary)
            raise


@contextlib.contextmanager
def _told(folder: Location) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # safetensors and tokenizers report the errors of the operating system as exceptions of their own.
        if isinstance(error, OSError) or "(os error " in str(error):
            raise RunError(f"{folder}: the model cannot be written: {error}") from error
        raise


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
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    turn_end: str,
    config: TrainingConfig,
    folder: Path,
    pieces: Iterator[dict[str, torch.Tensor]],
    shard_bytes: int,
) -> None:
    if getattr(model, "_weight_conversions", None):
        # transformers rearranges the files of this family on loading; undoing that takes all weights at once.
        weights = dict(itertools.chain.from_iterable(piece.items() for piece in pieces))
        with _as_published(model, config):
            model.save_pretrained(folder, state_dict=weights, max_shard_size=shard_bytes)
    else:
        writer = ShardWriter(folder, shard_bytes)
        for piece in pieces:
            for name, tensor in piece.items():
                writer.add(name, tensor)
        writer.close()
        with _as_published(model, config):
            model.config.save_pretrained(folder)
    generation_config = copy.deepcopy(model.generation_config)
    known = None if config.tokenizer is not None else generation_config.eos_token_id
    generation_config.eos_token_id = _stop_tokens(known, tokenizer, turn_end)
    _fix(generation_config)
    # As plain JSON: transformers refuses to save what many published models have in theirs.
    write_json(folder / GENERATION_CONFIG, json.loads(generation_config.to_json_string()))


@contextlib.contextmanager
def _as_published(model: PreTrainedModel, config: TrainingConfig) -> Iterator[None]:
    """Inside the block the model's config is that to publish; afterwards training can go on with its own."""
    from transformers import GenerationConfig

    dtype, attention = model.config.dtype, model.config._attn_implementation
    generation_config = model.generation_config
    model.config.dtype = getattr(torch, config.export_dtype)
    # The attention function of training is not registered where the model is loaded.
    model.config._attn_implementation = None
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.config.dtype, model.config._attn_implementation = dtype, attention
        model.generation_config = generation_config


def _write_adapter(
    engine: Engine, config: TrainingConfig, folder: Path, pieces: Iterator[dict[str, torch.Tensor]]
) -> None:
    assert engine.adapter is not None
    settings = engine.adapter.peft_config["default"]
    settings.base_model_name_or_path = config.model
    weights = {f"base_model.model.{name}": tensor for piece in pieces for name, tensor in piece.items()}
    engine.adapter.save_pretrained(str(folder), state_dict=weights)


def _updates(model: PreTrainedModel, config: TrainingConfig, *, keep: bool) -> Iterator[dict[str, torch.Tensor]]:
    """LoRA's updates on the CPU, one at a time; empty mappings unless `keep`."""
    for name, tensor in model.state_dict(keep_vars=True).items():
        if UPDATE in name:
            yield _gathered(model, {name: tensor}, config, keep=keep)


def _pieces(model: PreTrainedModel, config: TrainingConfig, *, keep: bool) -> Iterator[dict[str, torch.Tensor]]:
    """The model's weights on the CPU, one layer and its updates at a time; empty mappings unless `keep`."""
    seen: set[int] = set()
    tensors = []
    for name, tensor in model.state_dict(keep_vars=True).items():
        # Tied weights are written once, under the first of their names, as transformers does.
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors.append((name, tensor))
    for _, group in itertools.groupby(tensors, key=lambda entry: _layer(entry[0])):
        piece = _gathered(model, dict(group), config, keep=keep)
        yield merge(piece, config.lora) if keep and config.lora is not None else piece


def _layer(name: str) -> str:
    """The name of the layer that a weight and its updates belong to; the weight's own where there are no updates."""
    for part in (BASE + ".", UPDATE):
        if part in name:
            return name.split(part)[0]
    return name


def _gathered(
    model: PreTrainedModel, tensors: dict[str, torch.Tensor], config: TrainingConfig, *, keep: bool
) -> dict[str, torch.Tensor]:
    """Whole copies on the CPU in the exported precision; empty unless `keep`.

    Buffers keep the precision that they have in training, and what a family always has in fp32 is written so.
    """
    dtype = getattr(torch, config.export_dtype)
    whole: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if config.zero_stage == 3:
        import deepspeed

        whole = deepspeed.zero.GatheredParameters([t for t in tensors.values() if isinstance(t, torch.nn.Parameter)])
    with whole:
        return {
            name: _copy(tensor, _dtype_of(model, name, tensor) or dtype) for name, tensor in tensors.items() if keep
        }


def _dtype_of(model: PreTrainedModel, name: str, tensor: torch.Tensor) -> torch.dtype | None:
    """The precision of a weight that does not have the export's."""
    if not isinstance(tensor, torch.nn.Parameter):
        return tensor.dtype
    # Looked for as transformers does when it loads: anywhere in the name.
    always = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
    return torch.float32 if any(re.search(part.replace("*", ".*"), name) for part in always) else None


def _copy(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    whole = widened(tensor).detach()
    return whole.to("cpu", dtype if whole.is_floating_point() else whole.dtype, copy=True)


def _bytes(*tensors: torch.Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _fix(generation_config: GenerationConfig) -> None:
    """Turn sampling on where that is what transformers misses: many published configs have a temperature without it."""
    if not _is_valid(generation_config):
        before, generation_config.do_sample = generation_config.do_sample, True
        if not _is_valid(generation_config):
            generation_config.do_sample = before


def _is_valid(generation_config: GenerationConfig) -> bool:
    try:
        generation_config.validate(strict=True)
    except ValueError:
        return False
    return True


def _stop_tokens(known: int | list[int] | None, tokenizer: PreTrainedTokenizerBase, turn_end: str) -> list[int]:
    """The tokens that end a response.

    Args:
        known: those of the base model, which mean something else to another tokenizer.
    """
    stop = [known] if isinstance(known, int) else list(known or ())
    turn_end_id = tokenizer(turn_end.strip(), add_special_tokens=False)["input_ids"][0]
    for token in (turn_end_id, tokenizer.eos_token_id):
        if token is not None and token not in stop:
            stop.append(token)
    return stop
