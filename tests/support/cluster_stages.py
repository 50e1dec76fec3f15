"""The stages that tests of a cluster run: small ones, whose results do not depend on where they are run."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.curation_runs import UNSTABLE
from tests.support.ray_hosts import ROOT

CURATE: dict[str, Any] = {
    "sources": [{"kind": "miniature", "size": 3000}],
    "quality": {"missing_answer": True},
    "decontamination": {"benchmarks": [{"path": "miniature"}]},
    "selection": {"method": "s1", "size": 48},
}
TRACES: dict[str, Any] = {
    "teacher": {"kind": "procedural"},
    "tokenizer": "miniature-base",
    "shard_rows": 8,
}
TRAIN: dict[str, Any] = {
    "model": "miniature-base",
    "thinking_format": "s1",
    "max_length": 512,
    "epochs": 2,
    "global_batch": 8,
    "optimizer": {"learning_rate": 1e-3},
    "device": "cpu",
    "cpus_per_worker": 1,
    "zero_stage": 2,
    "precision": "fp32",
    "checkpoints": {"every": 4},
}
ALONE = """
from s1ray.cli import app
from s1ray.cluster import own_cluster
with own_cluster(8):
    app()
"""
"""A stage in a process with a cluster of its own, of as many logical CPUs as the hosts have together."""


def write_config(file: Path, config: dict[str, Any], output: str, **fields: Any) -> Path:
    """A stage's config, as YAML (JSON is YAML)."""
    file.write_text(json.dumps(config | fields | {"output": output, "seed": 7}))
    return file


def here(stage: str, file: Path) -> None:
    """Run a stage on this machine alone."""
    command = [sys.executable, "-c", ALONE, stage, "--config", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of what a run wrote, but for what has times or places in it."""
    return {
        name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and (name := str(file.relative_to(folder))).split("/")[0] not in UNSTABLE
    }
