"""A server with batch APIs, whose batches are soon known to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from s1ray.teachers.batches import running as running_batches
from tests.support.batch_server import BatchServer, batch_server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    monkeypatch.setattr(running_batches, "LISTED_S", 0.2)
    with batch_server() as found:
        yield found
