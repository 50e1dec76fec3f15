"""What a config says about a model, resolved once, where the config is loaded.

Every stage and the server name models in the same way: `ModelRef` is the weights, the tokenizer and the thinking
format; `EngineConfig` adds how a vLLM engine runs them. Once a config is validated, `model` is a full path or a Hugging
Face id, and `thinking_format` is the `ThinkingFormat` itself, whether the YAML has a preset's name or the strings in
place:

    thinking_format: qwen3
    thinking_format: {name: ponder, start: "<ponder>", end: "</ponder>", end_triggers: ["<|im_end|>"]}
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from s1ray.config import Config, ConfigError
from s1ray.registry import MODEL_ALIASES
from s1ray.secrets import free_fields
from s1ray.storage import is_dir, local_model
from s1ray.thinking.format import PRESETS, ThinkingFormat


def _format_from(value: object) -> object:
    return ThinkingFormat.preset(value) if isinstance(value, str) else value


def _format_as_data(fmt: ThinkingFormat) -> str | dict[str, object]:
    return fmt.name if PRESETS.get(fmt.name) == fmt else dict(fmt.model_dump(mode="json"))


FormatRef = Annotated[ThinkingFormat, BeforeValidator(_format_from), PlainSerializer(_format_as_data)]
"""A thinking format: a preset's name (s1, deepseek_r1, qwen3) or a mapping with the strings."""


def resolve_model(name: str) -> str:
    """What a config's `model` means: what a registered alias stands for, a folder by its full path (workers run
    elsewhere), or a Hugging Face id or URI as it is.

    Raises:
        ConfigError: it begins or ends with a space.
    """
    if name != name.strip():
        raise ConfigError("must not begin or end with a space")
    if name in MODEL_ALIASES.names():
        name = str(MODEL_ALIASES.get(name))
    # Unlike pathlib's, these take any text: "~nobody", or a name that no file system has room for.
    path = os.path.expanduser(name)
    return str(Path(path).absolute()) if os.path.isdir(path) else name


ModelPath = Annotated[str, Field(min_length=1), AfterValidator(resolve_model)]
"""A model's weights, or a tokenizer: a folder, a Hugging Face id, or a registered alias ("miniature-base")."""


class ModelRef(Config):
    """A model: its weights, and how it writes its thinking."""

    model: ModelPath
    """Hugging Face id, folder, address in an object store, or registered alias ("miniature-base")."""
    tokenizer: ModelPath | None = None
    """Another tokenizer than the model's own."""
    thinking_format: FormatRef = PRESETS["s1"]
    """Delimiters around the thinking: a preset (s1, deepseek_r1, qwen3), or a mapping with strings of your own."""

    @property
    def folder(self) -> Path | None:
        """The folder of the weights; None where they come from the Hugging Face Hub or an object store."""
        return Path(self.model) if os.path.isdir(self.model) else None

    def inputs(self, name: str) -> dict[str, str]:
        """Name -> folder, for a run's inputs: of the weights (`name`) and of a tokenizer apart (`name.tokenizer`)."""
        paths = {name: self.model, f"{name}.tokenizer": self.tokenizer}
        return {key: path for key, path in paths.items() if path is not None and is_dir(path)}

    def with_local_models(self) -> Self:
        """The same, with weights and tokenizer that lie in a store fetched to folders of this machine.

        Raises:
            MissingError: nothing is there.
            InputError: they cannot be fetched.
        """
        named = {"model": self.model, "tokenizer": self.tokenizer}
        return self.model_copy(update={field: local_model(name) for field, name in named.items() if name is not None})


class EngineConfig(ModelRef):
    """A vLLM engine, in process or as a replica."""

    device: str = Field(default="auto", pattern="^(auto|cpu|gpu)$")
    """Where the engine runs; auto: on GPUs if the cluster has any."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    max_model_len: int | None = Field(default=None, ge=1)
    """Context length in tokens. None: the model's own."""
    dtype: str = "auto"
    max_num_seqs: int = Field(default=128, ge=1)
    """Requests that the engine decodes at once."""
    kv_cache_gib: float = Field(default=1.0, gt=0)
    """KV cache of a CPU engine, in GiB (a GPU engine takes it from `gpu_memory_utilization`)."""
    engine_kwargs: Annotated[dict[str, Any], BeforeValidator(free_fields)] = Field(default_factory=dict)
    """Further vLLM engine arguments, passed as they are."""


def check_model(model: str, field: str) -> None:
    """Refuse a model that cannot be there.

    Args:
        model: a resolved `ModelPath`.
        field: of the config, for the message.

    Raises:
        ConfigError: it is neither a folder with a model nor looks like a Hugging Face id ("owner/name") or a URI, or is
            almost the name of a model's folder here or of a registered alias.
    """
    path = Path(model)
    if os.path.isdir(path):
        if not (path / "config.json").is_file():
            raise ConfigError(f"{field}: {model!r} holds no model (there is no {path / 'config.json'})")
        return
    if "://" in model:
        return
    meant = similar_model(model)
    if path.is_absolute() or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", model):
        otherwise = "train a model first, or give a Hugging Face id (owner/name)"
        raise ConfigError(f"{field}: {model!r}: no such folder; {f'did you mean {meant!r}?' if meant else otherwise}")
    if meant and "/" not in model:
        raise ConfigError(f"{field}: {model!r}: no such folder or alias; did you mean {meant!r}?")


def similar_model(model: str) -> str | None:
    """The model's folder, or the alias, whose name is almost `model`; None if there is none."""
    parent, name = os.path.split(os.path.expanduser(model).rstrip("/"))
    folders = [entry for entry in _entries(parent or ".") if os.path.isfile(os.path.join(parent, entry, "config.json"))]
    names = folders if parent else [*folders, *MODEL_ALIASES.names()]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.8)
    return os.path.join(parent, close[0]) if close else None


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (OSError, ValueError):
        return []
