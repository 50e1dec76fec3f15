"""A vLLM engine before it runs: its arguments, what identifies its answers, and what its actor needs of Ray.

Imports neither vLLM nor Ray, so configs are checked where neither is installed. `generation.vllm` runs the engine.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import JsonValue

from s1ray.cluster import resources_of
from s1ray.errors import InputError
from s1ray.generation.vllm_source import argument_problem, known_arguments, meant, tool_parsers
from s1ray.manifests import digest
from s1ray.models import EngineConfig, check_model
from s1ray.thinking.plan import PROCESSOR

GIB = 1 << 30

SPECULATIVE = "vLLM runs no logits processors under speculative decoding, so budgets would not be kept"

FIXED = {
    "logits_processors": "budget forcing is loaded here",
    "speculative_config": SPECULATIVE,
    "spec_method": SPECULATIVE,
    "spec_model": SPECULATIVE,
    "spec_tokens": SPECULATIVE,
    "skip_tokenizer_init": "prompts and thinking delimiters need the tokenizer",
}
"""Engine arguments that cannot be passed through, and why."""


def engine_kwargs_problems(config: EngineConfig) -> Iterator[str]:
    """What is wrong with `engine_kwargs` and `dtype`, as far as the installed vLLM's source tells; one message each."""
    for name in sorted(FIXED.keys() & config.engine_kwargs.keys()):
        yield f"engine_kwargs.{name}: must not be set: {FIXED[name]}"
    problem = argument_problem("dtype", config.dtype)
    if problem is not None:
        yield f"dtype: {problem}"
    known = known_arguments()
    for name, value in config.engine_kwargs.items() if known else ():
        if name in FIXED:
            continue
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            yield f"engine_kwargs.{name}: the installed vLLM has no such argument{hint}"
            continue
        problem = argument_problem(name, value)
        if problem is not None:
            yield f"engine_kwargs.{name}: {problem}"
    if config.engine_kwargs.get("runner", "auto") not in ("auto", "generate"):
        yield f"engine_kwargs.runner: {config.engine_kwargs['runner']!r} generates no text; leave it out"
    yield from (f"engine_kwargs.{problem}" for problem in _tool_problems(config.engine_kwargs))


def _tool_problems(kwargs: Mapping[str, object]) -> Iterator[str]:
    parser = kwargs.get("tool_call_parser")
    if kwargs.get("enable_auto_tool_choice") and not parser:
        yield "enable_auto_tool_choice: needs `tool_call_parser`, too; without it vLLM does not start"
    known = tool_parsers()
    if isinstance(parser, str) and known and parser not in known and not kwargs.get("tool_parser_plugin"):
        yield f"tool_call_parser: vLLM has no tool parser {parser!r}{meant(parser, known)} (or give tool_parser_plugin)"


def check_engine_kwargs(config: EngineConfig) -> None:
    """Check `engine_kwargs` and `dtype`.

    Raises:
        InputError: vLLM does not know a name or a value, or it must not be set.
    """
    for problem in engine_kwargs_problems(config):
        raise InputError(problem)


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


def requests_in_flight(config: EngineConfig) -> int:
    """Requests to hand to an engine at once: twice what it decodes.

    The next one is then there when another has ended. With no more than it decodes, its place would be empty while the
    finished response goes out and a request comes in.
    """
    return 2 * config.max_num_seqs


def engine_actor_options(config: EngineConfig, labels: Mapping[str, str] | None = None) -> dict[str, int]:
    """Ray options of an actor that holds an engine: a GPU per tensor-parallel rank, or CPUs where there are none.

    Ray must be connected.

    Args:
        config: the engine.
        labels: of the nodes that it may run on. None: any.
    """
    on_gpu = config.device == "gpu" or (config.device == "auto" and resources_of(labels).get("GPU", 0) >= 1)
    if on_gpu:
        return {"num_cpus": 1, "num_gpus": config.tensor_parallel_size}
    return {"num_cpus": config.tensor_parallel_size}
