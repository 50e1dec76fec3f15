"""A Ray cluster of hosts of its own (tests/support/hosts.py): a head without CPUs, workers, a client, and a store.

With token authentication, a folder that all hosts share, an S3 server, and a folder that is each host's own.
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
from tests.support.mounts import small_disk
from tests.support.store_server import BUCKET

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PORT, DASHBOARD_PORT = 6379, 8265
SERVE_PORT, STORE_PORT, REDIS_PORT = 8000, 9000, 6380
WORKERS = ("one", "two", "three")
TEMPORARY = Path("/tmp/s1ray-hosts")
"""Ray's folder: sockets lie in it, so its name is short; each host has its own there."""
SPILL_MEBIBYTES = 256
STORE_BYTES = 150_000_000
"""Of a node's object store; the hosts share one memory."""

ASK = """
import json, sys, httpx
url, token, data = json.loads(sys.argv[1])
headers = {"Authorization": f"Bearer {token}"} if token else {}
method, timeout = ("POST", 60) if data else ("GET", 5)
try:
    print(httpx.request(method, url, headers=headers, json=data, timeout=timeout).status_code)
except httpx.HTTPError:
    print(0)
"""
"""Prints the status of one request."""


class RayHosts:
    """The cluster.

    Attributes:
        hosts: by name: head, one, two, three, client, store.
        shared: a folder that is the same on each host.
        bucket: the address of an object store that each host reaches.
        spill: the folder of Ray's that host "one" has for itself, on a disk of its own.
        faults: a file that makes the store slow or busy (tests/support/store_server.py).
        environment: what each process of the cluster gets.
        dashboard: the address of the job API.
        python: the interpreter that all of them use.
    """

    def __init__(
        self, folder: Path, *, cpus: int = 2, variables: Mapping[str, str] | None = None, redis: bool = False
    ) -> None:
        """Say what is to be made.

        Args:
            folder: where everything of it lies.
            cpus: logical ones of each worker.
            variables: of all processes on all hosts.
            redis: keep the head's state in a Redis server on the store's host.
        """
        self.folder = folder
        self.shared = folder / "shared"
        self.shared.mkdir(parents=True, exist_ok=True)
        TEMPORARY.mkdir(exist_ok=True)
        self.hosts = Hosts(("head", *WORKERS, "client", "store"), folder / "hosts", own=[str(TEMPORARY)])
        self.bucket = f"s3://{BUCKET}"
        self.faults = folder / "faults.json"
        self.python = sys.executable
        self.spill = self.hosts["one"].folder / "own-0"
        store = self.hosts["store"].address
        self.token = secrets.token_hex(24)
        self.environment = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONUNBUFFERED": "1",
            # Otherwise whatever else runs on this machine comes before the workers.
            "RAY_worker_niceness": "0",
            "AWS_ENDPOINT_URL": f"http://{store}:{STORE_PORT}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            **(variables or {}),
        }
        self.dashboard = f"http://{self.hosts['head'].address}:{DASHBOARD_PORT}"
        self._cpus = cpus
        self._redis = f"{store}:{REDIS_PORT}" if redis else None

    def __enter__(self) -> RayHosts:
        with contextlib.ExitStack() as stack:
            stack.enter_context(small_disk(self.spill, mebibytes=SPILL_MEBIBYTES))
            stack.enter_context(self.hosts)
            self._start_store()
            self.start_head()
            for name in WORKERS:
                self.start_worker(name)
            self.wait_for_nodes(1 + len(WORKERS))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def log(self, name: str) -> Path:
        """What Ray's processes on a host print."""
        return self.folder / f"{name}.log"

    def start_head(self) -> None:
        """Start Ray's head; it has no CPUs. With Redis it goes on from what the one before it knew."""
        head = self.hosts["head"]
        head.plug()
        command = f"ray start --head --block --num-cpus 0 --node-ip-address {head.address} --port {PORT}"
        command += f" --dashboard-host {head.address} --dashboard-port {DASHBOARD_PORT} --temp-dir {TEMPORARY}"
        command += f" --object-store-memory {STORE_BYTES}"
        redis = {"RAY_REDIS_ADDRESS": self._redis, "RAY_external_storage_namespace": "s1ray"} if self._redis else {}
        head.start(f"exec {command}", self.log("head"), self.environment | redis)
        self.wait("the dashboard", 120, lambda: self.ask("/api/version") is not None)

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

    def wait_for_end(self, address: str, seconds: float = 180) -> None:
        """Wait until Ray holds a node for lost."""
        self.wait(f"end of {address}", seconds, lambda: address not in self.alive())

    def alive(self) -> list[str | None]:
        """Addresses of the nodes that Ray holds for alive."""
        answer = self.ask("/nodes?view=summary") or {}
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

    def _start_store(self) -> None:
        store = self.hosts["store"]
        command = f"exec {sys.executable} -m tests.support.store_server {store.address} {STORE_PORT} {self.faults}"
        store.start(f"cd {ROOT} && {command}", self.log("store"), {})
        if self._redis:
            redis = f"exec redis-server --bind {store.address} --port {REDIS_PORT} --protected-mode no --save ''"
            store.start(redis, self.log("redis"), {})
        make = "import os; from pyarrow import fs; fs.S3FileSystem(endpoint_override=os.environ['AWS_ENDPOINT_URL'],"
        make += f" allow_bucket_creation=True).create_dir('{BUCKET}')"
        self.wait("the store", 60, lambda: self.on_client(sys.executable, "-c", make).returncode == 0)

    def ask(self, path: str) -> dict[str, Any] | None:
        """What the dashboard says at a path; None if it says nothing."""
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
