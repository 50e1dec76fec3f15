"""Looking for hardware starts no cluster."""

from __future__ import annotations

import pytest

from s1ray.training.planning.hardware import find_hardware
from tests.support.training_runs import training_config


@pytest.mark.parametrize("address", ["local", "auto", ""])
def test_without_a_cluster_the_hardware_is_this_machines(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    started: list[object] = []

    def init(**options: object) -> None:
        started.append(options["address"])
        raise ConnectionError("no cluster")

    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "init", init)
    assert find_hardware(training_config(device="cpu")).source == "this machine"
    # With "auto" Ray looks for a cluster, and raises where there is none.
    assert started == ([None] if address == "auto" else [])
