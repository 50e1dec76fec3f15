"""Labels of nodes in configs: what is a label, where they are looked for, and what a cluster without them says."""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from s1ray import config as configs
from s1ray.cluster import NODE_GROUP_LABEL, check_node_labels, nodes_with, resources_of
from s1ray.config import Config, ConfigError, NodeLabels, validate_config
from s1ray.curation.config import CurationConfig
from s1ray.manifests import without
from s1ray.models import EngineConfig
from s1ray.ray_data import on_nodes, task_options
from s1ray.serving.config import ServingConfig
from s1ray.teachers.base import Teacher
from s1ray.teachers.language_models import VLLMTeacher
from s1ray.traces.config import TracesConfig
from s1ray.training.config import TrainingConfig

TRAIN = {"s1ray/role": "train"}
CURATE: dict[str, JsonValue] = {"output": "x", "sources": [{"kind": "miniature", "size": 10}]}
TRACES: dict[str, JsonValue] = {"output": "x", "questions": "x", "tokenizer": "x"}
VLLM: dict[str, JsonValue] = {"kind": "vllm", "engine": {"model": "x"}}
STAGES: list[tuple[type[Config], dict[str, JsonValue]]] = [
    (TrainingConfig, {"output": "x", "model": "x", "traces": "x"}),
    (CurationConfig, CURATE),
    (TracesConfig, TRACES | {"teacher": VLLM}),
]


class Placed(Config):
    node_labels: NodeLabels | None = None


def a_cluster(patch: pytest.MonkeyPatch, *labels: dict[str, str], grows: bool = False, gpus: float = 0) -> None:
    """Stand for the connected cluster: a node of 8 CPUs for each set of labels, and one that is dead."""
    import ray

    group = {NODE_GROUP_LABEL: "workers"} if grows else {}
    resources = {"CPU": 8.0, "GPU": gpus}
    nodes = [{"Alive": True, "Labels": each | group, "Resources": resources} for each in labels]
    dead = {"Alive": False, "Labels": {"s1ray/role": "dead"}, "Resources": {}}
    patch.setattr(ray, "nodes", lambda: [*nodes, dead])
    patch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="127.0.0.1:6379"))
    patch.setattr("s1ray.cluster._ray_status", lambda address: "Active:\n 1 node_4f0c\nPending:\n")


@pytest.mark.parametrize(
    "labels",
    [
        TRAIN,
        {"role": "a.b_c-D9", "ray.io/market-type": "spot"},
        {"s1ray/role": "!head", "zone": "in(a,b,c)"},
        {"s1ray/role": "!in(head)"},
        {"a" * 63: "b" * 63},
    ],
)
def test_labels_and_selectors_as_ray_has_them(labels: dict[str, str]) -> None:
    assert validate_config(Placed, {"node_labels": labels}, "test").node_labels == labels


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "node_labels: Dictionary should have at least 1 item"),
        ("s1ray/role=train", "node_labels: Input should be a valid dictionary"),
        ({"s1ray/role": 1}, "node_labels.s1ray/role: Input should be a valid string"),
        ({"s1ray/role": None}, "node_labels.s1ray/role: Input should be a valid string"),
        ({"s1ray/role": ""}, "s1ray/role: '' is no value of a label: write VALUE"),
        ({"s1ray/role": "a b"}, "s1ray/role: 'a b' is no value"),
        ({"s1ray/role": "in()"}, "s1ray/role: 'in()' is no value"),
        ({"s1ray/role": "(a)"}, "s1ray/role: '(a)' is no value"),
        ({"s1ray/role": "a" * 64}, "is no value"),
        ({"": "a"}, "'' is no label; write a name of letters"),
        ({"a/b/c": "a"}, "'a/b/c' is no label"),
        ({"-role": "a"}, "'-role' is no label"),
        ({"a" * 64: "a"}, "is no label"),
        ({"a." * 127 + "a/role": "a"}, "is no label"),
    ],
)
def test_what_is_no_label_is_refused_before_anything_starts(labels: object, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        validate_config(Placed, {"node_labels": labels}, "test")


def test_a_space_in_a_list_is_no_part_of_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = validate_config(Placed, {"node_labels": {"s1ray/role": "!in(cpu, head)"}}, "test").node_labels
    assert labels == {"s1ray/role": "!in(cpu,head)"}
    a_cluster(monkeypatch, {"s1ray/role": "head"}, TRAIN)
    assert [node["Labels"] for node in nodes_with(labels)] == [TRAIN]


@given(
    key=st.from_regex(configs._LABEL_KEY, fullmatch=True), wanted=st.from_regex(configs._LABEL_WANTED, fullmatch=True)
)
def test_whatever_is_accepted_ray_accepts(key: str, wanted: str) -> None:
    from ray._private.label_utils import validate_label_selector

    assert validate_label_selector({key: wanted}) is None


def test_a_laptop_needs_no_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    a_cluster(monkeypatch, {})
    for model, data in STAGES:
        config = validate_config(model, data, "test")
        assert getattr(config, "node_labels") is None  # noqa: B009  not a field of every config
        check_node_labels(config)
    assert len(nodes_with(None)) == 1


def test_where_something_runs_changes_no_result() -> None:
    for model, data in STAGES:
        plain = validate_config(model, data, "test")
        placed = validate_config(model, data | {"node_labels": TRAIN}, "test")
        assert _decisive(plain) == _decisive(placed)
    teacher = validate_config(VLLMTeacher, VLLM, "test")
    placed_teacher = validate_config(VLLMTeacher, VLLM | {"node_labels": TRAIN}, "test")
    assert teacher.fingerprint() == placed_teacher.fingerprint()
    config = validate_config(TracesConfig, TRACES | {"teacher": VLLM, "judge": VLLM | {"node_labels": TRAIN}}, "test")
    assert {"teacher.node_labels", "judge.node_labels"} <= config.incidental_fields()


def _decisive(config: Config) -> object:
    return without(config.model_dump(mode="json"), config.incidental_fields())


def test_a_selector_chooses_among_live_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    a_cluster(monkeypatch, {"s1ray/role": "head"}, {"s1ray/role": "cpu"}, TRAIN, TRAIN, gpus=8)

    def roles(wanted: str) -> list[str]:
        return [node["Labels"]["s1ray/role"] for node in nodes_with({"s1ray/role": wanted})]

    assert roles("train") == ["train", "train"]
    assert roles("in(cpu,head)") == ["head", "cpu"]
    assert roles("!in(train,head)") == ["cpu"]
    assert roles("dead") == []
    assert resources_of(TRAIN) == {"CPU": 16.0, "GPU": 16.0}
    assert resources_of({"s1ray/role": "serve"}) == resources_of(None) == {"CPU": 32.0, "GPU": 32.0}


def test_labels_that_no_node_has_and_none_can_get_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    a_cluster(monkeypatch, {"s1ray/role": "cpu"}, {})
    with pytest.raises(ConfigError) as told:
        check_node_labels(Placed(node_labels=TRAIN | {"zone": "b"}), "args")
    assert str(told.value) == (
        "args.node_labels: no node of the Ray cluster has s1ray/role=train, zone=b (s1ray/role is cpu, unset; zone is "
        "unset), and no autoscaler would add one: start nodes with `ray start --labels`, or leave args.node_labels out"
    )


def test_an_autoscaler_may_add_a_node_and_the_wait_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    a_cluster(monkeypatch, {"s1ray/role": "head"}, grows=True)
    with caplog.at_level(logging.WARNING, "s1ray"):
        check_node_labels(Placed(node_labels=TRAIN))
    assert caplog.messages == [
        "node_labels: no node has s1ray/role=train yet (s1ray/role is head); what runs there waits for the autoscaler"
    ]


@pytest.mark.parametrize(
    ("model", "data", "field"),
    [
        (TrainingConfig, {"output": "x", "model": "x", "traces": "x", "node_labels": TRAIN}, "node_labels"),
        (
            TrainingConfig,
            {"output": "x", "model": "x", "traces": "x", "accuracy": {"benchmark": "b", "node_labels": TRAIN}},
            "accuracy.node_labels",
        ),
        (CurationConfig, CURATE | {"node_labels": TRAIN}, "node_labels"),
        (
            CurationConfig,
            CURATE | {"difficulty": {"kind": "model", "models": {"7b": VLLM | {"node_labels": TRAIN}}}},
            "difficulty.models.7b.node_labels",
        ),
        (TracesConfig, TRACES | {"teacher": VLLM, "judge": VLLM | {"node_labels": TRAIN}}, "judge.node_labels"),
        (
            ServingConfig,
            {"models": [{"name": "a", "model": "x"}, {"name": "b", "model": "x", "node_labels": TRAIN}]},
            "models.1.node_labels",
        ),
    ],
)
def test_every_labelled_part_of_a_config_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, model: type[Config], data: dict[str, Any], field: str
) -> None:
    config = validate_config(model, data, "test")
    a_cluster(monkeypatch, {}, TRAIN)
    check_node_labels(config)
    a_cluster(monkeypatch, {})
    with pytest.raises(ConfigError, match=f"^{re.escape(field)}: no node of the Ray cluster has s1ray/role=train"):
        check_node_labels(config)


def test_tasks_of_a_stage_are_placed_inside_its_block_and_a_teacher_by_its_own_labels() -> None:
    from ray.data import DataContext

    def selector() -> object:
        return DataContext.get_current().execution_options.label_selector

    assert task_options() == {"num_cpus": 1}
    with on_nodes(TRAIN):
        assert task_options() == {"num_cpus": 1, "label_selector": TRAIN}
        assert selector() == TRAIN
        with on_nodes(None):
            assert task_options() == {"num_cpus": 1}
        assert selector() == TRAIN
    assert selector() is None


def test_an_engine_takes_gpus_where_its_nodes_have_some(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    gpu = {"Alive": True, "Labels": TRAIN, "Resources": {"CPU": 8.0, "GPU": 8.0}}
    cpu = {"Alive": True, "Labels": {"s1ray/role": "cpu"}, "Resources": {"CPU": 8.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [gpu, cpu])
    engine = EngineConfig(model="x", tensor_parallel_size=2)
    assert VLLMTeacher(kind="vllm", engine=engine).placement().options == {"num_cpus": 1, "num_gpus": 2}
    on_cpus = VLLMTeacher(kind="vllm", engine=engine, node_labels={"s1ray/role": "cpu"})
    assert on_cpus.placement().options == {"num_cpus": 2}


def test_a_teacher_of_another_package_has_labels_too() -> None:
    class Own(Teacher):
        incidental = frozenset({"kind"})

    assert Own(kind="own", node_labels=TRAIN).fingerprint() == {}
