"""What a model's folder says, read as vLLM reads it: its weights' files, its tokenizer, its context and its heads.

Only headers and JSON are read, and nothing heavy is imported, so it takes milliseconds for any size of model.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from s1ray.errors import InputError

CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
"""Keys of a config.json that limit a model's context; vLLM takes the smallest."""

UNSCALED_ROPE = ("su", "longrope", "llama3")
"""Kinds of RoPE whose `factor` is already in `max_position_embeddings`."""

WEIGHTS = ("*.safetensors", "*.bin", "*.pt")
"""Files of weights; vLLM takes the first kind that is there."""

SHARD = re.compile(r"(.*-)(\d{5})(-of-)(\d{5})(\.\w+)")
"""A shard's file name, "model-00001-of-00004.safetensors"."""

NO_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|rng_state|scaler|adapter_model).*")
"""What training leaves beside the weights, under names like theirs."""

TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "tekken.json", "*.model", "*.tiktoken")
"""Files that hold a tokenizer, one of which a folder needs."""

LFS_POINTER = b"version https://git-lfs"
MAX_HEADER_BYTES = 100_000_000
"""The safetensors format's own limit."""

LISTED = 3
"""Missing files that a message names."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's object.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); copy the model's files again") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} must hold a JSON object, not a {type(data).__name__}; copy the model's files again")
    return data


def text_config(config: Mapping[str, Any], overrides: object = None) -> dict[str, Any]:
    """The part of a config.json that describes the language model, with vLLM's `hf_overrides`."""
    merged = dict(config) | (overrides if isinstance(overrides, dict) else {})
    inner = merged.get("text_config")
    return merged | inner if isinstance(inner, dict) else merged


def context_length(text: Mapping[str, Any]) -> int | None:
    """The longest context that a model allows, in tokens, RoPE scaling included; None where it does not say.

    Args:
        text: of `text_config`.
    """
    limits = [text[key] for key in CONTEXT_KEYS if _is_number(text.get(key))]
    if not limits:
        return None
    length = text["model_max_length"] if _is_number(text.get("model_max_length")) else min(limits)
    rope = text.get("rope_parameters") or text.get("rope_scaling")
    if not isinstance(rope, dict) or "gemma3" in str(text.get("model_type")):
        return int(length)
    # One for each kind of layer, or a single one.
    kinds = list(rope.values()) if all(isinstance(value, dict) for value in rope.values()) else [rope]
    factor = 1.0
    for kind in kinds:
        name = kind.get("rope_type", kind.get("type", "default"))
        if name in UNSCALED_ROPE:
            continue
        factor = kind["factor"] if _is_number(kind.get("factor")) else factor
        if name == "yarn" and _is_number(kind.get("original_max_position_embeddings")):
            length = kind["original_max_position_embeddings"]
    return int(length * factor)


def parallel_problem(text: Mapping[str, Any], workers: int) -> str | None:
    """Why a model cannot be split over this number of tensor-parallel workers; None where nothing is known against it.

    Args:
        text: of `text_config`.
        workers: tensor_parallel_size.
    """
    heads, kv_heads = text.get("num_attention_heads"), text.get("num_key_value_heads")
    if not isinstance(heads, int) or heads < 1:
        return None
    if heads % workers:
        allowed = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
        return f"{workers} does not divide the model's {heads} attention heads; use one of {allowed}"
    if isinstance(kv_heads, int) and kv_heads > 0 and kv_heads % workers and workers % kv_heads:
        return f"{workers} neither divides the model's {kv_heads} key-value heads nor is a multiple of them"
    return None


def cache_bytes_per_token(text: Mapping[str, Any], value_bytes: int) -> int | None:
    """Bytes of KV cache for one token, of a model with ordinary attention in every layer; None for other models."""
    layers, heads = text.get("num_hidden_layers"), text.get("num_attention_heads")
    kv_heads, hidden = text.get("num_key_value_heads", heads), text.get("hidden_size")
    other_layers = set(text.get("layer_types") or ()) - {"full_attention"}
    windowed = text.get("sliding_window") and text.get("use_sliding_window", True)
    if other_layers or windowed or text.get("kv_lora_rank"):
        return None
    if not (isinstance(layers, int) and isinstance(heads, int) and isinstance(kv_heads, int) and heads > 0):
        return None
    head_dim = text.get("head_dim") or (hidden // heads if isinstance(hidden, int) else None)
    return 2 * layers * kv_heads * head_dim * value_bytes if isinstance(head_dim, int) else None


def weight_problem(folder: Path) -> str | None:
    """What is wrong with a folder's files of weights; None where they are all there and whole."""
    files = next((found for pattern in WEIGHTS if (found := _weights(folder, pattern))), [])
    indexes = sorted(folder.glob("*.safetensors.index.json")) or sorted(folder.glob("*.bin.index.json"))
    if not files and not indexes:
        return f"{folder} holds no weights (*.safetensors); copy them there, or train the model first"
    names = {path.name for path in files}
    for index in indexes:
        missing = sorted(_indexed(index) - names)
        if missing:
            return f"{_listed(missing)} of {index} {_is_are(missing)} missing; copy the model's files again"
    missing = sorted(set(_shards(sorted(names))) - names)
    if missing:
        return f"{_listed(missing)} {_is_are(missing)} missing in {folder}; copy the model's files again"
    for path in files:
        problem = _file_problem(path)
        if problem is not None:
            return f"{path} {problem}; copy the model's files again"
    return None


def tokenizer_problem(folder: Path) -> str | None:
    """Why a folder cannot be read as a tokenizer; None where it has a tokenizer's files."""
    if any(next(folder.glob(pattern), None) for pattern in TOKENIZERS):
        return None
    return f"{folder} holds no tokenizer (tokenizer.json); copy it there, or give the field `tokenizer`"


def has_chat_template(folder: Path) -> bool:
    """Whether a tokenizer's folder brings a chat template."""
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    if any((folder / "additional_chat_templates").glob("*.jinja")):
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(read_json(config).get("chat_template"))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _weights(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if not NO_WEIGHTS.fullmatch(path.name))


def _indexed(index: Path) -> set[str]:
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict):
        raise InputError(f"{index} has no weight_map; copy the model's files again")
    return {str(name) for name in files.values()}


def _shards(names: Sequence[str]) -> Iterator[str]:
    """The names of all shards of which there are some."""
    for name in names:
        found = SHARD.fullmatch(name)
        if found is not None:
            stem, _, of, count, suffix = found.groups()
            yield from (f"{stem}{number:05d}{of}{count}{suffix}" for number in range(1, int(count) + 1))


def _file_problem(path: Path) -> str | None:
    """What is wrong with one file of weights, by its header and its size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(len(LFS_POINTER))
        if begin == LFS_POINTER:
            return "is a Git LFS pointer and not the file itself (run `git lfs pull`)"
        if size == 0:
            return "is empty"
        if path.suffix != ".safetensors":
            return None
        if size < 8:
            return "is cut short"
        file.seek(0)
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        if header_bytes > min(size - 8, MAX_HEADER_BYTES):
            return "is cut short, or no safetensors file"
        try:
            header = json.loads(file.read(header_bytes))
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
            expected = 8 + header_bytes + max(ends, default=0)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return "is no safetensors file"
    return None if size == expected else f"has {size} bytes, but its header says {expected}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _is_are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
