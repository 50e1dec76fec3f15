"""The whole way by `ray job submit` and `serve deploy`, on hosts of their own, gives the bytes of one machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster_stages import (
    CURATE,
    EVAL,
    TRACES,
    TRAIN,
    digests,
    digests_seen,
    evaluate_here,
    here,
    write_config,
)
from tests.support.ray_hosts import SERVE_PORT, WORKERS, RayHosts
from tests.support.served_cluster import replica_hosts, served

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


def submit(cluster: RayHosts, stage: str, file: Path) -> str:
    """Run a stage as a job; what it said."""
    done = cluster.job(f"jobs/{stage}.py", "--config", str(file))
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    return said


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Curation and traces on one machine."""
    folder = tmp_path_factory.mktemp("alone")
    here("curate", write_config(folder / "curate.yaml", CURATE, str(folder / "curate")))
    questions = str(folder / "curate" / "questions.parquet")
    here("traces", write_config(folder / "traces.yaml", TRACES, str(folder / "traces"), questions=questions))
    return folder


@pytest.fixture(scope="module", params=["folder", "store"])
def place(cluster: RayHosts, request: pytest.FixtureRequest) -> str:
    """Where the runs of the cluster lie: a folder that all hosts share, or an object store."""
    return str(cluster.shared / "runs") if request.param == "folder" else f"{cluster.bucket}/way"


@pytest.fixture(scope="module")
def together(cluster: RayHosts, place: str) -> str:
    """Curation and traces on the cluster; where."""
    submit(cluster, "curate", write_config(cluster.shared / "curate.yaml", CURATE, f"{place}/curate"))
    questions = f"{place}/curate/questions.parquet"
    file = write_config(cluster.shared / "traces.yaml", TRACES, f"{place}/traces", questions=questions)
    submit(cluster, "traces", file)
    return place


@pytest.mark.parametrize("stage", ["curate", "traces"])
def test_a_stage_on_three_hosts_gives_the_bytes_of_one_machine(
    cluster: RayHosts, together: str, alone: Path, stage: str
) -> None:
    found = digests_seen(cluster, f"{together}/{stage}")
    assert found == digests(alone / stage)
    assert found.keys() & {"questions.parquet", "traces.parquet"}


@pytest.mark.parametrize("workers", [2, 4])
def test_training_on_different_hosts_gives_the_bytes_of_one_machine(
    cluster: RayHosts, together: str, alone: Path, workers: int
) -> None:
    # Each host has two CPUs: two workers of two CPUs are on two hosts, four of one CPU on two or three.
    fields = {"num_workers": workers, "cpus_per_worker": 4 // workers}
    one, traces = alone / f"train-{workers}", str(alone / "traces" / "traces.parquet")
    if not one.exists():
        here("train", write_config(alone / "train.yaml", TRAIN, str(one), traces=traces, **fields))
    many, traces = f"{together}/train-{workers}", f"{together}/traces/traces.parquet"
    submit(cluster, "train", write_config(cluster.shared / "train.yaml", TRAIN, many, traces=traces, **fields))
    weights = digests_seen(cluster, many)["model/model.safetensors"]
    assert weights == digests(one)["model/model.safetensors"]
    assert "already complete, skipped" in submit(cluster, "train", cluster.shared / "train.yaml")


@pytest.fixture
def server(cluster: RayHosts) -> Iterator[list[str]]:
    """Two replicas on two hosts; the addresses of the hosts that answer."""
    with served(cluster, replicas=2):
        yield [f"http://{cluster.hosts[name].address}:{SERVE_PORT}/v1" for name in ("head", *WORKERS)]


def test_a_benchmark_of_replicas_on_two_hosts_gives_the_bytes_of_one_machine(
    cluster: RayHosts, server: list[str], place: str, alone: Path
) -> None:
    hosts = replica_hosts(cluster)
    assert len(hosts) == len(set(hosts)) == 2
    if not (alone / "eval").exists():
        evaluate_here(alone / "eval")
    answering = [url for url in server if cluster.get(cluster.hosts["client"], f"{url}/models", token=False) == 200]
    assert len(answering) >= 2
    endpoint = {"base_url": answering[0], "replicas": answering[1:]}
    submit(cluster, "eval", write_config(cluster.shared / "eval.yaml", EVAL, f"{place}/eval", endpoint=endpoint))
    found = digests_seen(cluster, f"{place}/eval")
    assert found["evaluations.parquet"] == digests(alone / "eval")["evaluations.parquet"]


def test_the_same_job_twice_at_once_runs_once(cluster: RayHosts, place: str, tmp_path: Path) -> None:
    output = f"{place}/twice"
    many = CURATE | {"sources": [{"kind": "miniature", "size": 100_000}]}
    file = write_config(cluster.shared / "twice.yaml", many, output)
    first = cluster.start_job("jobs/curate.py", "--config", str(file), log=tmp_path / "first.log")
    cluster.wait("the first", 120, lambda: "reading" in (tmp_path / "first.log").read_text())
    # It waits for the other, which may be the driver of a lost node, and finds its result.
    assert "already complete, skipped" in submit(cluster, "curate", file)
    assert first.wait(600) == 0, (tmp_path / "first.log").read_text()[-3000:]
