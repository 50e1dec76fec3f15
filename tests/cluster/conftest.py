"""A cluster of hosts for the tests of a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import available
from tests.support.ray_hosts import RayHosts, ray_hosts


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not available():
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs root and a kernel that makes network namespaces"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayHosts]:
    # Sockets of jobs lie below it, and their names may not be long.
    with (
        tempfile.TemporaryDirectory(prefix="s1ray-", ignore_cleanup_errors=True) as folder,
        ray_hosts(Path(folder)) as cluster,
    ):
        yield cluster
