"""Hosts that lose power or their link, slow links and stores, full disks: nothing is lost, and no byte differs."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from s1ray.manifests import read_manifest
from tests.support.cluster_jobs import Job, host_of
from tests.support.cluster_stages import (
    EVAL,
    LARGER,
    TRACES,
    TRAIN,
    digests,
    digests_seen,
    evaluate_here,
    here,
    write_config,
)
from tests.support.hosts import MEMORY
from tests.support.ray_hosts import SERVE_PORT, WORKERS, RayHosts
from tests.support.served_cluster import replica_hosts, served

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

WEIGHTS = "model/model.safetensors"


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The curation of one machine that nothing happens to."""
    folder = tmp_path_factory.mktemp("alone")
    here("curate", write_config(folder / "curate.yaml", LARGER, str(folder / "curate")))
    return folder / "curate"


@pytest.fixture(scope="module")
def traced(curated: Path) -> Path:
    """The traces of one machine."""
    folder, questions = curated.parent, str(curated / "questions.parquet")
    here("traces", write_config(folder / "traces.yaml", TRACES, str(folder / "traces"), questions=questions))
    return folder / "traces"


@pytest.fixture(scope="module")
def fields(traced: Path) -> dict[str, object]:
    """What a training of two workers on two hosts takes."""
    return {"traces": str(traced / "traces.parquet"), "num_workers": 2, "cpus_per_worker": 2, "epochs": 3}


@pytest.fixture(scope="module")
def weights(fields: dict[str, object], traced: Path) -> str:
    """The digest of the model of one machine."""
    output = traced.parent / "train"
    here("train", write_config(traced.parent / "train.yaml", TRAIN, str(output), **fields))
    return digests(output)[WEIGHTS]


@contextlib.contextmanager
def full(folder: Path, *, left: int) -> Iterator[None]:
    """Inside the block, a folder's file system has so many bytes left."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as stream:
        while True:
            stream.write(bytes(1 << 16))
            stream.flush()
    with filler.open("rb+") as stream:
        stream.truncate(filler.stat().st_size - left)
    try:
        yield
    finally:
        filler.unlink()


def steps(job: Job) -> int:
    """How many steps a training has noted."""
    metrics = Path(job.output) / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def lines(job: Job) -> int:
    """How many lines the journals of a run have."""
    return sum(file.read_bytes().count(b"\n") for file in Path(job.output).rglob("*.jsonl"))


def answers(job: Job) -> int:
    """How many answers the ledger of a run has."""
    ledgers = Path(job.output).rglob("*.jsonl")
    return sum(json.loads(line)["event"] == "answered" for file in ledgers for line in _whole_lines(file))


def _whole_lines(file: Path) -> list[bytes]:
    return file.read_bytes().split(b"\n")[:-1]


def test_a_worker_without_power_costs_curation_nothing(whole: RayHosts, curated: Path) -> None:
    job = Job(whole, "curate", LARGER, whole.shared / "power")
    job.reaches("work on the workers", lambda: job.files("*.tries"))
    whole.hosts["two"].power_off()
    job.ends()
    assert digests(job.output) == digests(curated)


def test_a_minute_without_link_costs_curation_nothing(whole: RayHosts, curated: Path) -> None:
    job = Job(whole, "curate", LARGER, whole.shared / "partition")
    job.reaches("work on the workers", lambda: job.files("*.tries"))
    whole.hosts["three"].unplug()
    time.sleep(60)
    whole.hosts["three"].plug()
    job.ends()
    assert digests(job.output) == digests(curated)


def test_slow_links_that_lose_packets_change_no_byte(whole: RayHosts, curated: Path) -> None:
    for name in WORKERS:
        whole.hosts[name].slow(mbit=20, loss_percent=2)
    try:
        job = Job(whole, "curate", LARGER, whole.shared / "slow")
        job.ends()
    finally:
        for name in WORKERS:
            whole.hosts[name].slow(mbit=10_000)
    assert digests(job.output) == digests(curated)


def test_a_worker_without_power_costs_traces_nothing(whole: RayHosts, curated: Path, traced: Path) -> None:
    questions = str(curated / "questions.parquet")
    job = Job(whole, "traces", TRACES, whole.shared / "traces-power", questions=questions)
    job.reaches("some answers", lambda: answers(job) > 5)
    whole.hosts[host_of(whole, "VLLM")].power_off()
    job.ends()
    assert digests(job.output) == digests(traced)


def test_a_worker_without_power_costs_training_no_byte(
    whole: RayHosts, fields: dict[str, object], weights: str
) -> None:
    job = Job(whole, "train", TRAIN | {"max_restarts": 2}, whole.shared / "train-power", **fields)
    job.reaches("step 6", lambda: steps(job) >= 6)
    # Whichever host has a worker of the two; the third takes its place.
    whole.hosts[host_of(whole, "RayTrainWorker")].power_off()
    job.ends()
    assert digests(job.output)[WEIGHTS] == weights


def test_a_minute_without_link_costs_training_no_byte(whole: RayHosts, fields: dict[str, object], weights: str) -> None:
    job = Job(whole, "train", TRAIN | {"max_restarts": 2}, whole.shared / "train-partition", **fields)
    job.reaches("step 6", lambda: steps(job) >= 6)
    lost = whole.hosts[host_of(whole, "RayTrainWorker")]
    lost.unplug()
    time.sleep(60)
    lost.plug()
    job.ends()
    assert digests(job.output)[WEIGHTS] == weights


def test_a_server_that_loses_a_host_costs_a_benchmark_no_answer(
    whole: RayHosts, tmp_path_factory: pytest.TempPathFactory
) -> None:
    alone = tmp_path_factory.mktemp("eval") / "eval"
    evaluate_here(alone)
    with served(whole, replicas=2):
        address = f"http://{whole.hosts['head'].address}:{SERVE_PORT}/v1"
        endpoint = {"base_url": address, "concurrency": 8}
        job = Job(whole, "eval", EVAL, whole.shared / "eval", endpoint=endpoint)
        job.reaches("some answers", lambda: lines(job) > 20)
        lost = next(name for name in WORKERS if whole.hosts[name].address == replica_hosts(whole)[0])
        whole.hosts[lost].power_off()
        job.ends()
        whole.wait("another replica", 300, lambda: len({*replica_hosts(whole)} - {whole.hosts[lost].address}) == 2)
    assert digests(job.output)["evaluations.parquet"] == digests(alone)["evaluations.parquet"]


def test_a_full_disk_ends_curation_in_words(whole: RayHosts, curated: Path) -> None:
    small = whole.shared / "small"
    with full(small, left=300_000):
        job = Job(whole, "curate", LARGER, small / "curate")
        said = job.ends(well=False)
        assert "the disk is full" in said, said[-4000:]
        assert "Traceback" not in said
        assert (read_manifest(job.output) or {}).get("status") != "complete"
    job.again()
    assert digests(job.output) == digests(curated)
    shutil.rmtree(job.output)


def test_a_full_disk_where_ray_spills_changes_no_byte(whole: RayHosts, curated: Path) -> None:
    with full(whole.spill, left=1_000_000):
        job = Job(whole, "curate", LARGER, whole.shared / "spill")
        job.ends()
    assert digests(job.output) == digests(curated)


@pytest.mark.parametrize(("left", "background"), [(100_000, True), (100_000, False), (0, True)])
def test_a_full_disk_of_checkpoints_ends_training_in_words(
    whole: RayHosts, fields: dict[str, object], weights: str, left: int, background: bool
) -> None:
    small = whole.shared / "small"
    shutil.rmtree(small / "train", ignore_errors=True)
    config = TRAIN | {"max_restarts": 0, "checkpoints": {"every": 4, "background": background}}
    job = Job(whole, "train", config, small / "train", **fields)
    job.reaches("step 2", lambda: steps(job) >= 2)
    with full(small, left=left):
        said = job.ends(well=False)
        assert "No space left on device" in said, said[-4000:]
        assert "training failed: " in said, said[-4000:]
    job.again()
    assert digests(job.output)[WEIGHTS] == weights


@pytest.mark.skipif(not (MEMORY / "memory.limit_in_bytes").exists(), reason="needs memory groups of the kernel")
def test_workers_killed_for_memory_cost_curation_nothing(whole: RayHosts, curated: Path) -> None:
    job = Job(whole, "curate", LARGER, whole.shared / "memory")
    job.reaches("work on the workers", lambda: job.files("*.tries"))
    with whole.hosts["one"].little_memory(60) as killed:
        job.reaches("a kill", lambda: killed() > 0)
    job.ends()
    assert digests(job.output) == digests(curated)


def test_a_slow_and_busy_store_changes_no_byte(
    whole: RayHosts, curated: Path, fields: dict[str, object], weights: str
) -> None:
    whole.faults.write_text(json.dumps({"busy": 0.1, "seconds": 0.05}))
    job = Job(whole, "curate", LARGER, f"{whole.bucket}/busy/curate")
    job.ends()
    assert digests_seen(whole, job.output) == digests(curated)
    job = Job(whole, "train", TRAIN, f"{whole.bucket}/busy/train", **fields)
    job.ends()
    assert digests_seen(whole, job.output)[WEIGHTS] == weights


def test_a_job_that_is_stopped_leaves_nothing_and_goes_on_when_it_is_submitted_again(
    whole: RayHosts, curated: Path
) -> None:
    job = Job(whole, "curate", LARGER, whole.shared / "stopped")
    job.reaches("work on the workers", lambda: job.files("*.tries"))
    job.stop()
    assert (read_manifest(job.output) or {}).get("status") == "running"
    job.again()
    assert digests(job.output) == digests(curated)


def test_after_the_heads_death_the_job_goes_on_on_the_next_head(whole: RayHosts, curated: Path) -> None:
    job = Job(whole, "curate", LARGER, whole.shared / "head")
    job.reaches("work on the workers", lambda: job.files("*.tries"))
    for name in ("head", *WORKERS):
        whole.hosts[name].power_off()
    job.abandon()
    whole.start_head()
    for name in WORKERS:
        whole.start_worker(name)
    whole.wait_for_nodes(1 + len(WORKERS))
    job.again()
    assert digests(job.output) == digests(curated)
