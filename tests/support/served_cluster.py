"""The application on a cluster of hosts, by `serve deploy`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.cluster_stages import REPLICA
from tests.support.ray_hosts import SERVE_PORT, RayHosts

NAME = "s1ray"


@contextlib.contextmanager
def served(cluster: RayHosts, *, replicas: int, args: Mapping[str, Any] | None = None, **model: Any) -> Iterator[None]:
    """Inside the block, so many replicas answer, each on a host of its own, and a proxy on each host that has one.

    Args:
        cluster: the hosts.
        replicas: of the model.
        args: more of the application's arguments.
        model: more fields of the model.
    """
    scaling = {"min_replicas": replicas, "max_replicas": replicas}
    application = {
        "name": NAME,
        "route_prefix": "/",
        "import_path": "s1ray.serving.app:build_app",
        "args": {"models": [REPLICA | {"autoscaling": scaling} | model]} | dict(args or {}),
    }
    config = {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": SERVE_PORT},
        "applications": [application],
    }
    file = cluster.shared / "serve.json"
    file.write_text(json.dumps(config))
    deployed = cluster.on_client("serve", "deploy", str(file), "--address", cluster.dashboard)
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    try:
        cluster.wait("replicas", 300, lambda: _running(cluster) and len(replica_hosts(cluster)) == replicas)
        yield
    finally:
        cluster.on_client("serve", "shutdown", "--yes", "--address", cluster.dashboard)
        cluster.wait(
            "end of Serve", 120, lambda: not (cluster.ask("/api/serve/applications/") or {}).get("applications")
        )


def replica_hosts(cluster: RayHosts) -> list[str]:
    """The address of each running replica of the model."""
    deployments = _application(cluster).get("deployments", {})
    return [
        replica["node_ip"]
        for name, deployment in deployments.items()
        if REPLICA["name"] in name
        for replica in deployment["replicas"]
        if replica["state"] == "RUNNING"
    ]


def _running(cluster: RayHosts) -> bool:
    return bool(_application(cluster).get("status") == "RUNNING")


def _application(cluster: RayHosts) -> dict[str, Any]:
    return (_applications(cluster) or {}).get(NAME) or {}


def _applications(cluster: RayHosts) -> dict[str, Any] | None:
    """What the dashboard says of each; None if it says nothing."""
    answer = cluster.ask("/api/serve/applications/")
    return None if answer is None else answer.get("applications", {})
