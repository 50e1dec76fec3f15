"""The whole way by `ray job submit` on hosts of their own gives the bytes of one machine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from s1ray.runs import read_manifest
from tests.support.cluster_stages import CURATE, TRACES, TRAIN, digests, here, write_config
from tests.support.ray_hosts import RayHosts

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


def submit(cluster: RayHosts, stage: str, file: Path) -> subprocess.CompletedProcess[str]:
    done = cluster.job(f"jobs/{stage}.py", "--config", str(file))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs on one machine."""
    folder = tmp_path_factory.mktemp("alone")
    here("curate", write_config(folder / "curate.yaml", CURATE, str(folder / "curate")))
    questions = str(folder / "curate" / "questions.parquet")
    here("traces", write_config(folder / "traces.yaml", TRACES, str(folder / "traces"), questions=questions))
    return folder


@pytest.fixture(scope="module")
def together(cluster: RayHosts) -> Path:
    """The runs on the cluster: curation and traces."""
    folder = cluster.shared
    submit(cluster, "curate", write_config(folder / "curate.yaml", CURATE, str(folder / "curate")))
    questions = str(folder / "curate" / "questions.parquet")
    file = write_config(folder / "traces.yaml", TRACES, str(folder / "traces"), questions=questions)
    submit(cluster, "traces", file)
    return folder


@pytest.mark.parametrize("stage", ["curate", "traces"])
def test_a_stage_on_three_hosts_gives_the_bytes_of_one_machine(together: Path, alone: Path, stage: str) -> None:
    assert digests(together / stage) == digests(alone / stage)
    assert len(digests(together / stage)) > 1


@pytest.mark.parametrize("workers", [2, 4])
def test_training_on_different_hosts_gives_the_bytes_of_one_machine(
    cluster: RayHosts, together: Path, alone: Path, workers: int
) -> None:
    # Each host has two CPUs: two workers of two CPUs are on two hosts, four of one CPU on two or three.
    fields = {"traces": str(together / "traces" / "traces.parquet"), "num_workers": workers}
    fields |= {"cpus_per_worker": 4 // workers}
    here("train", write_config(alone / "train.yaml", TRAIN, str(alone / f"train-{workers}"), **fields))
    output = together / f"train-{workers}"
    submit(cluster, "train", write_config(together / "train.yaml", TRAIN, str(output), **fields))
    weights = [digests(folder / f"train-{workers}")["model/model.safetensors"] for folder in (together, alone)]
    assert weights[0] == weights[1]
    manifest = read_manifest(output)
    assert manifest is not None
    assert manifest["status"] == "complete"


def test_the_same_job_again_is_skipped(cluster: RayHosts, together: Path) -> None:
    done = submit(cluster, "curate", together / "curate.yaml")
    assert "already complete, skipped" in done.stdout + done.stderr


def test_the_same_job_twice_at_once_is_refused(cluster: RayHosts, together: Path, tmp_path: Path) -> None:
    file = write_config(together / "twice.yaml", CURATE | {"seed": 3}, str(together / "twice"))
    first = cluster.start_job("jobs/curate.py", "--config", str(file), log=tmp_path / "first.log")
    cluster.wait("lock", 120, lambda: (together / "twice" / ".lock").exists())
    second = cluster.job("jobs/curate.py", "--config", str(file))
    assert first.wait(600) == 0, (tmp_path / "first.log").read_text()[-3000:]
    said = second.stdout + second.stderr
    assert second.returncode == 0 or "is at work there" in said, said[-3000:]
    assert "Traceback" not in said
    assert json.loads((together / "twice" / "manifest.json").read_text())["status"] == "complete"
