"""From our model configuration to ray.serve.llm's, on GPUs and on CPUs alike.

Plain data: nothing here starts or imports an engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s1ray.generation.engine import engine_kwargs
from s1ray.serving.config import QUEUE_DEPTH_ONLY, Autoscaling, ServedModel
from s1ray.serving.replica.adapters import is_remote
from s1ray.serving.scaling.policy import IMPORT_PATH, LOOK_BACK_S

HEALTH_CHECK_PERIOD_S = 5.0
HEALTH_CHECK_TIMEOUT_S = 10.0
"""ray.serve.llm's."""

ROUTER = "s1ray.serving.scaling.router:EarliestDeadlineRouter"

ROUTER_BACKOFF_S = 0.1
"""How often a waiting request looks for a free replica. Serve's half a second would leave places empty for as long as a
short answer takes; looking costs no message while all places are known to be taken."""


REPORTS_PER_S = 16
"""Reports that Serve's controller gets in a second from a model's replicas, where no replica may be running.

Serve's callers and replicas report every 10 s. The first request for a model without a replica is meant to be reported
at once, but that report holds the numbers of the last interval, in which nothing waited (Ray 2.60, router.py,
_get_metrics_report): the start would begin up to 10 s late."""

UNBOUNDED = 100_000
"""Requests that Serve gives to an HTTP application at once: it refuses by rules of its own."""


def resolve_device(device: str, cluster_gpus: float) -> str:
    """The device of a model, "cpu" or "gpu"; auto takes GPUs if the cluster has any now."""
    if device != "auto":
        return device
    return "gpu" if cluster_gpus > 0 else "cpu"


def llm_config(model: ServedModel, device: str, *, log_engine_metrics: bool, direct: bool = False) -> dict[str, Any]:
    """The fields of ray.serve.llm's `LLMConfig` for a model.

    Args:
        model: the configuration.
        device: of its replicas, "cpu" or "gpu".
        log_engine_metrics: export vLLM's metrics.
        direct: the replicas answer HTTP themselves.
    """
    cpus, source = model.cpus_per_worker, model.model
    # ray.serve.llm takes these elsewhere, or decides them itself.
    elsewhere = ("model", "disable_log_stats")
    arguments = {key: value for key, value in engine_kwargs(model, device).items() if key not in elsewhere}
    if model.adapters is not None:
        arguments |= {
            "enable_lora": True,
            "max_loras": model.adapters.max_in_batch,
            "max_lora_rank": model.adapters.max_rank,
            "max_cpu_loras": model.adapters.max_per_replica,
        }
    # In the order of the queue in front of it; where the KV cache is short, the latest deadline makes room.
    arguments.setdefault("scheduling_policy", "priority")
    # Usage says how many tokens of a prompt were cached.
    arguments.setdefault("enable_prompt_tokens_details", True)
    env = {"VLLM_NO_USAGE_STATS": "1"}
    if direct:
        # One event loop for the sockets and for us: between two threads, each event waits for the other's turn.
        env["RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD"] = "0"
    config: dict[str, Any] = {
        "model_loading_config": {"model_id": model.name, "model_source": source},
        "engine_kwargs": arguments,
        "deployment_config": deployment_options(model, direct=direct),
        "log_engine_metrics": log_engine_metrics,
        "runtime_env": {"env_vars": env},
    }
    if model.adapters is not None:
        config["lora_config"] = {
            "max_num_adapters_per_replica": model.adapters.max_per_replica,
            # Ray does not read folders (see adapters.py).
            "dynamic_lora_loading_path": model.adapters.folder if is_remote(model.adapters.folder) else None,
        }
    if Path(source).is_dir():
        config["callback_config"] = {"callback_class": "s1ray.serving.replica.engine:LocalModel"}
    if device == "cpu":
        # Ray binds no process to its CPUs, so vLLM must not either: two replicas would choose the same cores.
        env |= {"OMP_NUM_THREADS": str(max(1, int(cpus))), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        config["placement_group_config"] = {"bundle_per_worker": {"CPU": cpus}, "strategy": model.strategy}
    else:
        config["placement_group_config"] = {"bundle_per_worker": {"GPU": 1, "CPU": cpus}, "strategy": model.strategy}
        if model.accelerator_type is not None:
            config["accelerator_type"] = model.accelerator_type
    return config


def replica_options(config: Mapping[str, Any], workers: int) -> dict[str, Any]:
    """Serve's options for the replicas of a model, as ray.serve.llm makes them, without importing it.

    Args:
        config: the fields of its `LLMConfig`.
        workers: of the engine.
    """
    from ray import get_runtime_context

    group = config["placement_group_config"]
    bundle = dict(group["bundle_per_worker"])
    if (accelerator := config.get("accelerator_type")) is not None:
        # A hint, by which Ray finds a node that has the type.
        bundle[f"accelerator_type:{accelerator}"] = 0.001
    # The replica itself is with the first worker, and needs nothing of its own.
    environment = dict(get_runtime_context().runtime_env)
    environment["env_vars"] = environment.get("env_vars", {}) | config["runtime_env"]["env_vars"]
    options = dict(config["deployment_config"])
    return options | {
        "health_check_timeout_s": HEALTH_CHECK_TIMEOUT_S,
        "placement_group_bundles": [bundle] * workers,
        "placement_group_strategy": group["strategy"],
        "ray_actor_options": options["ray_actor_options"] | {"runtime_env": environment},
    }


def deployment_options(model: ServedModel, *, direct: bool = False) -> dict[str, Any]:
    """Serve's options for a model's replicas, which may answer HTTP themselves."""
    # Of the replica's placement group: its first bundle is the replica's own, and one selector is for all bundles.
    labels = {} if model.node_labels is None else {"placement_group_bundle_label_selector": [model.node_labels]}
    options = labels | {
        "graceful_shutdown_timeout_s": model.graceful_shutdown_timeout_s,
        "max_constructor_retry_count": model.start_attempts,
        "autoscaling_config": autoscaling_config(model.autoscaling, model.ongoing_limit),
        # How soon a dead replica is replaced; its requests go to others before.
        "health_check_period_s": HEALTH_CHECK_PERIOD_S,
        # The worker's bundle reserves the CPUs; the replica's own process needs none in addition.
        "ray_actor_options": {"num_cpus": 0},
    }
    if direct:
        # The replica itself refuses what is too much, in the client's format. Requests wait in its engine, in the order
        # of their deadlines.
        return options | {"max_ongoing_requests": UNBOUNDED, "max_queued_requests": -1}
    return options | {
        "max_ongoing_requests": model.ongoing_limit,
        "max_queued_requests": model.max_queued_requests,
        "request_router_config": {
            "request_router_class": ROUTER,
            "request_router_kwargs": {"model": model.name},
            "max_backoff_s": ROUTER_BACKOFF_S,
        },
    }


def autoscaling_config(scaling: Autoscaling, ongoing_limit: int) -> dict[str, Any]:
    """Serve's autoscaling of a model whose replicas take `ongoing_limit` requests each."""
    target = scaling.target_ongoing_requests or max(1.0, 0.75 * ongoing_limit)
    bounds = {
        "min_replicas": scaling.min_replicas,
        "max_replicas": scaling.max_replicas,
        "target_ongoing_requests": target,
    }
    to_zero = scaling.downscale_delay_s if scaling.scale_to_zero_delay_s is None else scaling.scale_to_zero_delay_s
    if scaling.min_replicas == 0:
        bounds["metrics_interval_s"] = min(10.0, max(1.0, scaling.max_replicas / REPORTS_PER_S))
    if scaling.policy == "ray":
        delays = {"upscale_delay_s": scaling.upscale_delay_s, "downscale_delay_s": scaling.downscale_delay_s}
        return bounds | delays | {"downscale_to_zero_delay_s": to_zero}
    same = ("upscale_delay_s", "downscale_delay_s", *sorted(QUEUE_DEPTH_ONLY))
    settings = {name: getattr(scaling, name) for name in same}
    return bounds | {
        # The policy has delays of its own; Serve's would be added.
        "upscale_delay_s": 0.0,
        "downscale_delay_s": 0.0,
        "look_back_period_s": LOOK_BACK_S,
        "policy": {
            "policy_function": IMPORT_PATH,
            "policy_kwargs": settings | {"target_ongoing_requests": target, "scale_to_zero_delay_s": to_zero},
        },
    }
