from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s1ray.config import BASE_MODEL_DIR
from s1ray.serving.config import ServedModel
from s1ray.serving.llm_config import deployment_options, engine_kwargs, llm_config, model_source, resolve_device


def served(**fields: Any) -> ServedModel:
    return ServedModel.model_validate({"name": "m", "model": "org/model"} | fields)


@pytest.mark.parametrize(
    ("device", "gpus", "resolved"),
    [("auto", 0, "cpu"), ("auto", 8, "gpu"), ("cpu", 8, "cpu"), ("gpu", 0, "gpu")],
)
def test_auto_takes_gpus_where_there_are_some(device: str, gpus: float, resolved: str) -> None:
    assert resolve_device(device, gpus) == resolved


def test_a_cpu_engine_runs_eagerly_in_float32_with_a_cache_of_its_own() -> None:
    kwargs = engine_kwargs(served(kv_cache_gib=0.5, max_model_len=512), "cpu")
    assert kwargs["enforce_eager"] is True
    assert kwargs["dtype"] == "float32"
    assert kwargs["kv_cache_memory_bytes"] == 1 << 29
    assert kwargs["max_model_len"] == 512
    assert engine_kwargs(served(dtype="bfloat16"), "cpu")["dtype"] == "bfloat16"


def test_a_gpu_engine_keeps_vllms_own_defaults() -> None:
    kwargs = engine_kwargs(served(tensor_parallel_size=4), "gpu")
    assert kwargs["tensor_parallel_size"] == 4
    assert kwargs["dtype"] == "auto"
    assert not {"enforce_eager", "kv_cache_memory_bytes", "max_model_len", "tokenizer"} & kwargs.keys()


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_every_engine_loads_the_budget_forcing_processor_by_name(device: str) -> None:
    assert engine_kwargs(served(), device)["logits_processors"] == ["s1ray.thinking.processor:BudgetForcingProcessor"]


def test_the_models_own_engine_arguments_come_last() -> None:
    kwargs = engine_kwargs(served(engine_kwargs={"enforce_eager": False, "seed": 3}), "cpu")
    assert kwargs["enforce_eager"] is False
    assert kwargs["seed"] == 3


def test_a_replica_is_placed_by_workers() -> None:
    gpu = llm_config(
        served(accelerator_type="H100", strategy="PACK", cpus_per_worker=2), "gpu", log_engine_metrics=True
    )
    assert gpu["placement_group_config"] == {"bundle_per_worker": {"GPU": 1, "CPU": 2}, "strategy": "PACK"}
    assert gpu["accelerator_type"] == "H100"
    cpu = llm_config(served(cpus_per_worker=2), "cpu", log_engine_metrics=True)
    assert cpu["placement_group_config"]["bundle_per_worker"] == {"CPU": 2}
    assert cpu["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "2"


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
    assert model_source("org/model") == "org/model"
    assert model_source("miniature-base") == str(BASE_MODEL_DIR)
