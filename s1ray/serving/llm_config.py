"""From our model configuration to ray.serve.llm's, on GPUs and on CPUs alike.

Plain data: nothing here starts or imports an engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s1ray.config import resolve_model
from s1ray.generation.vllm import engine_kwargs
from s1ray.serving.config import ServedModel


def resolve_device(device: str, cluster_gpus: float) -> str:
    """The device of a model, "cpu" or "gpu"; auto takes GPUs where the cluster has some now."""
    if device != "auto":
        return device
    return "gpu" if cluster_gpus > 0 else "cpu"


def llm_config(model: ServedModel, device: str, *, log_engine_metrics: bool) -> dict[str, Any]:
    """The fields of ray.serve.llm's `LLMConfig` for a model on a device ("cpu" or "gpu")."""
    cpus, source = model.cpus_per_worker, model_source(model.model)
    # What ray.serve.llm wants elsewhere, or decides itself.
    elsewhere = ("model", "disable_log_stats")
    arguments = {key: value for key, value in engine_kwargs(model, device).items() if key not in elsewhere}
    env = {"VLLM_NO_USAGE_STATS": "1"}
    config: dict[str, Any] = {
        "model_loading_config": {"model_id": model.name, "model_source": source},
        "engine_kwargs": arguments if log_engine_metrics else arguments | {"disable_log_stats": True},
        "deployment_config": deployment_options(model),
        "log_engine_metrics": log_engine_metrics,
        # Ray's default holds every stream's chunks back for 50 ms.
        "experimental_configs": {"stream_batching_interval_ms": 0},
        "runtime_env": {"env_vars": env},
    }
    if Path(source).is_dir():
        config["callback_config"] = {"callback_class": "s1ray.serving.engine:LocalModel"}
    if device == "cpu":
        # Ray binds nothing to the CPUs it reserves, so vLLM must not either: two replicas would choose the same cores.
        env |= {"OMP_NUM_THREADS": str(max(1, int(cpus))), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        config["placement_group_config"] = {"bundle_per_worker": {"CPU": cpus}, "strategy": model.strategy}
    else:
        config["placement_group_config"] = {"bundle_per_worker": {"GPU": 1, "CPU": cpus}, "strategy": model.strategy}
        if model.accelerator_type is not None:
            config["accelerator_type"] = model.accelerator_type
    return config


def model_source(model: str) -> str:
    """What vLLM loads: a folder by its full path (replicas work elsewhere), a Hugging Face id or URI as it is."""
    resolved = resolve_model(model)
    return str(Path(resolved).absolute()) if Path(resolved).is_dir() else resolved


def deployment_options(model: ServedModel) -> dict[str, Any]:
    """Serve's options for a model's replicas."""
    scaling = model.autoscaling
    target = scaling.target_ongoing_requests or max(1.0, 0.75 * model.ongoing_limit)
    return {
        "max_ongoing_requests": model.ongoing_limit,
        "max_queued_requests": model.max_queued_requests,
        "graceful_shutdown_timeout_s": model.graceful_shutdown_timeout_s,
        "max_constructor_retry_count": model.start_attempts,
        "autoscaling_config": {
            "min_replicas": scaling.min_replicas,
            "max_replicas": scaling.max_replicas,
            "target_ongoing_requests": target,
            "upscale_delay_s": scaling.upscale_delay_s,
            "downscale_delay_s": scaling.downscale_delay_s,
        },
        # The worker's bundle holds the CPUs; the replica's own process needs none beside it.
        "ray_actor_options": {"num_cpus": 0},
    }
