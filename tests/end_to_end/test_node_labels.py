"""Stages and a server on a cluster whose nodes have labels: everything runs where its config says."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from s1ray.cluster import JOB_VARIABLE
from tests.support.cluster_stages import CURATE, TRACES, TRAIN, write_config
from tests.support.ray_head import Head, ray_head, ray_worker

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.timeout(1500)]

ROOT = Path(__file__).resolve().parents[2]
ROLE = "s1ray/role"
ROLES = ("cpu", "train", "serve")
SERVE = """
import sys, httpx
from s1ray.config import validate_config
from s1ray.serving.config import ServingConfig
from s1ray.serving.local import serve_locally
model = {"name": "m", "model": "miniature-base", "device": "cpu", "kv_cache_gib": 0.2, "max_num_seqs": 8}
model |= {"start_attempts": 1, "graceful_shutdown_timeout_s": 1, "node_labels": {"s1ray/role": sys.argv[1]}}
with serve_locally(validate_config(ServingConfig, {"models": [model], "log_engine_metrics": False}, "test")) as app:
    body = {"model": "m", "prompt": "1 + 1", "max_tokens": 4}
    print(httpx.post(f"{app.url}/v1/completions", json=body, timeout=120).status_code)
"""
"""Serves the miniature on nodes with a role, and asks it."""


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A head without CPUs, and a node of two for each role."""
    folder = tmp_path_factory.mktemp("nodes")
    variables = {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(ray_head(folder / "head.log", variables, cpus=0, labels=f"{ROLE}=head"))
        for role in ROLES:
            # One after another: Ray gives a node 30 s to start, and a busy machine needs them.
            log = folder / f"{role}.log"
            stack.enter_context(ray_worker(log, found, cpus=2, labels=f"{ROLE}={role}"))
            deadline = time.monotonic() + 120
            while role not in roles(found).values():
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
        assert set(roles(found).values()) == {"head", *ROLES}
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def asked(head: Head, what: str) -> list[dict[str, Any]]:
    """What Ray's state API lists."""
    answer = httpx.get(f"{head.dashboard}/api/v0/{what}", params={"detail": 1, "limit": 10_000}, timeout=60)
    found: list[dict[str, Any]] = answer.json()["data"]["result"]["result"]
    return found


def roles(head: Head) -> dict[str, str]:
    """Node id -> the role of the node."""
    alive = [node for node in asked(head, "nodes") if node["state"] == "ALIVE"]
    return {node["node_id"]: (node["labels"] or {}).get(ROLE, "") for node in alive}


OWN = {"get_table_block_metadata_schema"}
"""Ray Data's, which looks at a block where it lies."""


class Seen:
    """What ran on a cluster inside of a block: tasks by name, actors by class, and the roles of their nodes."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self.tasks, self.actors = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)

    def __enter__(self) -> Seen:
        self._before = {task["task_id"] for task in asked(self._head, "tasks")}
        self._before |= {actor["actor_id"] for actor in asked(self._head, "actors")}
        return self

    def __exit__(self, *error: object) -> None:
        time.sleep(2)  # Ray's processes tell of their tasks once a second.
        role = roles(self._head)
        for task in asked(self._head, "tasks"):
            if task["task_id"] not in self._before and task["type"] == "NORMAL_TASK" and task["node_id"] in role:
                self.tasks[task["name"]].add(role[task["node_id"]])
        for actor in asked(self._head, "actors"):
            if actor["actor_id"] not in self._before and actor["node_id"] in role:
                self.actors[actor["class_name"]].add(role[actor["node_id"]])

    def of(self, name: str) -> set[str]:
        """The roles of the nodes of actors whose class has this in its name."""
        found = [nodes for each, nodes in self.actors.items() if name in each]
        assert found, dict(self.actors)
        return set.union(*found)

    def of_tasks(self) -> set[str]:
        """The roles of the nodes of all tasks."""
        return set.union(*(nodes for name, nodes in self.tasks.items() if name not in OWN))


def command(head: Head, *words: str) -> subprocess.CompletedProcess[str]:
    environment = head.environment | {"RAY_ADDRESS": head.gcs}
    environment.pop(JOB_VARIABLE, None)
    return subprocess.run(
        [sys.executable, *words], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )


def stage(head: Head, name: str, file: Path) -> Seen:
    """Run a stage; where its tasks and actors ran."""
    with Seen(head) as seen:
        done = command(head, "-m", "s1ray.cli", name, "--config", str(file))
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert seen.tasks.pop("look") == {"head", *ROLES}, "storage is looked at on every node"
    return seen


def test_every_stage_runs_on_the_nodes_that_its_config_names(head: Head, folder: Path) -> None:
    cpu, serve, train = ({ROLE: role} for role in ("cpu", "serve", "train"))
    curate = write_config(folder / "curate.yaml", CURATE, f"{folder}/curate", node_labels=cpu)
    seen = stage(head, "curate", curate)
    assert seen.of_tasks() == {"cpu"}, seen.tasks

    questions = f"{folder}/curate/questions.parquet"
    teacher = TRACES["teacher"] | {"node_labels": serve}
    traces = write_config(
        folder / "traces.yaml", TRACES, f"{folder}/traces", questions=questions, teacher=teacher, node_labels=cpu
    )
    seen = stage(head, "traces", traces)
    assert seen.of("MapWorker") == {"serve"}, seen.actors
    assert seen.of_tasks() == {"cpu"}, seen.tasks

    kept = f"{folder}/traces/traces.parquet"
    config = write_config(
        folder / "train.yaml", TRAIN, f"{folder}/train", traces=kept, num_workers=2, node_labels=train
    )
    seen = stage(head, "train", config)
    assert seen.of("TrainWorker") == {"train"}, seen.actors


def test_labels_that_no_node_has_are_refused_before_any_work(head: Head, folder: Path) -> None:
    labels = {ROLE: "in(gpu, tpu)"}
    file = write_config(folder / "refused.yaml", CURATE, f"{folder}/refused", node_labels=labels)
    done = command(head, "-m", "s1ray.cli", "curate", "--config", str(file))
    assert done.returncode == 2, done.stderr[-2000:]
    assert (
        "error: node_labels: no node of the Ray cluster has s1ray/role=in(gpu,tpu) (s1ray/role is cpu, head, serve, "
        "train), and no autoscaler would add one" in done.stderr
    )
    assert not (folder / "refused" / "work").exists()


def test_a_replica_and_its_engine_are_where_the_serve_config_says(head: Head) -> None:
    with Seen(head) as seen:
        done = command(head, "-c", SERVE, "serve")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "200" in done.stdout.split(), done.stdout
    assert seen.of("BudgetForcingServer") == {"serve"}, seen.actors
    refused = command(head, "-c", SERVE, "gpu")
    assert refused.returncode != 0
    assert "args.models.0.node_labels: no node of the Ray cluster has s1ray/role=gpu" in refused.stderr
