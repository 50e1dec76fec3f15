from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s1ray.miniature import BASE_MODEL_DIR
from s1ray.models import resolve_model
from s1ray.serving.config import ServedModel
from s1ray.serving.replica.llm_config import deployment_options, llm_config, replica_options, resolve_device


def served(**fields: Any) -> ServedModel:
    return ServedModel.model_validate({"name": "m", "model": "org/model"} | fields)


@pytest.mark.parametrize(
    ("device", "gpus", "resolved"),
    [("auto", 0, "cpu"), ("auto", 8, "gpu"), ("cpu", 8, "cpu"), ("gpu", 0, "gpu")],
)
def test_auto_takes_gpus_where_there_are_some(device: str, gpus: float, resolved: str) -> None:
    assert resolve_device(device, gpus) == resolved


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_every_engine_forces_budgets_and_gets_its_model_from_ray(device: str) -> None:
    arguments = llm_config(served(tensor_parallel_size=2), device, log_engine_metrics=True)["engine_kwargs"]
    assert arguments["logits_processors"] == ["s1ray.thinking.vllm.processor:BudgetForcingProcessor"]
    assert arguments["tensor_parallel_size"] == 2
    assert not {"model", "disable_log_stats"} & arguments.keys()


def test_autoscaling_has_its_statistics_without_metrics_too() -> None:
    fields = llm_config(served(), "cpu", log_engine_metrics=False)
    assert fields["log_engine_metrics"] is False
    assert "disable_log_stats" not in fields["engine_kwargs"]


def test_the_models_own_engine_arguments_come_last() -> None:
    model = served(engine_kwargs={"enforce_eager": False, "seed": 3})
    arguments = llm_config(model, "cpu", log_engine_metrics=True)["engine_kwargs"]
    assert arguments["enforce_eager"] is False
    assert arguments["seed"] == 3


def test_a_replica_is_placed_by_workers() -> None:
    gpu = llm_config(
        served(accelerator_type="H100", strategy="PACK", cpus_per_worker=2), "gpu", log_engine_metrics=True
    )
    assert gpu["placement_group_config"] == {"bundle_per_worker": {"GPU": 1, "CPU": 2}, "strategy": "PACK"}
    assert gpu["accelerator_type"] == "H100"
    cpu = llm_config(served(cpus_per_worker=2), "cpu", log_engine_metrics=True)
    assert cpu["placement_group_config"]["bundle_per_worker"] == {"CPU": 2}
    assert cpu["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "2"


def test_every_bundle_of_a_replica_has_its_labels() -> None:
    from ray import serve

    labels = {"s1ray/role": "serve"}
    assert "placement_group_bundle_label_selector" not in deployment_options(served())
    options = deployment_options(served(node_labels=labels, tensor_parallel_size=2))
    chosen = options["placement_group_bundle_label_selector"]
    # What ray.serve.llm adds, and Serve's own check.
    bundles = {"placement_group_bundles": [{"CPU": 1}, {"CPU": 1}], "placement_group_strategy": "STRICT_PACK"}

    decorate = serve.deployment(
        placement_group_bundle_label_selector=chosen, ray_actor_options={"num_cpus": 0}, **bundles
    )
    assert decorate(object)._replica_config.placement_group_bundle_label_selector == [labels, labels]


def test_the_autoscaling_target_is_always_explicit() -> None:
    options = deployment_options(served(max_num_seqs=64))
    assert options["max_ongoing_requests"] == 64
    assert options["autoscaling_config"]["target_ongoing_requests"] == 48
    options = deployment_options(served(max_ongoing_requests=1))
    assert options["autoscaling_config"]["target_ongoing_requests"] == 1
    options = deployment_options(served(autoscaling={"target_ongoing_requests": 5}))
    assert options["autoscaling_config"]["target_ongoing_requests"] == 5


def test_a_folder_is_loaded_by_its_full_path_and_downloads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    config = llm_config(served(model="model"), "cpu", log_engine_metrics=False)
    assert config["model_loading_config"]["model_source"] == str(tmp_path / "model")
    assert "callback_config" in config
    assert "callback_config" not in llm_config(served(), "cpu", log_engine_metrics=False)
    assert resolve_model("org/model") == "org/model"
    assert resolve_model("miniature-base") == str(BASE_MODEL_DIR)


def test_adapters_in_a_folder_are_ours_and_those_in_storage_rays() -> None:
    config = llm_config(served(adapters={"folder": "runs/adapters", "max_rank": 16}), "gpu", log_engine_metrics=True)
    arguments = config["engine_kwargs"]
    assert (arguments["enable_lora"], arguments["max_lora_rank"], arguments["max_loras"]) == (True, 16, 4)
    assert config["lora_config"] == {"max_num_adapters_per_replica": 16, "dynamic_lora_loading_path": None}
    config = llm_config(served(adapters={"folder": "s3://bucket/adapters"}), "gpu", log_engine_metrics=True)
    assert config["lora_config"]["dynamic_lora_loading_path"] == "s3://bucket/adapters"
    assert "lora_config" not in llm_config(served(), "gpu", log_engine_metrics=True)


@pytest.mark.parametrize(
    ("device", "fields"),
    [
        ("cpu", {"cpus_per_worker": 2}),
        ("gpu", {"tensor_parallel_size": 4, "accelerator_type": "H100", "strategy": "PACK"}),
        ("gpu", {"node_labels": {"zone": "a"}, "tensor_parallel_size": 2}),
    ],
)
def test_a_replicas_options_are_those_of_ray_serve_llm(
    monkeypatch: pytest.MonkeyPatch, device: str, fields: dict[str, Any]
) -> None:
    import ray
    from ray.llm._internal.serve.core.server.builder import (
        DEFAULT_DEPLOYMENT_OPTIONS,
        maybe_apply_llm_deployment_config_defaults,
    )
    from ray.serve.llm import LLMConfig
    from ray.serve.llm.deployment import LLMServer

    given = {"working_dir": "gcs://x", "env_vars": {"A": "1"}}
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(runtime_env=copy.deepcopy(given)))
    model = served(**fields)
    config = llm_config(model, device, log_engine_metrics=True, direct=True)
    theirs = LLMServer.get_deployment_options(LLMConfig(**config))
    theirs = maybe_apply_llm_deployment_config_defaults(DEFAULT_DEPLOYMENT_OPTIONS, theirs)
    ours = replica_options(config, model.tensor_parallel_size)
    # It imports nothing that a replica needs; and the application's own variables stay.
    theirs["ray_actor_options"]["runtime_env"].pop("worker_process_setup_hook")
    theirs["ray_actor_options"]["runtime_env"]["env_vars"]["A"] = "1"
    for bundle in (*theirs["placement_group_bundles"], *ours["placement_group_bundles"]):
        for name in [name for name, amount in bundle.items() if not amount]:
            del bundle[name]
    assert ours == theirs
