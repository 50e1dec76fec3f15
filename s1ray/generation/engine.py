"""A vLLM engine before it runs: its arguments, what identifies its answers, and what its actor needs of Ray.

Imports neither vLLM nor Ray, so configs are checked where neither is installed. `generation.vllm` runs the engine.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from s1ray.errors import InputError
from s1ray.models import EngineConfig, check_model
from s1ray.runs import digest
from s1ray.thinking.plan import PROCESSOR

GIB = 1 << 30

FIXED = {
    "logits_processors": "budget forcing is loaded here",
    "speculative_config": "vLLM runs no logits processors under speculative decoding, so budgets would not be kept",
}
"""Engine arguments that cannot be passed through, and why."""

ARGUMENT_CLASSES = {
    "engine/arg_utils.py": ("EngineArgs", "AsyncEngineArgs"),
    "entrypoints/launchers/cli_args.py": ("BaseFrontendArgs", "FrontendArgs"),
}
"""Where vLLM's source lists its arguments: the engine's, and those of the API around it (tool calls, templates)."""


@cache
def known_arguments() -> frozenset[str]:
    """The names of the installed vLLM's arguments; none where it cannot be found.

    They are read from its source, because importing it takes ten seconds.
    """
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        return frozenset()
    names: set[str] = set()
    for file, classes in ARGUMENT_CLASSES.items():
        source = Path(spec.origin).parent / file
        if not source.is_file():
            return frozenset()
        for node in ast.parse(source.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in classes:
                fields = [field.target for field in node.body if isinstance(field, ast.AnnAssign)]
                names |= {field.id for field in fields if isinstance(field, ast.Name)}
    return frozenset(names)


def check_engine_kwargs(config: EngineConfig) -> None:
    """Check the names in `engine_kwargs`.

    Raises:
        InputError: vLLM does not know one of them, or it must not be set.
    """
    for name in FIXED.keys() & config.engine_kwargs.keys():
        raise InputError(f"engine_kwargs.{name}: must not be set: {FIXED[name]}")
    known = known_arguments()
    for name in config.engine_kwargs if known else ():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise InputError(f"engine_kwargs.{name}: the installed vLLM has no such argument{meant}")


def check_engine(config: EngineConfig) -> None:
    """Check, before anything starts, that an engine can be made.

    Raises:
        InputError: `engine_kwargs` has a name that it must not have, or there is no such model.
    """
    check_engine_kwargs(config)
    check_model(config.model, "model")


def engine_kwargs(config: EngineConfig, device: str) -> dict[str, Any]:
    """VLLM's engine arguments for a config on a device ("cpu" or "gpu").

    Raises:
        InputError: `engine_kwargs` has a name that it must not have.
    """
    check_engine_kwargs(config)
    kwargs: dict[str, Any] = {
        "model": config.model,
        "tensor_parallel_size": config.tensor_parallel_size,
        "dtype": config.dtype,
        "max_num_seqs": config.max_num_seqs,
        "logits_processors": [PROCESSOR],
        "disable_log_stats": True,
    }
    if config.tokenizer is not None:
        kwargs["tokenizer"] = config.tokenizer
    if config.max_model_len is not None:
        kwargs["max_model_len"] = config.max_model_len
    if device == "cpu":
        # Most CPUs emulate bfloat16, which is slower than float32; compiling takes minutes and gains small models
        # nothing.
        kwargs |= {"enforce_eager": True, "kv_cache_memory_bytes": int(config.kv_cache_gib * GIB)}
        # vLLM 0.29 on a CPU dies of a request with a seed whose prompt is prefilled in several chunks ("CPU Generator
        # does not use offset").
        kwargs["enable_chunked_prefill"] = False
        if config.dtype == "auto":
            kwargs["dtype"] = "float32"
    return kwargs | config.engine_kwargs


def engine_identity(engine: EngineConfig) -> dict[str, JsonValue]:
    """Whatever of an engine can change its answers. What is local counts by its content, not by its path."""
    identity: dict[str, JsonValue] = engine.model_dump(mode="json", exclude={"kv_cache_gib", "max_num_seqs", "device"})
    return identity | {name.rpartition(".")[2]: digest(folder) for name, folder in engine.inputs("model").items()}


def engine_actor_options(config: EngineConfig) -> dict[str, int]:
    """Ray options of an actor that holds an engine: a GPU per tensor-parallel rank, or CPUs where the cluster has none.

    Ray must be connected.
    """
    import ray

    on_gpu = config.device == "gpu" or (config.device == "auto" and ray.cluster_resources().get("GPU", 0) >= 1)
    if on_gpu:
        return {"num_cpus": 1, "num_gpus": config.tensor_parallel_size}
    return {"num_cpus": config.tensor_parallel_size}
