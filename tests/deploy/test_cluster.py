"""cluster.yaml, checked with Ray's own schema and validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import fill_node_type_min_max_workers, validate_config
from ray.util.accelerators import accelerators

from s1ray.serving.check import check_serve_config

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def cluster() -> Any:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))


def test_the_cluster_is_valid_for_ray(cluster: dict[str, Any]) -> None:
    jsonschema.validate(cluster, SCHEMA)
    filled = cluster | {"cluster_synced_files": []}
    fill_node_type_min_max_workers(filled)
    validate_config(filled)


def test_rays_schema_refuses_a_misspelt_key(cluster: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster | {"max_worker": 1}, SCHEMA)


def test_the_head_offers_no_cpus(cluster: dict[str, Any]) -> None:
    assert cluster["available_node_types"][cluster["head_node_type"]]["resources"] == {"CPU": 0}


def test_training_and_serving_have_separate_gpus_and_idle_nodes_stop(cluster: dict[str, Any]) -> None:
    workers = {
        name: node for name, node in cluster["available_node_types"].items() if name != cluster["head_node_type"]
    }
    gpus = {node["labels"]["s1ray/role"]: node["resources"] for node in workers.values() if "GPU" in node["resources"]}
    assert set(gpus) == {"train", "serve"}
    types = [
        {key.removeprefix("accelerator_type:") for key in resources if key.startswith("accelerator_type:")}
        for resources in gpus.values()
    ]
    assert not types[0] & types[1]
    known = {value for name, value in vars(accelerators).items() if name.startswith("NVIDIA_")}
    assert types[0] | types[1] <= known
    for node in workers.values():
        assert node["min_workers"] == 0
        assert 0 < node["idle_timeout_s"] <= 3600


def test_the_serve_config_for_this_cluster_selects_its_serving_nodes(cluster: dict[str, Any]) -> None:
    (config,) = check_serve_config(ROOT / "deploy" / "serve" / "s1.1-32b.tp4.l40s.yaml").values()
    (model,) = config.models
    types = cluster["available_node_types"].values()
    (chosen,) = [node for node in types if node["labels"] == model.node_labels]
    assert chosen["resources"][f"accelerator_type:{model.accelerator_type}"] == 1
    assert chosen["resources"]["GPU"] >= model.tensor_parallel_size


def test_the_dashboard_is_not_open_to_the_network(cluster: dict[str, Any]) -> None:
    start = " ".join(cluster["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start
