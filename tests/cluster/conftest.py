"""A cluster of hosts for the tests of a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import available
from tests.support.mounts import small_disk
from tests.support.ray_hosts import WORKERS, RayHosts, ray_hosts


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not available():
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs root and a kernel that makes network namespaces"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayHosts]:
    # Sockets of jobs lie below it, and their names may not be long.
    with tempfile.TemporaryDirectory(prefix="s1ray-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "shared" / "small").mkdir(parents=True)
        # The hosts see what is mounted before they start.
        with small_disk(folder / "shared" / "small", mebibytes=192), ray_hosts(folder) as cluster:
            yield cluster


@pytest.fixture
def whole(cluster: RayHosts) -> Iterator[RayHosts]:
    """The cluster, with all of its hosts, before the test and after it."""
    yield cluster
    cluster.faults.unlink(missing_ok=True)
    for name in WORKERS:
        host = cluster.hosts[name]
        host.plug()
        if not host.is_on or host.address not in cluster.alive():
            host.power_off()
            # Ray notices after a minute.
            cluster.wait_for_end(host.address)
            cluster.start_worker(name)
    cluster.wait_for_nodes(1 + len(WORKERS))
