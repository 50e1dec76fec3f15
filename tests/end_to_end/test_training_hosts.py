"""Two hosts whose names resolve to nothing train together, with no variable of gloo's set by hand."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

import pytest

from s1ray.config import to_yaml
from s1ray.manifests import read_manifest
from s1ray.training.monitoring.metrics import read_metrics
from tests.support.hosts import Hosts, available, running
from tests.support.training_runs import STEPS, config_of, make_base_model, make_traces

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.slow,
    pytest.mark.skipif(not available(), reason="needs root, to make network namespaces"),
]

ROOT = Path(__file__).parents[2]
PORT = 6391


def test_two_hosts_without_name_resolution_train_together(tmp_path: Path) -> None:
    config = config_of(make_base_model(tmp_path / "base"), make_traces(tmp_path / "traces.parquet"), tmp_path / "run")
    (tmp_path / "train.yaml").write_text(to_yaml(config))
    python, hosts = shlex.quote(sys.executable), Hosts(("a", "b"), tmp_path)
    address = f"{hosts['a'].address}:{PORT}"
    start = f"{python} -m ray.scripts.scripts start --num-cpus 1 --node-ip-address"
    train = f"cd {ROOT} && {python} -m s1ray.cli train --config {tmp_path / 'train.yaml'}"
    # Ray's sockets lie in its folder, and their names may not be long.
    with (
        tempfile.TemporaryDirectory(prefix="s1ray-", dir="/tmp", ignore_cleanup_errors=True) as ray_folder,
        hosts,
    ):
        environment = {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
        head = f"{start} {hosts['a'].address} --head --port {PORT} --temp-dir {ray_folder} --include-dashboard false"
        first = f"cd {tmp_path} && {head} && touch head && {until('joined')} && {train}"
        join = f"{start} {hosts['b'].address} --address {address}"
        second = f"cd {tmp_path} && {until('head')} && {join} && touch joined && sleep 600"
        with (
            running(hosts["b"].start(second, tmp_path / "log_b", environment)),
            running(hosts["a"].start(first, tmp_path / "log_a", environment)) as driver,
        ):
            status = driver.wait(timeout=400)
    told = (tmp_path / "log_a").read_text()[-4000:] + (tmp_path / "log_b").read_text()[-1000:]
    assert status == 0, told
    manifest = read_manifest(config.output)
    assert manifest is not None
    assert manifest["status"] == "complete", told
    assert [line["step"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")] == list(range(1, STEPS + 1))


def until(file: str) -> str:
    """A shell command that waits for a file."""
    return f"until [ -e {file} ]; do sleep 0.2; done"
