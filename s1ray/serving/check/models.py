"""What is wrong with the models of an application, as far as this machine can tell: their files, engine arguments,
thinking format, budgets and context, and whether a machine could hold them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from s1ray.cluster import Machine, check_accelerator_type
from s1ray.config import ConfigError
from s1ray.errors import InputError
from s1ray.generation.engine import GIB, engine_kwargs_problems
from s1ray.models import check_model, similar_model
from s1ray.serving.check import checkpoint
from s1ray.serving.check.adapters import adapter_problems, adapter_warnings
from s1ray.serving.check.tokenizer import FileTokenizer
from s1ray.serving.config import ServedModel, ServingConfig
from s1ray.thinking.format import PRESETS, ThinkingFormat

URIS = ("s3://", "gs://", "abfss://", "azure://")
"""Object stores that ray.serve.llm reads models from."""

LONG_CONTEXT = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
"""vLLM's environment variable that permits a longer context than the model was made for."""

READ_FORMATS = ("auto", "hf", "safetensors", "pt", "npcache")
"""Load formats that read a folder's files of weights as they are."""

VALUE_BYTES = {"float32": 4, "float": 4, "auto": 4, "float16": 2, "half": 2, "bfloat16": 2}
"""Bytes of a value in a CPU engine's KV cache, by `dtype`."""

TEMPLATE_CHARACTERS = "{}\n"
"""vLLM takes a chat template with none of these for a path."""

BEFOREHAND = ("awq", "auto_awq", "awq_marlin", "gptq", "auto_gptq", "gptq_marlin", "compressed-tensors")
"""Quantization methods whose weights are quantized beforehand, which their config.json then says."""


def model_problems(config: ServingConfig, env: Mapping[str, str] = os.environ) -> Iterator[str]:
    """What keeps the models of an application from being served; one message each, by field.

    Args:
        config: of the application.
        env: environment variables of the replicas.
    """
    for index, model in enumerate(config.models):
        yield from (f"models.{index}.{problem}" for problem in _problems(model, env))


def _problems(model: ServedModel, env: Mapping[str, str]) -> Iterator[str]:
    yield from engine_kwargs_problems(model)
    yield from _batch_problems(model)
    yield from _template_problems(model)
    if model.accelerator_type is not None:
        try:
            check_accelerator_type(model.accelerator_type, "accelerator_type")
        except ConfigError as error:
            yield str(error)
    if model.adapters is not None:
        yield from (f"adapters.{problem}" for problem in adapter_problems(model.adapters))
    places = {"model": model.model} | ({} if model.tokenizer is None else {"tokenizer": model.tokenizer})
    missing = [problem for field, place in places.items() if (problem := _place_problem(field, place)) is not None]
    yield from missing
    text = None
    if model.folder is not None and not missing:
        try:
            text = _config_of(model)
            yield from _folder_problems(model, text, env)
        except InputError as error:
            yield f"model: {error}"
    if not missing:
        yield from _format_problems(model)
    yield from _budget_problems(model, None if text is None else checkpoint.context_length(text))


def _place_problem(field: str, place: str) -> str | None:
    if "://" in place:
        known = place.startswith(URIS)
        return None if known else f"{field}: {place}: unknown storage; use a path, {', '.join(URIS)}"
    if field == "tokenizer" and os.path.isdir(place):
        problem = checkpoint.tokenizer_problem(Path(place))
        return None if problem is None else f"tokenizer: {problem}"
    if os.path.isabs(place) and not os.path.lexists(place):
        # Serving nodes may have it; a warning says that this one does not.
        return None
    try:
        check_model(place, field)
    except ConfigError as error:
        return str(error)
    return None


def _config_of(model: ServedModel) -> dict[str, Any]:
    config = checkpoint.read_json(Path(model.model) / "config.json")
    return checkpoint.text_config(config, model.engine_kwargs.get("hf_overrides"))


def _folder_problems(model: ServedModel, text: Mapping[str, Any], env: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with a model's folder, or with settings that do not fit it.

    Args:
        model: whose folder is on this machine.
        text: of `checkpoint.text_config`.
        env: environment variables of the replicas.
    """
    folder = Path(model.model)
    if model.engine_kwargs.get("load_format", "auto") in READ_FORMATS:
        problem = checkpoint.weight_problem(folder)
        if problem is not None:
            yield f"model: {problem}"
    if model.tokenizer is None:
        problem = checkpoint.tokenizer_problem(folder)
        if problem is not None:
            yield f"model: {problem}"
    longest = checkpoint.context_length(text)
    if longest is not None and (model.max_model_len or 0) > longest and env.get(LONG_CONTEXT) != "1":
        yield f"max_model_len: {model.max_model_len} is more than the model's own context, {longest}; give that or less"
    problem = checkpoint.parallel_problem(text, model.tensor_parallel_size)
    if problem is not None:
        yield f"tensor_parallel_size: {problem}"
    yield from _quantization_problems(model.engine_kwargs.get("quantization"), text.get("quantization_config"))
    shortage = _cache_shortage(model, text)
    if model.device == "cpu" and shortage is not None:
        yield shortage


def _quantization_problems(given: object, config: object) -> Iterator[str]:
    own = config.get("quant_method") if isinstance(config, dict) else None
    if own is None and given in BEFOREHAND:
        yield (
            f"engine_kwargs.quantization: the model's weights are not quantized with {given} (config.json has no "
            "quantization_config); leave it out, or serve a model that is"
        )


def _cache_shortage(model: ServedModel, text: Mapping[str, Any]) -> str | None:
    """Why a CPU engine's KV cache cannot hold a single request of full length; None where it can."""
    dtype = model.engine_kwargs.get("kv_cache_dtype", "auto")
    value_bytes = VALUE_BYTES.get(model.dtype if dtype == "auto" else dtype, 1)
    per_token = checkpoint.cache_bytes_per_token(text, value_bytes)
    context = model.max_model_len or checkpoint.context_length(text)
    if per_token is None or context is None or "kv_cache_memory_bytes" in model.engine_kwargs:
        return None
    needed = per_token * context / model.tensor_parallel_size / GIB
    if needed <= model.kv_cache_gib:
        return None
    return (
        f"kv_cache_gib: {model.kv_cache_gib:g} GiB cannot hold one request of {context} tokens (max_model_len), which "
        f"takes {needed:.3g} GiB; give more, or a shorter max_model_len"
    )


def _batch_problems(model: ServedModel) -> Iterator[str]:
    batched = model.engine_kwargs.get("max_num_batched_tokens")
    if not isinstance(batched, int):
        return
    if batched < model.max_num_seqs:
        yield (
            f"engine_kwargs.max_num_batched_tokens: {batched} is less than max_num_seqs ({model.max_num_seqs}); raise "
            "it, because each request in the batch needs a token of a step"
        )
    chunked = model.engine_kwargs.get("enable_chunked_prefill", model.device != "cpu")
    if not chunked and model.max_model_len is not None and batched < model.max_model_len:
        yield (
            f"engine_kwargs.max_num_batched_tokens: {batched} is less than max_model_len ({model.max_model_len}); "
            "without chunked prefill a prompt must fit into one step, so raise it"
        )


def _template_problems(model: ServedModel) -> Iterator[str]:
    import jinja2

    given = model.engine_kwargs.get("chat_template")
    if not isinstance(given, str):
        return
    text = given
    if not any(character in given for character in TEMPLATE_CHARACTERS):
        path = Path(given)
        if not path.is_file():
            if not path.is_absolute():
                yield f"engine_kwargs.chat_template: there is no file {given!r}; give the full path of a Jinja template"
            return
        text = path.read_text(encoding="utf-8", errors="replace")
    try:
        jinja2.Environment(extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do"]).parse(_plain(text))
    except jinja2.TemplateSyntaxError as error:
        yield f"engine_kwargs.chat_template: no valid Jinja template: line {error.lineno}: {error.message}"


def _plain(template: str) -> str:
    """A chat template without transformers' own `generation` blocks, which Jinja alone does not know."""
    return template.replace("{% generation %}", "").replace("{% endgeneration %}", "")


def _format_problems(model: ServedModel) -> Iterator[str]:
    folder = Path(model.tokenizer or model.model)
    if not (folder / "tokenizer.json").is_file():
        return
    try:
        tokenizer = FileTokenizer(folder)
    except InputError as error:
        yield f"{'model' if model.tokenizer is None else 'tokenizer'}: {error}"
        return
    try:
        model.thinking_format.resolve(tokenizer)
    except InputError as error:
        fitting = [name for name, preset in PRESETS.items() if _expresses(preset, tokenizer)]
        hint = f". Presets that it can express: {', '.join(fitting)}" if fitting else ""
        yield f"thinking_format: {error}{hint}"


def _expresses(fmt: ThinkingFormat, tokenizer: FileTokenizer) -> bool:
    try:
        fmt.resolve(tokenizer)
    except InputError:
        return False
    return True


def _budget_problems(model: ServedModel, own: int | None) -> Iterator[str]:
    """Thinking budgets that the context has no room for.

    Args:
        model: a model.
        own: its own context, in tokens.
    """
    context = model.max_model_len or own
    if context is None:
        return
    budgets = model.budgets
    given = {"budgets.default": budgets.default, "budgets.maximum": budgets.maximum}
    if "effort" in budgets.model_fields_set and budgets.maximum is None:
        given |= {f"budgets.effort.{name}": tokens for name, tokens in budgets.effort.items() if tokens != "auto"}
    for field, tokens in given.items():
        if tokens is not None and tokens >= context:
            yield (
                f"{field}: {tokens} thinking tokens leave no room for prompt and answer in a context of {context} "
                "(max_model_len); give less"
            )


def model_warnings(config: ServingConfig) -> Iterator[str]:
    """What may be wrong with the models of an application, or is a risk; one message each."""
    for model in config.models:
        for field, place in (("model", model.model), ("tokenizer", model.tokenizer)):
            if place is not None and os.path.isabs(place) and not os.path.isdir(place):
                yield f"no folder {place} on this machine ({model.name}'s {field}); every serving node needs it"
        if model.folder is None and "://" not in model.model and not os.path.isabs(model.model):
            owner = model.model.rpartition("/")[0]
            meant = similar_model(model.model)
            if not owner or os.path.isdir(owner):
                hint = f"; did you mean the folder {meant!r}?" if meant else ""
                yield f"{model.name}: there is no folder {model.model!r}, so it is taken for a Hugging Face id{hint}"
        if model.engine_kwargs.get("trust_remote_code"):
            yield f"{model.name} runs code from its model folder (trust_remote_code)"
        if model.engine_kwargs.get("enable_log_requests"):
            yield f"{model.name} logs every prompt (enable_log_requests)"
        if model.adapters is not None:
            yield from adapter_warnings(model.adapters)
        yield from _template_warnings(model)


def _template_warnings(model: ServedModel) -> Iterator[str]:
    template = model.engine_kwargs.get("chat_template")
    if template is None:
        folder = Path(model.tokenizer or model.model)
        if (folder / "tokenizer.json").is_file() and not checkpoint.has_chat_template(folder):
            yield (
                f"{model.name}: {folder} has no chat template, so chat requests will fail; "
                "give engine_kwargs.chat_template"
            )
    elif isinstance(template, str) and not any(character in template for character in TEMPLATE_CHARACTERS):
        if not os.path.isabs(template):
            yield f"{model.name}: replicas run in another folder: give chat_template by its full path, not {template!r}"
        elif not os.path.isfile(template):
            yield f"{model.name}: no file {template} on this machine (chat_template); every serving node needs it"


def machine_problems(config: ServingConfig, machine: Machine) -> Iterator[str]:
    """CPU engines that are spread over more CPUs than a machine has; one message each, by field."""
    for index, model in enumerate(config.models):
        workers = _workers(model)
        cpus = workers * model.cpus_per_worker
        if model.device == "cpu" and workers > 1 and cpus > machine.cpus:
            yield (
                f"models.{index}.tensor_parallel_size: on device cpu a replica is {workers} workers with {cpus:g} "
                f"CPUs, and this machine has {machine.cpus}; give tensor_parallel_size: 1 (and cpus_per_worker), or "
                "device: gpu"
            )


def _workers(model: ServedModel) -> int:
    """The workers of one replica, each with a GPU of its own where there are some."""
    stages = model.engine_kwargs.get("pipeline_parallel_size")
    return model.tensor_parallel_size * (stages if isinstance(stages, int) else 1)


def machine_warnings(config: ServingConfig, machine: Machine) -> Iterator[str]:
    """Models that a machine could not hold, so that only a cluster can; one message each."""
    for model in config.models:
        on_cpu = model.device == "cpu" or (model.device == "auto" and machine.gpus == 0)
        if on_cpu and model.dtype in ("float16", "half"):
            yield f"{model.name}: dtype {model.dtype} is slow and imprecise on CPUs; leave it out (float32 there)"
        if model.device == "auto" and machine.gpus == 0 and model.folder is not None:
            shortage = _cache_shortage(model, _config_of(model))
            if shortage is not None:
                yield f"{model.name}: without GPUs: {shortage}"
        workers, name = _workers(model), model.name
        cpus = workers * model.cpus_per_worker
        has = f"this machine has {machine.gpus or 'none'}"
        where = "on one node" if model.strategy == "STRICT_PACK" else "in the cluster"
        if model.device == "gpu" and machine.gpus < workers:
            yield f"{name}: a replica needs {workers} GPU(s) {where}; {has}, so here it would wait for ever"
        elif model.device == "auto" and workers > 1 and machine.gpus == 0:
            yield (
                f"{name}: a replica needs {workers} GPUs {where} (tensor_parallel_size); {has}, and in a cluster "
                f"without GPUs it would be {workers} slow CPU workers: give tensor_parallel_size: 1, or device: gpu to "
                "wait for GPUs"
            )
        elif model.device == "auto" and 0 < machine.gpus < workers:
            yield f"{name}: a replica needs {workers} GPUs {where} (tensor_parallel_size); {has}"
        elif model.device == "cpu" and workers > 1 and cpus <= machine.cpus:
            yield f"{name}: {workers} CPU workers (tensor_parallel_size) are slower than one with more cpus_per_worker"
        elif model.device == "cpu" and workers == 1 and cpus > machine.cpus:
            yield f"{name}: a replica needs {cpus:g} CPUs (cpus_per_worker); this machine has {machine.cpus}"
