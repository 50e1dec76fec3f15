"""`s1ray run` with a matrix, killed without a word in the middle: what was complete stays, and the rest follows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

CURATE = {
    "output": "unused",
    "sources": [{"kind": "miniature", "size": 300}],
    "quality": {"missing_answer": True},
    "length": {"tokenizer": "miniature-base"},
    "selection": {"size": 20},
}
TRACES = {
    "output": "unused",
    "questions": "set by the run",
    "teacher": {"kind": "procedural"},
    "tokenizer": "miniature-base",
}


def recipe(folder: Path) -> Path:
    """Curation and traces for two methods of selection and two seeds."""
    for name, config in (("curate", CURATE), ("traces", TRACES)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    axes = ["data", "seed"]
    stages = [
        {"stage": "curate", "each": axes, "config": str(folder / "curate.yaml"), "set": {"seed": "{seed}"}},
        {
            "stage": "traces",
            "each": axes,
            "config": str(folder / "traces.yaml"),
            "set": {"questions": "{curate}/questions.parquet"},
        },
    ]
    matrix = {
        "seed": [0, 1],
        "data": {name: {"curate.selection.method": name} for name in ("random", "longest")},
    }
    whole = {"output": str(folder / "runs"), "ray_cpus": 4, "matrix": matrix, "stages": stages}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    return folder / "recipe.yaml"


def complete(folder: Path) -> dict[str, str]:
    """Complete run folders, and when each was finished."""
    found = {}
    for file in folder.rglob("manifest.json"):
        manifest = json.loads(file.read_text())
        if manifest["status"] == "complete":
            found[file.parent.relative_to(folder).as_posix()] = manifest["finished"]
    return found


def test_a_killed_matrix_goes_on_where_it_was(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "s1ray"), "run", str(recipe(tmp_path))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    runs = tmp_path / "runs"
    job = subprocess.Popen(command, env=environment, start_new_session=True)
    deadline = time.monotonic() + 400
    while len(complete(runs)) < 3:
        assert job.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    before = complete(runs)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=True)
    after = complete(runs)
    assert sorted(after) == sorted(
        f"{stage}/seed={seed}/data={data}"
        for stage in ("curate", "traces")
        for seed in (0, 1)
        for data in ("random", "longest")
    )
    assert {name: after[name] for name in before} == before
    assert "(8 of 8" in again.stdout
