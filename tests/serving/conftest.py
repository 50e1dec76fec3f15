from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def serve_log_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve's log reaches pytest's, also where a Serve that ran in this process has turned that off."""
    log = logging.getLogger("ray.serve")
    monkeypatch.setattr(log, "propagate", True)
    monkeypatch.setattr(log, "disabled", False)
    monkeypatch.setattr(log, "level", logging.DEBUG)
    monkeypatch.setattr(log, "filters", [])
    log._cache.clear()  # type: ignore[attr-defined]
