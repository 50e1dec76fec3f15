"""The Helm chart: its schema of values, and what it renders where Helm is installed.

Validation against KubeRay's own CRDs needs a checkout of KubeRay: deploy/kubernetes/validate.py does it.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.kubernetes import validate
from s1ray.config import load_config
from s1ray.recipes import find_recipe
from s1ray.stages import STAGES
from tests.deploy.test_cluster import ROOT

CHART = ROOT / "deploy" / "helm" / "s1ray"
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
NAMES = validate.stages()

helm = pytest.mark.skipif(shutil.which("helm") is None, reason="Helm is not installed")


def values(name: str) -> dict[str, Any]:
    """The defaults with a file of values on top, as Helm merges them."""
    merged: dict[str, Any] = merge(
        DEFAULTS, yaml.safe_load((validate.HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    )
    return merged | {"image": validate.IMAGE}


def merge(below: Any, above: Any) -> Any:
    """Mappings key by key; anything else is replaced."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {key: merge(below.get(key), value) for key, value in above.items()}


def test_there_is_a_file_of_values_for_every_stage_a_server_and_a_cluster() -> None:
    assert NAMES == ["cluster", "curate", "eval", "service", "traces", "train"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_values_fits_the_schema(name: str) -> None:
    jsonschema.validate(values(name), SCHEMA)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image": "s1ray:latest"}, "does not match"),
        ({"image": ""}, "does not match"),
        ({"job": {"stage": "serve"}}, "is not one of"),
        ({"job": {"set": ["output"]}}, "does not match"),
        ({"workers": []}, "should be non-empty"),
        ({"workers": [{"name": "cpu", "min": 0, "max": 1, "cpu": 4, "memory": "8Gi"}]}, "is not of type 'string'"),
        ({"worker": []}, "Additional properties are not allowed"),
        ({"redis": {"address": "redis:6379", "secret": ""}}, "should be non-empty"),
        ({"redis": {"address": "redis:6379", "secret": "s", "password": "x"}}, "Additional properties are not allowed"),
        ({"storage": {"root": "runs"}}, "does not match"),
    ],
)
def test_values_that_would_not_work_or_not_be_safe_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=says):
        jsonschema.validate(values("train") | change, SCHEMA)


@pytest.mark.parametrize("name", ["curate", "traces", "train"])
def test_a_stage_runs_on_a_group_of_its_release(name: str) -> None:
    given = values(name)
    job, groups = given["job"], {group["name"] for group in given["workers"]}
    stage = STAGES[job["stage"]].load()
    config = load_config(stage.config, find_recipe(job["recipe"], job["stage"]), job["set"])
    assert config.node_labels.keys() == {"s1ray/role"}
    assert config.node_labels["s1ray/role"] in groups


@pytest.fixture(params=NAMES)
def manifests(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What the chart renders with a file of values."""
    return validate.render(request.param)


def clusters(manifests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The spec of the Ray cluster in each manifest that has one."""
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["apiVersion"].startswith("ray.io"):
            yield spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


@helm
def test_every_pod_is_without_rights_and_gets_what_it_asks_for(manifests: list[dict[str, Any]]) -> None:
    for cluster in clusters(manifests):
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            pod = group["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            (container,) = pod["containers"]
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert container["image"] == validate.IMAGE
        assert not any(
            group["template"]["spec"]["automountServiceAccountToken"] for group in cluster["workerGroupSpecs"]
        )


@helm
def test_every_cluster_asks_for_the_token_and_scales_with_autoscaler_v2(manifests: list[dict[str, Any]]) -> None:
    (cluster,) = clusters(manifests)
    assert cluster["authOptions"] == {"mode": "token", "secretName": "s1ray-token"}
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        assert group["labels"] == {"s1ray/role": group["groupName"]}


@helm
def test_nobody_outside_reaches_the_pods_but_who_must(manifests: list[dict[str, Any]]) -> None:
    (policy,) = [manifest for manifest in manifests if manifest["kind"] == "NetworkPolicy"]
    (cluster,) = clusters(manifests)
    chosen = policy["spec"]["podSelector"]["matchLabels"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert chosen.items() <= group["template"]["metadata"]["labels"].items()
    inside, *outside = policy["spec"]["ingress"]
    assert inside == {"from": [{"podSelector": {"matchLabels": chosen}}]}
    assert all({port["port"] for port in rule["ports"]} <= {8265, 8000} for rule in outside)


@helm
def test_a_head_that_dies_comes_back_where_redis_is_named() -> None:
    for name in ("service", "cluster"):
        (cluster,) = clusters(validate.render(name))
        options = cluster["gcsFaultToleranceOptions"]
        assert options["redisPassword"] == {"valueFrom": {"secretKeyRef": {"name": "s1ray-redis", "key": "password"}}}
    (cluster,) = clusters(validate.render("cluster", "--set", "redis.address="))
    assert "gcsFaultToleranceOptions" not in cluster


@helm
def test_a_service_takes_over_step_by_step_and_serves_the_shipped_config() -> None:
    (service,) = [manifest for manifest in validate.render("service") if manifest["kind"] == "RayService"]
    assert service["spec"]["upgradeStrategy"]["type"] == "NewClusterWithIncrementalUpgrade"
    served = yaml.safe_load(service["spec"]["serveConfigV2"])
    shipped = yaml.safe_load((ROOT / "deploy" / "serve" / "s1.1-32b.tp4.h100.yaml").read_text(encoding="utf-8"))
    assert served["http_options"].pop("host") == "0.0.0.0"
    shipped["http_options"].pop("host")
    assert served == shipped


@helm
def test_an_override_is_one_word_of_the_entrypoint_whatever_is_in_it() -> None:
    overrides = ["output=runs/it's; rm -rf / #", 'node_labels={"s1ray/role": train}']
    options = ["--set-json", f"job.set={json.dumps(overrides)}"]
    (job,) = [manifest for manifest in validate.render("train", *options) if manifest["kind"] == "RayJob"]
    words = ["s1ray", "train", "--config", "s1-32b", "--root", "/mnt/runs"]
    assert shlex.split(job["spec"]["entrypoint"]) == [*words, *(word for each in overrides for word in ("--set", each))]


@helm
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--set", "job.recipe="], "say what the job does"),
        (["--set", "job.file=x"], "exclude each other"),
        (["--set", "image=s1ray:latest"], "does not match"),
        (["--set", "kind=service"], "say what to serve"),
    ],
)
def test_helm_refuses_in_words(options: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        validate.render("train", *options)
