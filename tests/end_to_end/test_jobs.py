"""`ray job submit` on a local head of its own: curation, then training on traces, as a user submits them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from s1ray.runs import read_manifest
from s1ray.schemas import Question, read_table

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
CLEAN_ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
    "RAY_AUTH_MODE": "disabled",
    # As in an activated environment: a job's `python` is the head's.
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Ray head in the foreground of a process of ours, so that stopping it stops no other Ray."""
    port, dashboard_port = free_port(), free_port()
    command = [str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}"]
    command += [f"--dashboard-port={dashboard_port}", "--dashboard-host=127.0.0.1", "--num-cpus=6"]
    # In a folder of its own (and a short one: sockets lie in it): /tmp/ray would tell later programs to connect here.
    temporary = tempfile.mkdtemp(prefix="s1ray-")
    command += [f"--temp-dir={temporary}", "--disable-usage-stats", f"--dashboard-agent-listen-port={free_port()}"]
    log = tmp_path_factory.mktemp("head") / "head.log"
    with log.open("w") as stream:
        head = subprocess.Popen(command, env=CLEAN_ENVIRONMENT, stdout=stream, stderr=stream, start_new_session=True)
    address = f"http://127.0.0.1:{dashboard_port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                if httpx.get(f"{address}/api/version", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            assert head.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"no dashboard at {address}: {log.read_text()}"
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        try:
            head.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
        shutil.rmtree(temporary, ignore_errors=True)


def submit(dashboard: str, *entrypoint: str) -> str:
    command = [str(BIN / "ray"), "job", "submit", "--address", dashboard, "--working-dir", str(ROOT), "--"]
    command += ["python", *entrypoint]
    result = subprocess.run(command, env=CLEAN_ENVIRONMENT, capture_output=True, text=True, timeout=500, check=False)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    return output


def curate(dashboard: str, root: Path) -> Path:
    """Curate 48 questions in a job; gives the folder of the runs."""
    submit(
        dashboard,
        *("jobs/curate.py", "--config", "miniature", "--root", str(root)),
        *("--set", "sources.0.size=1500", "--set", "difficulty=null", "--set", "selection.size=48"),
    )
    return root / "runs" / "miniature"


def test_a_stage_runs_as_a_job(dashboard: str, tmp_path: Path) -> None:
    runs = curate(dashboard, tmp_path)
    assert len(read_table(runs / "curate" / "questions.parquet", Question)) == 48


@pytest.mark.slow
def test_curation_traces_and_training_run_as_jobs(dashboard: str, tmp_path: Path) -> None:
    runs = curate(dashboard, tmp_path)
    submit(
        dashboard,
        *("jobs/traces.py", "--config", "miniature", "--root", str(tmp_path)),
    )
    submit(
        dashboard,
        *("jobs/train.py", "--config", "miniature", "--root", str(tmp_path)),
        *("--set", "epochs=1"),
    )
    train = runs / "train"
    manifest = read_manifest(train)
    assert manifest is not None
    assert manifest["status"] == "complete"
    assert manifest["figures"]["steps"] == 3
    assert (train / "model" / "model.safetensors").is_file()


def test_a_job_whose_output_would_be_lost_is_refused(dashboard: str) -> None:
    command = [str(BIN / "ray"), "job", "submit", "--address", dashboard, "--working-dir", str(ROOT), "--"]
    command += ["python", "jobs/curate.py", "--config", "miniature"]
    result = subprocess.run(command, env=CLEAN_ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode != 0
    assert "is deleted with the job" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
