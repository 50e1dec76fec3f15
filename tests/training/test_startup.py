"""What workers need of a cluster, and what is said while it is not there; the cluster is told, not started."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from s1ray.cluster import NODE_GROUP_LABEL, can_grow
from s1ray.interfaces import interface_of
from s1ray.manifests import RunError
from s1ray.training.config import AccuracyConfig
from s1ray.training.startup import START_TIMEOUT, Awaited, Workers, check_room, check_spare_gpus, patient
from tests.support.training_runs import training_config

SMALL = {"CPU": 4.0}
LARGE = {"CPU": 96.0, "GPU": 8.0, "accelerator_type:H100": 1.0}


def status(*types: str) -> str:
    """As `ray status` prints it."""
    lines = ["======== Autoscaler status: 2026-01-02 ========", "Node status", "---------", "Active:"]
    return "\n".join([*lines, *(f" 1 {name}" for name in types), "Pending:", " (no pending nodes)", ""])


def a_cluster(
    monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float], grows: bool = False, roles: Sequence[str] = ()
) -> None:
    import ray
    import ray.util

    labels = {NODE_GROUP_LABEL: "workers"} if grows else {}
    entries = [{"Resources": node, "Alive": True, "Labels": labels} for node in nodes]
    for entry, role in zip(entries, roles, strict=False):
        entry["Labels"] = labels | {"s1ray/role": role}
    monkeypatch.setattr(ray, "nodes", lambda: entries)
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 1.0})
    monkeypatch.setattr(ray.util, "placement_group_table", dict)
    monkeypatch.setattr("s1ray.cluster._ray_status", lambda address: status("node_4f0c"))
    monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(gcs_address="127.0.0.1:6379"))


def test_workers_need_what_the_config_says_and_a_gpu_where_there_are_any() -> None:
    config = training_config(num_workers=16, cpus_per_worker=3)
    assert Workers.of(config, SMALL) == Workers(16, {"CPU": 3.0})
    assert Workers.of(config, LARGE) == Workers(16, {"CPU": 3.0, "GPU": 1.0})
    on_h100 = Workers.of(training_config(num_workers=2, accelerator_type="H100"), SMALL)
    assert str(on_h100) == "2 worker(s) of 1 CPU(s), 1 H100 each"
    assert not Workers.of(training_config(device="cpu"), LARGE).on_gpu


def test_a_worker_must_fit_on_one_node_and_on_the_right_gpu() -> None:
    assert Workers(9, {"CPU": 3.0}).fitting([SMALL, SMALL, {}]) == 2
    assert Workers(9, {"CPU": 1.0, "GPU": 1.0}).fitting([SMALL, LARGE, LARGE]) == 16
    assert Workers(9, {"CPU": 1.0, "GPU": 1.0}, "A100").fitting([LARGE]) == 0


def test_a_cluster_that_cannot_grow_is_refused_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    a_cluster(monkeypatch, SMALL, LARGE)
    check_room(Workers(8, {"CPU": 1.0, "GPU": 1.0}))
    with pytest.raises(
        RunError,
        match=r"needs 16 worker\(s\) of 1 CPU\(s\), 1 GPU each; the Ray cluster of 2 node\(s\) \(100 CPU\(s\) and "
        r"8 GPU\(s\)\) has room for 8, and no autoscaler.*set num_workers to 8 or fewer",
    ):
        check_room(Workers(16, {"CPU": 1.0, "GPU": 1.0}))


def test_measuring_the_accuracy_needs_gpus_that_no_worker_has(monkeypatch: pytest.MonkeyPatch) -> None:
    accuracy = AccuracyConfig(benchmark="miniature", tensor_parallel_size=2)
    a_cluster(monkeypatch, SMALL, LARGE)
    check_spare_gpus(Workers(6, {"CPU": 1.0, "GPU": 1.0}), accuracy)
    check_spare_gpus(Workers(96, {"CPU": 1.0}), accuracy)
    with pytest.raises(RunError, match=r"accuracy needs 2 GPU\(s\) beside the 7 worker\(s\); .* has 8"):
        check_spare_gpus(Workers(7, {"CPU": 1.0, "GPU": 1.0}), accuracy)
    a_cluster(monkeypatch, LARGE, grows=True)
    check_spare_gpus(Workers(8, {"CPU": 1.0, "GPU": 1.0}), accuracy)


def test_only_nodes_with_the_labels_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    a_cluster(monkeypatch, LARGE, LARGE, roles=("train", "serve"))
    config = training_config(num_workers=9, node_labels={"s1ray/role": "train"})
    workers = Workers.of(config, LARGE)
    with pytest.raises(
        RunError,
        match=r"needs 9 worker\(s\) of 1 CPU\(s\), 1 GPU each on nodes with s1ray/role=train; the Ray cluster of 1 "
        r"such node\(s\) \(96 CPU\(s\) and 8 GPU\(s\)\) has room for 8, and no autoscaler",
    ):
        check_room(workers)
    check_room(Workers(9, {"CPU": 1.0, "GPU": 1.0}))
    a_cluster(monkeypatch, LARGE, roles=("serve",), grows=True)
    check_room(workers)
    pending = {"state": "PENDING", "bundles": {index: {"CPU": 1.0, "GPU": 1.0} for index in range(9)}}
    monkeypatch.setattr("ray.util.placement_group_table", lambda: {"group": pending})
    told = str(Awaited(workers)(finished=False))
    assert told.startswith("waiting for 9 worker(s) of 1 CPU(s), 1 GPU each on nodes with s1ray/role=train: ")
    assert told.endswith("; 0 node(s) have these labels")


def test_measuring_the_accuracy_may_have_nodes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    a_cluster(monkeypatch, LARGE, LARGE, roles=("train", "serve"))
    each = {"CPU": 1.0, "GPU": 1.0}
    on_train = Workers(8, each, node_labels={"s1ray/role": "train"})
    check_spare_gpus(on_train, AccuracyConfig(benchmark="miniature", node_labels={"s1ray/role": "serve"}))
    check_spare_gpus(Workers(8, each), AccuracyConfig(benchmark="miniature", node_labels={"s1ray/role": "train"}))
    with pytest.raises(RunError, match=r"the Ray cluster has 8 on nodes with s1ray/role=train, and no autoscaler"):
        check_spare_gpus(on_train, AccuracyConfig(benchmark="miniature", node_labels={"s1ray/role": "train"}))
    with pytest.raises(RunError, match="accuracy needs 1 GPU"):
        check_spare_gpus(Workers(16, each), AccuracyConfig(benchmark="miniature", node_labels={"s1ray/role": "train"}))


def test_a_cluster_with_an_autoscaler_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(16, {"CPU": 1.0, "GPU": 1.0})
    a_cluster(monkeypatch, SMALL, grows=True)
    check_room(workers)
    awaited = Awaited(workers)
    assert awaited(finished=False) == "Ray Train is starting"
    pending = {"state": "PENDING", "bundles": {index: {"CPU": 1.0, "GPU": 1.0} for index in range(16)}}
    monkeypatch.setattr("ray.util.placement_group_table", lambda: {"group": pending})
    assert awaited(finished=False) == (
        "waiting for 16 worker(s) of 1 CPU(s), 1 GPU each: the cluster of 1 node(s) has 4 CPU(s) and 0 GPU(s), 1 "
        "CPU(s) and 0 GPU(s) free"
    )


def test_the_older_autoscaler_is_known_by_its_node_types(monkeypatch: pytest.MonkeyPatch) -> None:
    a_cluster(monkeypatch, SMALL)

    def reports(text: str) -> None:
        monkeypatch.setattr("s1ray.cluster._ray_status", lambda address: text)

    reports(status("node_4f0c", "node_77aa"))
    assert not can_grow()
    reports(status("ray.head.default"))
    assert can_grow()
    reports("")
    assert can_grow(), "where nothing is known the run waits"


def test_workers_that_start_are_at_work_or_were_lost_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray.util

    groups: dict[str, dict[str, object]] = {}

    def group(name: str, state: str, cpus: float = 1.0) -> None:
        groups[name] = {"state": state, "bundles": {0: {"CPU": cpus}, 1: {"CPU": cpus}}}

    a_cluster(monkeypatch, SMALL, SMALL)
    monkeypatch.setattr(ray.util, "placement_group_table", lambda: groups)
    awaited = Awaited(Workers(2, {"CPU": 1.0}))
    group("others", "CREATED", cpus=0.5)
    assert awaited(finished=False) == "Ray Train is starting"
    group("first", "CREATED")
    assert awaited(finished=False) == "the workers are starting"
    awaited.stepped()
    assert awaited(finished=False) is None
    assert awaited(finished=True) == "the last checkpoint and the model are being written"
    group("first", "REMOVED")
    group("second", "PENDING")
    a_cluster(monkeypatch, SMALL)
    monkeypatch.setattr(ray.util, "placement_group_table", lambda: groups)
    assert str(awaited(finished=False)).startswith("waiting again for 2 worker(s) of 1 CPU(s) each: the cluster of 1 ")
    assert "(1 node(s) lost)" in str(awaited(finished=False))
    group("second", "CREATED")
    assert awaited(finished=False) == "the workers are starting again"


def test_ray_train_is_given_ten_minutes_unless_the_user_has_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(START_TIMEOUT, raising=False)
    with patient():
        assert os.environ[START_TIMEOUT] == "600"
    assert START_TIMEOUT not in os.environ
    monkeypatch.setenv(START_TIMEOUT, "90")
    with patient():
        assert os.environ[START_TIMEOUT] == "90"
    assert os.environ[START_TIMEOUT] == "90"


def test_ray_train_still_reads_its_time_out_from_there() -> None:
    from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE

    assert START_TIMEOUT in ENV_VARS_TO_PROPAGATE


def test_the_interface_is_the_one_with_rays_address() -> None:
    interfaces = {"lo": ["127.0.0.1", "::1"], "eth0": ["10.0.0.7", "fe80::1%eth0"], "ib0": ["10.1.0.7"]}
    assert interface_of("10.1.0.7", interfaces) == "ib0"
    assert interface_of("fe80::1", interfaces) == "eth0"
    assert interface_of("10.2.0.7", interfaces) is None
