"""The servers to compare, s1ray's on Ray Serve and vLLM's own, with the same model and engine."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil
from pydantic import JsonValue

from s1ray.config import validate_config
from s1ray.generation.engine import engine_kwargs
from s1ray.serving.config import ServedModel, ServingConfig
from s1ray.serving.local import Front, free_port, serve_locally

START_S = 300.0
MODEL = "bench"


@dataclass(frozen=True)
class Server:
    """A running server."""

    arm: str
    url: str
    root: psutil.Process
    """The ancestor of all of its processes."""
    app: str = ""
    """The application's name in Serve."""


def model_config(**fields: JsonValue) -> ServedModel:
    """The model of a benchmark; by default the miniature, with room for 64 concurrent requests."""
    default = {"name": MODEL, "model": "miniature-base", "device": "cpu", "max_model_len": 1024, "kv_cache_gib": 1.0}
    # The server's own efforts are for longer contexts.
    default |= {"max_num_seqs": 64, "budgets": {"effort": {"low": 128, "medium": 256, "high": "auto"}}}
    return ServedModel.model_validate(default | fields)


@contextlib.contextmanager
def both(model: ServedModel, front: Front | None = None, **config: JsonValue) -> Iterator[list[Server]]:
    """S1ray's server in both of its ways, `direct` and `worker`, in one new Ray session."""
    with ours(model, front, http="direct", **config) as direct:
        loaded = validate_config(
            ServingConfig, {"models": [model.model_dump()], "http": "worker", **config}, "benchmark"
        )
        with serve_locally(loaded, start_timeout_s=START_S) as app:
            yield [replace(direct, arm="direct"), Server("worker", app.url, direct.root, app.name)]


@contextlib.contextmanager
def ours(model: ServedModel, front: Front | None = None, **config: JsonValue) -> Iterator[Server]:
    """S1ray's server, in a new Ray session on this machine."""
    loaded = validate_config(ServingConfig, {"models": [model.model_dump()], **config}, "benchmark")
    with session(), serve_locally(loaded, front=front, start_timeout_s=START_S) as app:
        yield Server("s1ray", app.url, psutil.Process(), app.name)


@contextlib.contextmanager
def session() -> Iterator[Path]:
    """A new Ray session on this machine, and the folder of its logs."""
    import ray
    from ray._private.worker import global_worker

    # By default Ray's workers have a lower priority than vLLM's server and the load generator.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # Ray's spelling
    ray.init(address="local", num_cpus=6, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        yield Path(global_worker.node.get_logs_dir_path())
    finally:
        ray.shutdown()


@contextlib.contextmanager
def vllms(model: ServedModel, log: Path) -> Iterator[Server]:
    """VLLM's own server with the same engine arguments, without budget forcing."""
    port = free_port()
    env = os.environ | {"VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--served-model-name", model.name, "--disable-uvicorn-access-log", *flags(model)]
    with log.open("w") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process, log)
        yield Server("vllm", url, psutil.Process(process.pid))
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()


def flags(model: ServedModel) -> list[str]:
    """The command line that gives vLLM's server the same engine."""
    arguments = engine_kwargs(model, "cpu" if model.device == "cpu" else "gpu")
    words = []
    for name, value in arguments.items():
        if name in ("logits_processors", "disable_log_stats"):
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", value if isinstance(value, str) else json.dumps(value)]
    return words


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200:
                return
        time.sleep(0.5)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise RuntimeError(f"vLLM's own server did not start; the end of {log}:\n{tail}")
