"""A Ray cluster of hosts of its own (tests/support/hosts.py): a head without CPUs, workers, and a client.

With token authentication, a folder that all hosts share, and a folder that is each host's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.hosts import Host, Hosts

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PORT, DASHBOARD_PORT = 6379, 8265
WORKERS = ("one", "two", "three")
TEMPORARY = Path("/tmp/s1ray-hosts")
"""Ray's folder: sockets lie in it, so its name is short; each host has its own there."""
STORE_BYTES = 150_000_000
"""Of a node's object store; the hosts share one memory."""

ASK = """
import json, sys, httpx
url, token, data = json.loads(sys.argv[1])
headers = {"Authorization": f"Bearer {token}"} if token else {}
try:
    print(httpx.request("POST" if data else "GET", url, headers=headers, json=data, timeout=5).status_code)
except httpx.HTTPError:
    print(0)
"""
"""Prints the status of one request."""


class RayHosts:
    """The cluster.

    Attributes:
        hosts: by name: head, one, two, three, client.
        shared: a folder that is the same on each host.
        environment: what each process of the cluster gets.
        dashboard: the address of the job API.
    """

    def __init__(self, folder: Path, *, cpus: int = 2, head_variables: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        self.shared.mkdir(parents=True)
        TEMPORARY.mkdir(exist_ok=True)
        self.hosts = Hosts(("head", *WORKERS, "client"), folder / "hosts", own=[str(TEMPORARY)])
        self.token = secrets.token_hex(24)
        self.environment = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.dashboard = f"http://{self.hosts['head'].address}:{DASHBOARD_PORT}"
        self._cpus = cpus
        self._head_variables = dict(head_variables or {})

    def __enter__(self) -> RayHosts:
        self.hosts.__enter__()
        try:
            self.start_head()
            for name in WORKERS:
                self.start_worker(name)
            self.wait_for_nodes(1 + len(WORKERS))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.hosts.__exit__()

    def log(self, name: str) -> Path:
        """What Ray's processes on a host print."""
        return self.folder / f"{name}.log"

    def start_head(self) -> None:
        """Start Ray's head; it has no CPUs."""
        head = self.hosts["head"]
        command = f"ray start --head --block --num-cpus 0 --node-ip-address {head.address} --port {PORT}"
        command += f" --dashboard-host {head.address} --dashboard-port {DASHBOARD_PORT} --temp-dir {TEMPORARY}"
        command += f" --object-store-memory {STORE_BYTES}"
        head.start(f"exec {command}", self.log("head"), self.environment | self._head_variables)
        self.wait("the dashboard", 120, lambda: self._get("/api/version") is not None)

    def start_worker(self, name: str) -> None:
        """Start a worker of the cluster on a host; it does not wait until it has joined."""
        host = self.hosts[name]
        host.plug()
        command = f"ray start --block --num-cpus {self._cpus} --node-ip-address {host.address}"
        command += f" --address {self.hosts['head'].address}:{PORT} --object-store-memory {STORE_BYTES}"
        host.start(f"exec {command}", self.log(name), self.environment)

    def wait_for_nodes(self, count: int, seconds: float = 180) -> None:
        """Wait until so many nodes are alive."""
        self.wait(f"{count} nodes", seconds, lambda: len(self.alive()) == count)

    def alive(self) -> list[str | None]:
        """Addresses of the nodes that Ray holds for alive."""
        answer = self._get("/nodes?view=summary") or {}
        nodes = answer.get("data", {}).get("summary", [])
        return [node.get("ip") for node in nodes if node.get("raylet", {}).get("state") == "ALIVE"]

    def job(
        self, *entrypoint: str, options: Sequence[str] = (), timeout: float = 900
    ) -> subprocess.CompletedProcess[str]:
        """Submit a job from the client's host with an upload of the checkout, and wait for its end."""
        return self.on_client(*self._submission(entrypoint, options), timeout=timeout)

    def start_job(self, *entrypoint: str, log: Path, options: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Submit a job, and go on while it runs."""
        command = " ".join(f"'{word}'" for word in self._submission(entrypoint, options))
        return self.hosts["client"].start(f"exec {command}", log, self.environment)

    def on_client(self, *command: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a program on the client's host."""
        return self.hosts["client"].run(command, self.environment, timeout=timeout)

    def get(self, host: Host, url: str, *, token: bool, data: Mapping[str, object] | None = None) -> int:
        """The status of a GET (with `data`: a POST) from a host; 0: nothing answers."""
        given = json.dumps([url, self.token if token else None, data])
        return int(host.run([sys.executable, "-c", ASK, given], self.environment).stdout)

    def _submission(self, entrypoint: Sequence[str], options: Sequence[str]) -> list[str]:
        command = [str(BIN / "ray"), "job", "submit", "--address", self.dashboard, "--working-dir", str(ROOT)]
        return [*command, *options, "--", "python", *entrypoint]

    def _get(self, path: str) -> dict[str, Any] | None:
        program = "import sys, httpx\nprint(httpx.get(sys.argv[1], headers={'Authorization': 'Bearer ' + sys.argv[2]},"
        program += " timeout=10).text)"
        asked = self.on_client(sys.executable, "-c", program, f"{self.dashboard}{path}", self.token)
        with contextlib.suppress(ValueError):
            answer: dict[str, Any] = json.loads(asked.stdout)
            return answer
        return None

    def wait(self, what: str, seconds: float, condition: Callable[[], object]) -> None:
        """Wait until a condition holds, or fail with what the hosts said."""
        deadline = time.monotonic() + seconds
        while not condition():
            logs = "".join(f"\n{path.name}:\n{path.read_text()[-1500:]}" for path in sorted(self.folder.glob("*.log")))
            assert time.monotonic() < deadline, f"no {what} after {seconds:g} s{logs}"
            time.sleep(0.5)


@contextlib.contextmanager
def ray_hosts(folder: Path, **options: Any) -> Iterator[RayHosts]:
    """A cluster, for a block."""
    with RayHosts(folder, **options) as cluster:
        yield cluster
