"""Jobs on a head of its own with token authentication, as a user submits them, and what nobody may without it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from s1ray.manifests import read_manifest
from s1ray.schemas import Question, read_table
from tests.support.ray_head import BIN, Head, ray_head

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A Ray head on loopback that wants a token."""
    folder = tmp_path_factory.mktemp("head")
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    with ray_head(folder / "head.log", variables, cpus=6, token=TOKEN) as found:
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


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Cookie": "ray-authentication-token=x"}])
def test_a_command_posted_without_the_token_is_refused_everywhere(
    head: Head, headers: dict[str, str], tmp_path: Path
) -> None:
    job = {"entrypoint": f"touch {tmp_path}/taken", "runtime_env": {}, "metadata": {}}
    for url in (f"{head.dashboard}/api/jobs/", f"{head.agent}/api/job_agent/jobs/"):
        answer = httpx.post(url, json=job, headers=headers, timeout=30)
        assert answer.status_code == (403 if headers else 401), url
        assert TOKEN not in answer.text
    assert httpx.get(f"{head.dashboard}/api/jobs/", timeout=30).status_code == 401
    time.sleep(2)
    assert not list(tmp_path.iterdir()), "the command ran"


def test_the_doctor_sees_that_requests_without_the_token_are_refused(head: Head, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s1ray.cli", "doctor", "--address", head.gcs, "--storage", str(tmp_path), "--json"]
    done = subprocess.run(command, env=head.environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)["findings"]
    # Ray names a node of 127.0.0.1 by the machine's address.
    lines = {(line["check"], line["status"], line["where"] == "cluster") for line in found}
    assert ("token", "ok", False) in lines, found
    assert ("token", "ok", True) in lines, found
    assert ("storage", "ok", False) in lines, found
    assert not [line for line in found if line["check"] == "node"], found
    assert TOKEN not in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


def test_a_cluster_whose_token_is_missing_is_told_in_words(head: Head) -> None:
    environment = {name: value for name, value in head.environment.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-m", "s1ray.cli", "submit", "--address", head.dashboard, "doctor"]
    environment["HOME"] = "/nonexistent"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "the cluster wants its token" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_is_submitted_once_and_found_again(head: Head, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s1ray.cli", "submit", "--address", head.dashboard, "doctor", "--storage"]
    command += [str(tmp_path)]
    first, second = (
        subprocess.run(command, env=head.environment, capture_output=True, text=True, timeout=300, check=False)
        for _ in range(2)
    )
    assert first.returncode in (0, 1), first.stderr
    assert "submitted as s1ray-doctor-" in first.stderr
    assert "failed" in first.stdout.strip().splitlines()[-1], f"the job's lines are shown: {first.stdout}"
    if first.returncode == 0:
        assert "is complete" in second.stderr
        assert "submitted as" not in second.stderr
    else:
        assert "-2: python -m s1ray.cli doctor" in second.stderr, "a job that failed has a next attempt"
    assert TOKEN not in first.stdout + first.stderr + second.stdout + second.stderr
