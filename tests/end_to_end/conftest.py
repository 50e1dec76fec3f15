"""One Ray session for every end-to-end test: a local cluster of our own, on loopback, stopped at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A running local Ray with six logical CPUs (the machine may have fewer; the tests' actors are small)."""
    import ray

    ray.init(address="local", num_cpus=6, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()
