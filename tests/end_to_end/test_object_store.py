"""Whole stages whose runs lie in an object store: their files are those of the same runs on a disk, byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from s1ray.storage import Location, StorePath, location
from tests.support.object_store import bucket, objects, s3_environment, s3_server
from tests.support.trace_runs import command, environment

__all__ = ["bucket", "s3_environment", "s3_server"]
pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

UNSTABLE = ("manifest.json", "report.html", ".lock", "metrics.jsonl", "tensorboard", "loss.svg", "checkpoints")
"""Have times, or the paths of the run."""
CURATE: dict[str, Any] = {
    "sources": [{"kind": "miniature", "size": 600}],
    "decontamination": {"benchmarks": [{"path": "miniature"}]},
    "selection": {"size": 40},
    "seed": 3,
}


def run(stage: str, config: dict[str, Any], folder: Path) -> str:
    """Run a stage in a process of its own; what it said."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command(config, folder, stage), env=environment(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def files(folder: Location) -> dict[str, bytes]:
    """The stable files of a run: name -> content."""
    if isinstance(folder, StorePath):
        found = objects(folder)
    else:
        found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if not name.startswith(UNSTABLE)}


def test_curation_and_traces_are_those_of_a_disk(bucket: StorePath, tmp_path: Path) -> None:
    made: list[dict[str, dict[str, bytes]]] = []
    for place in (tmp_path / "disk", bucket / "runs"):
        run("curate", CURATE | {"output": str(place / "curate")}, tmp_path / "curate")
        traces = {
            "questions": str(place / "curate"),
            "output": str(place / "traces"),
            "teacher": {"kind": "procedural"},
        }
        run("traces", traces | {"tokenizer": "miniature-base", "seed": 3}, tmp_path / "traces")
        curated, traced = files(location(place / "curate")), files(location(place / "traces"))
        # A ledger's files are named after the time.
        made.append({"curate": curated, "traces": {k: v for k, v in traced.items() if not k.startswith("responses")}})
        again = run("curate", CURATE | {"output": str(place / "curate")}, tmp_path / "curate")
        assert "already complete, skipped" in again
    on_disk, in_store = made
    assert on_disk["curate"].keys() == in_store["curate"].keys() >= {"questions.parquet"}
    assert on_disk == in_store
    assert not Path("s3:").exists()


def test_a_curation_that_was_killed_goes_on_in_the_store(bucket: StorePath, tmp_path: Path) -> None:
    config = CURATE | {"output": str(bucket / "killed")}
    run("curate", CURATE | {"output": str(tmp_path / "disk")}, tmp_path / "whole")
    (tmp_path / "killed").mkdir()
    line = command(config, tmp_path / "killed", "curate")
    process = subprocess.Popen(line, env=environment(tmp_path), start_new_session=True)
    while not list((bucket / "killed" / "work" / "rows").glob("task-*.json")):
        assert process.poll() is None, "it ended before it was killed"
    os.killpg(process.pid, 9)
    process.wait()
    run("curate", config, tmp_path / "killed")
    assert files(bucket / "killed") == files(tmp_path / "disk")


def test_training_in_a_store_gives_the_same_weights_and_resumes(bucket: StorePath, tmp_path: Path) -> None:
    run("curate", CURATE | {"output": str(bucket / "curate")}, tmp_path / "curate")
    questions = {"questions": str(bucket / "curate"), "teacher": {"kind": "procedural"}, "tokenizer": "miniature-base"}
    run("traces", questions | {"output": str(bucket / "traces")}, tmp_path / "traces")
    made = []
    for place in (tmp_path / "disk", bucket / "train"):
        config = {
            "model": "miniature-base",
            "traces": str(bucket / "traces"),
            "output": str(place),
            "epochs": 1,
            "global_batch": 8,
            "num_workers": 2,
            "zero_stage": 2,
            "device": "cpu",
            "unusable_rows": "drop",
            "checkpoints": {"every": 2},
        }
        run("train", config, tmp_path / "train")
        made.append(files(location(place)))
    on_disk, in_store = made
    assert on_disk["model/model.safetensors"] == in_store["model/model.safetensors"]
    assert on_disk.keys() == in_store.keys()
    model = str(bucket / "train" / "model")
    seen = subprocess.run(
        [sys.executable, "-c", f"from s1ray.storage import local_model; print(local_model({model!r}))"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    fetched = Path(seen.stdout.strip())
    assert json.loads((fetched / "config.json").read_text())["model_type"]
    assert (fetched / "model.safetensors").read_bytes() == on_disk["model/model.safetensors"]
