"""Hosts that lose power or their link, links that are slow, a head that dies: nothing is lost, and no byte differs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s1ray.runs import read_manifest
from tests.support.cluster_stages import CURATE, TRACES, TRAIN, digests, here, write_config
from tests.support.ray_hosts import WORKERS, RayHosts

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

LARGER = CURATE | {"sources": [{"kind": "miniature", "size": 30000}]}


@pytest.fixture
def whole(cluster: RayHosts) -> Iterator[RayHosts]:
    """The cluster, with all of its hosts, before the test and after it."""
    yield cluster
    for name in WORKERS:
        cluster.hosts[name].plug()
        if cluster.hosts[name].address not in cluster.alive():
            cluster.hosts[name].power_off()
            cluster.start_worker(name)
    cluster.wait_for_nodes(1 + len(WORKERS))


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on one machine that nothing happens to."""
    folder = tmp_path_factory.mktemp("alone")
    here("curate", write_config(folder / "curate.yaml", LARGER, str(folder / "curate")))
    return folder / "curate"


@pytest.fixture(scope="module")
def trained(curated: Path) -> Path:
    """Traces and a model of one machine."""
    folder = curated.parent
    questions = str(curated / "questions.parquet")
    here("traces", write_config(folder / "traces.yaml", TRACES, str(folder / "traces"), questions=questions))
    fields = {"traces": str(folder / "traces" / "traces.parquet"), "num_workers": 2, "cpus_per_worker": 2}
    here("train", write_config(folder / "train.yaml", TRAIN, str(folder / "train"), **fields))
    return folder


class Job:
    """A stage that runs as a job, while something happens."""

    def __init__(self, cluster: RayHosts, stage: str, config: dict[str, Any], name: str, **fields: Any) -> None:
        self.output = cluster.shared / name
        self._file = write_config(cluster.shared / f"{name}.yaml", config, str(self.output), **fields)
        self._cluster, self._stage = cluster, stage
        self.log = cluster.folder / f"{name}.job"
        self._start()

    def _start(self) -> None:
        self._process = self._cluster.start_job(f"jobs/{self._stage}.py", "--config", str(self._file), log=self.log)

    def reaches(self, what: str, condition: Callable[[], object]) -> None:
        """Wait until it is at a point of its work."""
        self._cluster.wait(what, 300, lambda: condition() or self._process.poll() is not None)
        assert self._process.poll() is None, f"it ended before {what}: {self.said()}"

    def ends(self, status: int = 0, seconds: float = 900) -> None:
        """Wait for its end."""
        assert (self._process.wait(seconds) == 0) == (status == 0), self.said()

    def again(self) -> None:
        """Submit it once more, and wait for a good end."""
        self._start()
        self.ends()

    def said(self) -> str:
        """The end of what it said."""
        return self.log.read_text()[-4000:]

    def files(self) -> int:
        """How many files its run folder holds."""
        return sum(file.is_file() for file in self.output.rglob("*"))


def test_a_worker_without_power_costs_curation_nothing(whole: RayHosts, curated: Path) -> None:
    job = Job(whole, "curate", LARGER, "power")
    job.reaches("some parts", lambda: job.files() > 3)
    whole.hosts["two"].power_off()
    job.ends()
    assert digests(job.output) == digests(curated)


def test_a_minute_without_link_costs_curation_nothing(whole: RayHosts, curated: Path) -> None:
    job = Job(whole, "curate", LARGER, "partition")
    job.reaches("some parts", lambda: job.files() > 3)
    whole.hosts["three"].unplug()
    time.sleep(60)
    whole.hosts["three"].plug()
    job.ends()
    assert digests(job.output) == digests(curated)


def test_slow_links_that_lose_packets_change_no_byte(whole: RayHosts, curated: Path) -> None:
    for name in WORKERS:
        whole.hosts[name].slow(mbit=20, loss_percent=2)
    try:
        job = Job(whole, "curate", LARGER, "slow")
        job.ends()
    finally:
        for name in WORKERS:
            whole.hosts[name].slow(mbit=10_000)
    assert digests(job.output) == digests(curated)


def test_a_worker_without_power_costs_training_no_byte(whole: RayHosts, trained: Path) -> None:
    fields = {"traces": str(trained / "traces" / "traces.parquet"), "num_workers": 2, "cpus_per_worker": 2}
    job = Job(whole, "train", TRAIN | {"max_restarts": 2}, "train-power", **fields)
    metrics = job.output / "metrics.jsonl"
    job.reaches("step 6", lambda: metrics.exists() and len(metrics.read_text().splitlines()) >= 6)
    # Whichever host has a worker of the two; the third takes its place.
    whole.hosts[_trains(whole)].power_off()
    job.ends()
    model = "model/model.safetensors"
    assert digests(job.output)[model] == digests(trained / "train")[model]


def test_a_job_that_is_stopped_goes_on_when_it_is_submitted_again(whole: RayHosts, curated: Path) -> None:
    job = Job(whole, "curate", LARGER, "stopped")
    job.reaches("some parts", lambda: job.files() > 3)
    client = whole.on_client("ray", "job", "list", "--address", whole.dashboard)
    names = [word for word in client.stdout.replace("'", " ").split() if word.startswith("raysubmit_")]
    for name in names:
        whole.on_client("ray", "job", "stop", name, "--address", whole.dashboard)
    job.ends(status=1)
    assert (read_manifest(job.output) or {}).get("status") == "running"
    job.again()
    assert digests(job.output) == digests(curated)


def test_after_the_heads_death_the_job_goes_on_on_the_next_head(whole: RayHosts, curated: Path) -> None:
    job = Job(whole, "curate", LARGER, "head")
    job.reaches("some parts", lambda: job.files() > 3)
    for name in ("head", *WORKERS):
        whole.hosts[name].power_off()
    job.ends(status=1)
    whole.hosts["head"].plug()
    whole.start_head()
    for name in WORKERS:
        whole.start_worker(name)
    whole.wait_for_nodes(1 + len(WORKERS))
    job.again()
    assert digests(job.output) == digests(curated)


def _trains(cluster: RayHosts) -> str:
    """A worker's name on whose host a training worker runs."""
    for name in WORKERS:
        listed = subprocess.run(
            ["ip", "netns", "pids", cluster.hosts[name].namespace], capture_output=True, text=True, check=True
        )
        for pid in listed.stdout.split():
            if "RayTrainWorker" in Path(f"/proc/{pid}/cmdline").read_text(errors="replace"):
                return name
    raise AssertionError("no training worker runs")
