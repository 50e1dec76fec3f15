"""`ray job submit` on a local head of its own: curation, then training on traces, as a user submits them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from s1ray.manifests import read_manifest
from s1ray.schemas import Question, read_table
from tests.support.ray_head import BIN, Head, ray_head

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    log = tmp_path_factory.mktemp("head") / "head.log"
    with ray_head(log, {"RAY_AUTH_MODE": "disabled"}, cpus=6) as found:
        yield found


def submit(head: Head, *entrypoint: str) -> str:
    command = [str(BIN / "ray"), "job", "submit", "--address", head.dashboard, "--working-dir", str(ROOT), "--"]
    command += ["python", *entrypoint]
    result = subprocess.run(command, env=head.environment, capture_output=True, text=True, timeout=500, check=False)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    return output


def curate(head: Head, root: Path) -> Path:
    """Curate 48 questions in a job; gives the folder of the runs."""
    submit(
        head,
        *("jobs/curate.py", "--config", "miniature", "--root", str(root)),
        *("--set", "sources.0.size=1500", "--set", "difficulty=null", "--set", "selection.size=48"),
    )
    return root / "runs" / "miniature"


def test_a_stage_runs_as_a_job(head: Head, tmp_path: Path) -> None:
    runs = curate(head, tmp_path)
    assert len(read_table(runs / "curate" / "questions.parquet", Question)) == 48


@pytest.mark.slow
def test_curation_traces_and_training_run_as_jobs(head: Head, tmp_path: Path) -> None:
    runs = curate(head, tmp_path)
    submit(
        head,
        *("jobs/traces.py", "--config", "miniature", "--root", str(tmp_path)),
    )
    submit(
        head,
        *("jobs/train.py", "--config", "miniature", "--root", str(tmp_path)),
        *("--set", "epochs=1"),
    )
    train = runs / "train"
    manifest = read_manifest(train)
    assert manifest is not None
    assert manifest["status"] == "complete"
    assert manifest["figures"]["steps"] == 3
    assert (train / "model" / "model.safetensors").is_file()


def test_a_job_whose_output_would_be_lost_is_refused(head: Head) -> None:
    command = [str(BIN / "ray"), "job", "submit", "--address", head.dashboard, "--working-dir", str(ROOT), "--"]
    command += ["python", "jobs/curate.py", "--config", "miniature"]
    result = subprocess.run(command, env=head.environment, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode != 0
    assert "is deleted with the job" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
