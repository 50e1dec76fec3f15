"""Replicas that answer HTTP themselves, behind a HAProxy on each host: who reaches what, and what a lost host costs."""

from __future__ import annotations

import functools
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from s1ray.serving.front import settings
from s1ray.serving.http.keys import new_key
from tests.cluster.test_ports import listening
from tests.support.ray_hosts import SERVE_PORT, WORKERS, RayHosts, ray_hosts
from tests.support.served_cluster import replica_hosts, served

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ALICE, ALICES_LINE = new_key("alice")

STREAMS = """
import asyncio, json, sys, time
import httpx
url, key, number = json.loads(sys.argv[1])
body = {"model": "base", "messages": [{"role": "user", "content": "1 + 1"}], "stream": True, "ignore_eos": True}
async def one(client):
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body | {"max_tokens": 400}) as response:
            if response.status_code != 200:
                return f"status {response.status_code}"
            last = ""
            async for line in response.aiter_lines():
                last = line or last
                if line.startswith("data: {") and not begun.is_set():
                    begun.set()
                    print("begun", flush=True)
            return "complete" if last == "data: [DONE]" else "broken"
    except httpx.HTTPError as error:
        return "broken"
async def main():
    global begun
    begun = asyncio.Event()
    limits = httpx.Limits(max_connections=None)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=300, limits=limits) as client:
        print(json.dumps(await asyncio.gather(*(one(client) for _ in range(number)))), flush=True)
asyncio.run(main())
"""
"""Prints what became of each of some streams."""


@pytest.fixture(scope="module")
def guarded() -> Iterator[RayHosts]:
    """A cluster whose Ray knows of HAProxy, with a served model on two hosts that wants a key."""
    with tempfile.TemporaryDirectory(prefix="s1ray-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "shared").mkdir()
        keys = folder / "shared" / "keys.yaml"
        keys.write_text(f"keys:\n{ALICES_LINE}\n")
        private = settings.folder()
        variables = settings.settings(private, longest_s=600)
        with (
            ray_hosts(folder, variables=variables) as cluster,
            served(cluster, replicas=2, args={"access": {"keys_file": str(keys)}}),
        ):
            yield cluster


def ask(cluster: RayHosts, url: str, key: str | None) -> int:
    """The status of a GET from the client's host; 0: nothing answers."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    program = "import json, sys, httpx\nurl, headers = json.loads(sys.argv[1])\ntry:\n"
    program += (
        "    print(httpx.get(url, headers=headers, timeout=5).status_code)\nexcept httpx.HTTPError:\n    print(0)"
    )
    return int(cluster.on_client(sys.executable, "-c", program, json.dumps([url, headers])).stdout)


def answers(cluster: RayHosts, url: str) -> bool:
    return ask(cluster, url, ALICE) == 200


def with_haproxy(cluster: RayHosts) -> list[str]:
    """The head, and the hosts that have a replica: Serve starts a HAProxy on each."""
    held = replica_hosts(cluster)
    return ["head", *(name for name in WORKERS if cluster.hosts[name].address in held)]


def test_each_host_answers_for_both_replicas(guarded: RayHosts) -> None:
    for name in with_haproxy(guarded):
        url = f"http://{guarded.hosts[name].address}:{SERVE_PORT}/v1/models"
        guarded.wait(f"answer of {name}", 60, functools.partial(answers, guarded, url))
        assert ask(guarded, url, None) == 401


def test_every_port_of_serve_wants_a_key_or_is_closed(guarded: RayHosts) -> None:
    served_by = {}
    for name in ("head", *WORKERS):
        host = guarded.hosts[name]
        for port, process in listening(guarded, name).items():
            if (
                "haproxy" not in process
                and not 30000 <= port <= settings.LAST_PORT
                and port not in (SERVE_PORT, 8500, 8404, 9101)
            ):
                continue
            served_by[name, port] = process
            for path in ("/metrics", "/v1/models", "/v1/chat/completions", "/tokenize", "/openapi.json"):
                status = ask(guarded, f"http://{host.address}:{port}{path}", None)
                assert status in (401, 404), (name, port, process, path, status)
            assert ask(guarded, f"http://{host.address}:{port}/metrics", ALICE) in (403, 404)
    print(served_by)
    assert {name for name, port in served_by if port == SERVE_PORT} == set(with_haproxy(guarded))
    assert not {port for _, port in served_by} & {8404, 9101}
    # The two replicas.
    assert len([port for _, port in served_by if 30000 <= port <= settings.LAST_PORT]) == 2


def test_a_lost_host_costs_only_its_own_streams(guarded: RayHosts) -> None:
    lost = next(name for name in WORKERS if guarded.hosts[name].address in replica_hosts(guarded))
    log = guarded.folder / "streams.out"
    url = f"http://{guarded.hosts['head'].address}:{SERVE_PORT}"
    given = json.dumps([url, ALICE, 256])
    program = guarded.folder / "streams.py"
    program.write_text(STREAMS)
    running = guarded.hosts["client"].start(
        f"exec {sys.executable} {program} '{given}'", log, guarded.environment | {"PYTHONUNBUFFERED": "1"}
    )
    guarded.wait("first stream", 60, lambda: log.read_text())
    assert log.read_text().startswith("begun"), log.read_text()
    guarded.hosts[lost].power_off()
    running.wait(120)
    outcomes = json.loads(log.read_text().splitlines()[-1])
    print(outcomes)
    assert set(outcomes) <= {"complete", "broken"}
    assert outcomes.count("complete") >= 100
    assert 1 <= outcomes.count("broken") <= 156
    guarded.wait("answer", 60, functools.partial(answers, guarded, f"{url}/v1/models"))
