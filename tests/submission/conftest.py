"""A job server to submit to, and no settings of Ray's that lead elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.job_server import Head, job_server


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[Head]:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with job_server() as state:
        yield state
