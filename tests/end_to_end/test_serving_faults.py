"""An engine, a replica and the proxy are killed under load: every stream ends in a way that says what happened, the
others go on, and the service comes back. A new version comes under load: every stream is finished.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from s1ray.config import validate_config
from s1ray.serving.config import ServingConfig
from s1ray.serving.local import ServedApp, _deploy, serve_locally
from tests.support.modes import Mode
from tests.support.streams import Ended, is_gone, processes, streams, tally, wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.timeout(900)]

STREAMS = 32
BATCH = 12
"""Places in a replica: some streams run, some wait."""
STALLED_S = 10.0
ENGINE = "VLLM::EngineCore"
APPLICATION: dict[str, Any] = {
    "models": [
        {
            "name": "s1",
            "model": "miniature-base",
            "device": "cpu",
            "max_model_len": 2048,
            "kv_cache_gib": 0.25,
            "max_num_seqs": BATCH,
            "cpus_per_worker": 0.5,
            "autoscaling": {"min_replicas": 2, "max_replicas": 2},
        }
    ],
    "limits": {"stalled_after_s": STALLED_S},
}


@pytest.fixture(scope="module")
def pair(ray_session: None, mode: Mode, request_fields: dict[str, Any]) -> Iterator[ServedApp]:
    """Two replicas of one model, both of them past their first request, which takes longest."""
    config = validate_config(ServingConfig, APPLICATION | {"http": mode.http}, "test")
    with serve_locally(config, front=mode.front, start_timeout_s=600) as app:
        # A stream that has not begun when its replica dies is retried elsewhere, and the client sees no error.
        assert tally(asyncio.run(streams(app.url, 2 * BATCH, **request_fields))) == {"complete": 2 * BATCH}
        settle(app)
        yield app


@pytest.fixture(scope="module")
def request_fields(never_stops: dict[str, int]) -> dict[str, Any]:
    return {"model": "s1", "max_tokens": 250, "thinking": {"max_tokens": 200}, "logit_bias": never_stops}


def replicas(pair: ServedApp) -> list[psutil.Process]:
    return processes(f"ray::ServeReplica:{pair.name}:BudgetForcingServer")


def running(pair: ServedApp) -> int:
    """Replicas that Serve has in service."""
    from ray import serve

    (deployment,) = [
        status
        for name, status in serve.status().applications[pair.name].deployments.items()
        if name.startswith("BudgetForcingServer")
    ]
    count: int = deployment.replica_states.get("RUNNING", 0)
    return count


def settle(pair: ServedApp) -> None:
    """Wait until two replicas run, as Serve sees it and in truth, and HAProxy knows of both."""
    wait_until(lambda: running(pair) == 2 and len(replicas(pair)) == 2, 240, "two replicas run")
    time.sleep(3)


def under_load(pair: ServedApp, strike: Any, fields: dict[str, Any]) -> list[Ended]:
    return asyncio.run(streams(pair.url, STREAMS, strike, **fields))


def kill(process: psutil.Process, with_signal: int = signal.SIGKILL) -> None:
    os.kill(process.pid, with_signal)


def check_others_went_on(ended: list[Ended], how: str = "error", most: int = BATCH) -> None:
    """At most the streams of one replica's batch were lost, each with an error that says so, or with its connection."""
    outcomes = tally(ended)
    assert set(outcomes) <= {"complete", how}, [one for one in ended if one.how not in ("complete", how)]
    assert 1 <= outcomes[how] <= most
    assert all(one.begun for one in ended if one.how == how)
    assert all("lost" in one.detail for one in ended if one.how == "error")


def broken(mode: Mode) -> str:
    """How streams end whose replica is killed: where it answers the clients itself, nobody is left to say so."""
    return "broken" if mode.http == "direct" else "error"


def check_service(pair: ServedApp, fields: dict[str, Any]) -> None:
    assert tally(asyncio.run(streams(pair.url, 8, **fields))) == {"complete": 8}


def test_a_killed_engine_takes_only_its_own_streams_with_it(pair: ServedApp, request_fields: dict[str, Any]) -> None:
    settle(pair)
    replica = replicas(pair)[0]
    (engine,) = processes(ENGINE, replica)
    check_others_went_on(under_load(pair, functools.partial(kill, engine), request_fields))
    check_service(pair, request_fields)
    wait_until(lambda: is_gone(replica), 10, "the replica without an engine is gone")


def test_a_killed_proxy_breaks_its_connections_and_is_back(
    pair: ServedApp, mode: Mode, request_fields: dict[str, Any]
) -> None:
    proxies = haproxies() if mode.front == "haproxy" else processes("ray::ProxyActor")
    assert proxies

    def strike() -> None:
        for proxy in proxies:
            kill(proxy)

    outcomes = tally(under_load(pair, strike, request_fields))
    assert outcomes["broken"] > 0
    assert set(outcomes) <= {"complete", "broken"}
    wait_until(functools.partial(answers, pair.url), 60, "the proxy answers")
    check_service(pair, request_fields)


def haproxies() -> list[psutil.Process]:
    """HAProxy's own processes: an old one lives on while it has streams."""
    return [one for one in psutil.Process().children(recursive=True) if one.name() == "haproxy"]


def test_a_killed_manager_of_haproxy_is_back_with_one(
    pair: ServedApp, mode: Mode, request_fields: dict[str, Any]
) -> None:
    if mode.front != "haproxy":
        pytest.skip("Serve's own proxy has no other process")
    (manager,) = processes("ray::HAProxyManager")
    before = haproxies()
    # Ray kills what a process leaves behind, HAProxy too; where it lives on, it must give its port up.
    outcomes = tally(under_load(pair, functools.partial(kill, manager), request_fields))
    assert set(outcomes) <= {"complete", "broken"}
    wait_until(lambda: processes("ray::HAProxyManager") not in ([], [manager]), 60, "another manager is there")
    wait_until(lambda: all(map(is_gone, before)), 120, "the old HAProxy is gone")
    wait_until(functools.partial(answers, pair.url), 60, "a new one answers")
    check_service(pair, request_fields)


def test_streams_outlive_the_controller(pair: ServedApp, request_fields: dict[str, Any]) -> None:
    (controller,) = processes("ray::ServeController")
    assert tally(under_load(pair, functools.partial(kill, controller), request_fields)) == {"complete": STREAMS}
    check_service(pair, request_fields)
    wait_until(lambda: processes("ray::ServeController") not in ([], [controller]), 60, "another controller is there")
    settle(pair)
    check_service(pair, request_fields)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_killed_replica_takes_only_its_own_streams_with_it(
    pair: ServedApp, mode: Mode, request_fields: dict[str, Any]
) -> None:
    settle(pair)
    replica = replicas(pair)[0]
    engines = processes(ENGINE, replica)
    assert engines
    check_others_went_on(under_load(pair, functools.partial(kill, replica), request_fields), broken(mode))
    check_service(pair, request_fields)
    wait_until(lambda: all(map(is_gone, engines)), 20, "its engine is gone, too")


def test_a_stuck_engine_is_seen_and_its_replica_replaced(
    pair: ServedApp, mode: Mode, request_fields: dict[str, Any]
) -> None:
    settle(pair)
    replica = replicas(pair)[0]
    (engine,) = processes(ENGINE, replica)
    # Of a replica that answers HTTP itself, those that wait for a place have been told so by a comment, and stay.
    most = STREAMS // 2 + 2 if mode.http == "direct" else BATCH
    check_others_went_on(under_load(pair, functools.partial(kill, engine, signal.SIGSTOP), request_fields), most=most)
    wait_until(lambda: is_gone(replica), 10, "the replica with the stuck engine is gone")
    wait_until(lambda: is_gone(engine), 20, "the stuck engine is gone")
    settle(pair)
    check_service(pair, request_fields)


def test_a_new_version_lets_every_stream_finish(pair: ServedApp, mode: Mode, request_fields: dict[str, Any]) -> None:
    """Even those that take longer than the 20 s that Serve by default gives a replica that it removes."""
    settle(pair)
    workers = processes(f"ray::ServeReplica:{pair.name}:Ingress")
    assert len(workers) == (mode.http == "worker")
    before = {*workers, *replicas(pair)}
    changed = validate_config(ServingConfig, APPLICATION | {"http": mode.http, "playground": False}, "test")
    update = functools.partial(_deploy, changed, pair.name, urlsplit(pair.url).path or "/")
    fields = request_fields | {"max_tokens": 1900, "thinking": {"max_tokens": 1800}}
    ended = under_load(pair, update, fields)
    assert tally(ended) == {"complete": STREAMS}
    assert max(one.seconds for one in ended) > 30
    wait_until(lambda: all(map(is_gone, before)), 300, "the old version is gone")
    settle(pair)
    wait_until(functools.partial(answers, pair.url), 60, "the new HTTP worker answers")
    assert httpx.get(f"{pair.url}/playground", trust_env=False).status_code == 404
    check_service(pair, request_fields)
