from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from s1ray.serving.scaling.engine_load import EngineLoad
from s1ray.serving.scaling.policy import ENGINE_RUNNING, ENGINE_WAITING, KV_CACHE_USAGE, REQUEST_SECONDS, SEQUENCES


def test_the_load_is_that_of_the_last_step() -> None:
    def scheduler(running: int, waiting: int, usage: float) -> Any:
        return SimpleNamespace(num_running_reqs=running, num_waiting_reqs=waiting, kv_cache_usage=usage)

    def finished(*seconds: float) -> Any:
        return SimpleNamespace(finished_requests=[SimpleNamespace(e2e_latency=value) for value in seconds])

    load = EngineLoad()
    assert load.report(idle=True) == dict.fromkeys(
        (ENGINE_RUNNING, ENGINE_WAITING, KV_CACHE_USAGE, REQUEST_SECONDS), 0.0
    ) | {SEQUENCES: 1.0}
    load.record(scheduler(3, 0, 0.2), finished(10.0))
    load.record(scheduler(5, 2, 0.9), None, engine_idx=0)
    load.record(None, finished(30.0))
    load.begin(1)
    load.begin(21)
    assert load.report(idle=False) == {
        ENGINE_RUNNING: 5.0,
        ENGINE_WAITING: 2.0,
        KV_CACHE_USAGE: 0.9,
        REQUEST_SECONDS: pytest.approx(11.0),
        SEQUENCES: pytest.approx(2.0),
    }
    assert load.report(idle=True)[KV_CACHE_USAGE] == 0
    load.record(scheduler(1, 1, 0.1), None, engine_idx=1)
    assert load.report(idle=False)[ENGINE_RUNNING] == 6
    assert load.report(idle=False)[KV_CACHE_USAGE] == pytest.approx(0.5)
