"""Who reaches which port of a cluster, from another host, with the cluster's token and without."""

from __future__ import annotations

import re

import pytest

from tests.support.ray_hosts import DASHBOARD_PORT, PORT, WORKERS, RayHosts

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

AGENT_PORT = 52365
"""Of each node's agent, which takes jobs like the head's dashboard."""
COMMAND = {"entrypoint": "touch /tmp/s1ray-hosts/taken-over"}


def listening(cluster: RayHosts, name: str) -> dict[int, str]:
    """The ports of a host on which something listens beyond loopback, and what does."""
    table = cluster.hosts[name].run(["ss", "-ltnpH"]).stdout
    found = {}
    for line in table.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        if address not in ("127.0.0.1", "[::1]"):
            found[int(port)] = " ".join(sorted(set(re.findall(r'"([^"]+)"', line))))
    return found


@pytest.mark.parametrize("name", ["head", *WORKERS])
def test_no_command_runs_without_the_token(cluster: RayHosts, name: str) -> None:
    host, client = cluster.hosts[name], cluster.hosts["client"]
    urls = [f"http://{host.address}:{AGENT_PORT}/api/job_agent/jobs/"]
    if name == "head":
        urls.append(f"{cluster.dashboard}/api/jobs/")
    for url in urls:
        assert cluster.get(client, url, token=False, data=COMMAND) == 401
    assert not (host.folder / "own-0" / "taken-over").exists()


def test_the_token_opens_the_dashboard(cluster: RayHosts) -> None:
    client = cluster.hosts["client"]
    assert cluster.get(client, f"{cluster.dashboard}/api/jobs/", token=True) == 200
    assert cluster.get(client, f"{cluster.dashboard}/api/jobs/", token=False) == 401


def test_without_the_token_nothing_can_be_read_but_measurements(cluster: RayHosts) -> None:
    """Every port of every host, asked by HTTP from another host. Ray's gRPC ports speak no HTTP/1.1, and answer
    nothing; the dashboard gives its empty page, and each node's exporter its measurements, which Prometheus reads."""
    client = cluster.hosts["client"]
    seen, readable = {}, {}
    for name in ("head", *WORKERS):
        for port, process in sorted(listening(cluster, name).items()):
            address = f"http://{cluster.hosts[name].address}:{port}"
            status = cluster.get(client, f"{address}/", token=False)
            seen[name, port] = f"{process}: {status}"
            if status not in (0, 401, 404):
                readable[name, port] = cluster.get(client, f"{address}/metrics", token=False) == 200
    print("\n".join(f"{name} {port} {said}" for (name, port), said in seen.items()))
    assert ("head", PORT) in seen
    assert readable.pop(("head", DASHBOARD_PORT)) is not None
    assert all(readable.values()), {place: seen[place] for place, metrics in readable.items() if not metrics}
    assert len(readable) >= len(WORKERS)
