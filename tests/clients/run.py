"""Run unmodified clients from their registries against the server, and write the table of docs/clients.md.

    make test-clients
    python -m tests.clients.run --only litellm
    python -m tests.clients.run --url http://127.0.0.1:8000

`--url` is a server that is running, with a model of the names "s1", "gpt-5" and "claude-s1".

The clients' versions are pinned in requirements.txt and package.json; they are installed into .clients/, apart from
everything else. A check that fails makes the command fail, and the table is not written.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from requirements import install
from s1ray.evaluation.interchange.export import export
from tests.clients.recorder import recording
from tests.clients.table import page
from tests.support.evaluations import finished_run

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDER = ROOT / ".clients"
PYTHON = FOLDER / "venv" / "bin" / "python"
JS = FOLDER / "js"
PAGE = ROOT / "docs" / "clients.md"
CHECK_TIMEOUT_S = 300


def main() -> None:
    parser = argparse.ArgumentParser(description="Run unmodified clients against the server.")
    parser.add_argument("--url", help="of a server that is running; without it one is started")
    parser.add_argument("--only", default="", help="only checks whose file's name contains this")
    options = parser.parse_args()
    install_python()
    install_javascript()
    scripts = sorted([*HERE.glob("with_*.py"), *(HERE / "js").glob("with_*.mjs")])
    chosen = [script for script in scripts if options.only in script.name]
    with tempfile.TemporaryDirectory() as logs, server(options.url) as url, recording(url) as recorded:
        export([finished_run(Path(logs), samples=2)], "inspect", Path(logs) / "inspect")
        os.environ["S1RAY_LOGS"] = str(Path(logs) / "inspect")
        results = [result for script in chosen for result in run(script, recorded)]
    failed = [result for result in results if result["problems"]]
    if not failed and chosen == scripts:
        PAGE.write_text(page(results), encoding="utf-8")
    print(f"{len(results) - len(failed)} of {len(results)} checks passed")
    sys.exit(1 if failed else 0)


def install_python() -> None:
    """An environment with the Python clients."""
    requirements = HERE / "requirements.txt"
    if not _changed(requirements, PYTHON.parents[1]):
        return
    uv = install.ensure_uv()
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, PYTHON.parents[1]], check=True)
    command = [uv, "pip", "install", *install.settings(), "--python", str(PYTHON), "--requirement", str(requirements)]
    subprocess.run(command, check=True)
    _installed(requirements, PYTHON.parents[1])


def install_javascript() -> None:
    """A folder with the JavaScript clients and the checks, which Node resolves packages beside."""
    package = HERE / "package.json"
    if _changed(package, JS):
        shutil.rmtree(JS, ignore_errors=True)
        JS.mkdir(parents=True)
        shutil.copy(package, JS)
        subprocess.run(["npm", "install", "--silent", "--no-package-lock"], cwd=JS, check=True)
        _installed(package, JS)
    for script in (HERE / "js").glob("*.mjs"):
        shutil.copy(script, JS)


def _changed(pins: Path, folder: Path) -> bool:
    stamp = folder / ".installed"
    return not stamp.is_file() or stamp.read_bytes() != pins.read_bytes()


def _installed(pins: Path, folder: Path) -> None:
    shutil.copy(pins, folder / ".installed")


@contextlib.contextmanager
def server(url: str | None) -> Iterator[str]:
    """The URL of a running server: this one, or that of a miniature which is served for the block."""
    if url is not None:
        yield url.rstrip("/")
        return
    import ray

    from s1ray.config import validate_config
    from s1ray.serving.config import ServingConfig
    from s1ray.serving.local import serve_locally
    from tests.support.served import EFFORT, ENGINE

    model = {"name": "s1", "aliases": ["gpt-*", "claude-*"], "budgets": {"default": 12, "effort": EFFORT}, **ENGINE}
    config = validate_config(ServingConfig, {"models": [model]}, "clients")
    ray.init(address="local", num_cpus=6, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        with serve_locally(config, start_timeout_s=1200) as app:
            yield app.url
    finally:
        ray.shutdown()


def run(script: Path, url: str) -> Iterator[dict[str, Any]]:
    """The results of one file's checks, printed as they come."""
    language = "Python" if script.suffix == ".py" else "JavaScript"
    command = [str(PYTHON), "-m", f"tests.clients.{script.stem}"]
    if language == "JavaScript":
        command = ["node", str(JS / script.name)]
    environment = {**os.environ, "S1RAY_URL": url, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=CHECK_TIMEOUT_S
    )
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        fault = {"client": script.name, "version": "", "call": "", "problems": ["the checks ended early"]}
        results.append(fault)
    for result in results:
        problems = "; ".join(result["problems"])
        print(f"{language} {result['client']} {result['version']}: {result['call']}: {problems or 'ok'}", flush=True)
        yield {"language": language, **result}
    if any(result["problems"] for result in results):
        print(done.stderr[-4000:], file=sys.stderr)


if __name__ == "__main__":
    main()
