"""The stages that tests of a cluster run: small ones, whose results do not depend on where they are run.

python -m tests.support.cluster_stages LOCATION      prints the digests of a run
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from s1ray.storage import AnyPath, inside, location
from tests.support.curation_runs import UNSTABLE
from tests.support.ray_hosts import ROOT, RayHosts

ENGINE: dict[str, Any] = {
    "model": "miniature-base",
    "thinking_format": "s1",
    "device": "cpu",
    "max_model_len": 512,
    "max_num_seqs": 16,
    "kv_cache_gib": 0.1,
}
CURATE: dict[str, Any] = {
    "sources": [{"kind": "miniature", "size": 3000}],
    "quality": {"missing_answer": True},
    "decontamination": {"benchmarks": [{"path": "miniature"}]},
    "selection": {"method": "s1", "size": 48},
}
LARGER = CURATE | {"sources": [{"kind": "miniature", "size": 50000}], "selection": {"method": "s1", "size": 200}}
"""Long enough for something to happen on the way."""
TRACES: dict[str, Any] = {
    "teacher": {
        "kind": "vllm",
        "engine": ENGINE,
        "actors": 2,
        "temperature": 0.0,
        "thinking": {"max_tokens": 96},
        "max_tokens": 128,
    },
    "tokenizer": "miniature-base",
    "truncated": "keep",
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
    "unusable_rows": "drop",
    "checkpoints": {"every": 4},
}
EVAL: dict[str, Any] = {
    "benchmark": "miniature",
    "limit": 100,
    "models": [{"label": "base", "name": "base", "weights": "miniature-base"}],
    "sweep": {"max_tokens": [0, 32, 96], "waits": [1]},
    "sampling": {"temperature": 0.0, "answer_tokens": 32},
}
REPLICA: dict[str, Any] = ENGINE | {
    "name": "base",
    # A host has two CPUs: each replica has one to itself.
    "cpus_per_worker": 2,
    "budgets": {"default": 96, "maximum": 256},
    "start_attempts": 1,
    "graceful_shutdown_timeout_s": 5,
}
UNSTABLE_PARTS = UNSTABLE | {
    "work",
    "responses",
    "metrics.jsonl",
    "tensorboard",
    "loss.svg",
    "checkpoints",
    "timings.parquet",
}
"""Have times, places or the paths of the run."""
ALONE = """
from s1ray.cli import app
from s1ray.cluster import own_cluster
with own_cluster(8):
    app()
"""
"""A stage in a process with a cluster of its own, of as many logical CPUs as the hosts have together."""
EVAL_ALONE = """
import json, sys
from s1ray.cluster import own_cluster
from s1ray.config import validate_config
from s1ray.evaluation.config import EvalConfig
from s1ray.evaluation.runner import evaluate
from s1ray.serving.config import ServingConfig
from s1ray.serving.local import serve_locally
model, data = json.loads(sys.argv[1])
with own_cluster(8), serve_locally(validate_config(ServingConfig, {"models": [model]}, "test")) as served:
    evaluate(validate_config(EvalConfig, data | {"endpoint": {"base_url": f"{served.url}/v1"}}, "test"))
"""
"""A server and an evaluation of it, on one machine."""


def write_config(file: Path, config: dict[str, Any], output: str, **fields: Any) -> Path:
    """A stage's config, as YAML (JSON is YAML)."""
    file.write_text(json.dumps(config | fields | {"output": output, "seed": 7}))
    return file


def here(stage: str, file: Path) -> None:
    """Run a stage on this machine alone."""
    _run(ALONE, stage, "--config", str(file))


def evaluate_here(output: Path) -> None:
    """Serve the miniature's base model on this machine, and evaluate it."""
    _run(EVAL_ALONE, json.dumps([REPLICA, EVAL | {"output": str(output), "seed": 7}]))


def _run(program: str, *arguments: str) -> None:
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def digests(folder: AnyPath) -> dict[str, str]:
    """SHA-256 of what a run wrote, but for what has times or places in it."""
    place = location(folder)
    names = {str(inside(file, place)) for file in place.rglob("*") if file.is_file()}
    stable = sorted(name for name in names if name.split("/")[0] not in UNSTABLE_PARTS)
    return {name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in stable}


def digests_seen(cluster: RayHosts, folder: str) -> dict[str, str]:
    """The same, as the client's host sees the folder."""
    done = cluster.on_client(sys.executable, "-m", "tests.support.cluster_stages", folder)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, str] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    print(json.dumps(digests(sys.argv[1])))
