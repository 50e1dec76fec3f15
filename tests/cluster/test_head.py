"""A head that dies and comes back with its state in Redis: jobs whose drivers run elsewhere go on."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster_stages import LARGER, REPLICA, digests, here, write_config
from tests.support.ray_hosts import SERVE_PORT, WORKERS, RayHosts, ray_hosts
from tests.support.served_cluster import replica_hosts, served

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server"),
]
NAME = "goes-on"
PATIENT = {"RAY_gcs_rpc_server_reconnect_timeout_s": "600"}
"""Ray's default is a minute, and a machine under test may take longer to start a head."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayHosts]:
    with (
        tempfile.TemporaryDirectory(prefix="s1ray-", ignore_cleanup_errors=True) as folder,
        ray_hosts(Path(folder), redis=True, variables=PATIENT) as cluster,
    ):
        yield cluster


def status(cluster: RayHosts) -> str | None:
    """The job's, by the job API."""
    return (cluster.ask(f"/api/jobs/{NAME}") or {}).get("status")


def test_a_curation_goes_on_while_the_head_is_away(cluster: RayHosts, tmp_path: Path) -> None:
    here("curate", write_config(tmp_path / "curate.yaml", LARGER, str(tmp_path / "curate")))
    output = cluster.shared / "curate"
    file = write_config(cluster.shared / "curate.yaml", LARGER, str(output))
    # On a worker: a driver on the head dies with it.
    options = ["--no-wait", "--submission-id", NAME, "--entrypoint-num-cpus", "1"]
    submitted = cluster.job("jobs/curate.py", "--config", str(file), options=options)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    cluster.wait("work on the workers", 300, lambda: [*output.rglob("*.tries")])
    cluster.hosts["head"].power_off()
    cluster.start_head()
    cluster.wait_for_nodes(1 + len(WORKERS))
    cluster.wait("the job's end", 600, lambda: status(cluster) in ("SUCCEEDED", "FAILED", "STOPPED"))
    assert status(cluster) == "SUCCEEDED", json.dumps(cluster.ask(f"/api/jobs/{NAME}/logs"))[-4000:]
    assert digests(output) == digests(tmp_path / "curate")


def test_replicas_answer_while_the_head_is_away(cluster: RayHosts) -> None:
    client = cluster.hosts["client"]
    question: dict[str, Any] = {"model": REPLICA["name"], "messages": [{"role": "user", "content": "What is 2 + 3?"}]}
    question |= {"max_tokens": 16, "thinking": {"max_tokens": 8}}
    with served(cluster, replicas=2):
        host = replica_hosts(cluster)[0]
        url = f"http://{host}:{SERVE_PORT}/v1/chat/completions"
        assert cluster.get(client, url, token=False, data=question) == 200
        cluster.hosts["head"].power_off()
        for _ in range(10):
            assert cluster.get(client, url, token=False, data=question) == 200
        cluster.start_head()
        cluster.wait_for_nodes(1 + len(WORKERS))
        cluster.wait("Serve's state", 120, lambda: len(replica_hosts(cluster)) == 2)
        assert cluster.get(client, url, token=False, data=question) == 200
