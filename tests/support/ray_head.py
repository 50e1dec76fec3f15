"""A Ray head on loopback, in the foreground of a process of ours, so that stopping it stops no other Ray."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Head:
    """Where a head listens."""

    gcs: str
    dashboard: str
    agent: str
    environment: dict[str, str]
    """Of its processes, and of those that talk to it."""


@contextlib.contextmanager
def ray_head(
    log: Path, variables: Mapping[str, str], *, cpus: int, token: str = "", labels: str = ""
) -> Iterator[Head]:
    """Start one, and wait until its dashboard and its agent answer.

    Args:
        log: what it prints.
        variables: Ray's, in place of this process's.
        cpus: logical ones.
        token: that its answers need.
        labels: of the node, as `ray start` takes them.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | dict(variables)
    # As in an activated environment: a job's `python` is the head's.
    environment["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    port, dashboard, agent = _free_port(), _free_port(), _free_port()
    # In a folder of its own (and a short one: sockets lie in it): /tmp/ray would tell later programs to connect here.
    temporary = tempfile.mkdtemp(prefix="s1ray-")
    command = [str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}"]
    command += [f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1", f"--num-cpus={cpus}"]
    command += [f"--temp-dir={temporary}", "--disable-usage-stats", f"--dashboard-agent-listen-port={agent}"]
    process = _started([*command, f"--labels={labels}"], environment, log)
    head = Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{agent}", environment)
    try:
        deadline = time.monotonic() + 180
        for url in (f"{head.dashboard}/api/version", f"{head.agent}/api/healthz"):
            while not _answers(url, token):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, f"nothing at {url}: {log.read_text()}"
                time.sleep(0.5)
        yield head
    finally:
        _stop(process)
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def ray_worker(log: Path, head: Head, *, cpus: int, labels: str) -> Iterator[None]:
    """Start another node of a head's cluster on this machine; it joins within the block.

    Args:
        log: what it prints.
        head: it runs, and runs longer.
        cpus: logical ones.
        labels: of the node, as `ray start` takes them.
    """
    command = [str(BIN / "ray"), "start", f"--address={head.gcs}", "--block", "--node-ip-address=127.0.0.1"]
    command += [f"--num-cpus={cpus}", f"--labels={labels}", f"--dashboard-agent-listen-port={_free_port()}"]
    process = _started([*command, "--disable-usage-stats"], head.environment, log)
    try:
        yield
    finally:
        _stop(process)


def _started(command: list[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("w") as stream:
        return subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, start_new_session=True)


def _stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(url: str, token: str) -> bool:
    try:
        return (
            httpx.get(url, headers={"Authorization": f"Bearer {token}"} if token else {}, timeout=5).status_code == 200
        )
    except httpx.HTTPError:
        return False
