"""Hosts on one machine: network namespaces on one switch, each with an address, a disk and process ids of its own.

The names of the hosts resolve to nothing, and nothing is reached beyond the switch. Needs root, `ip`, `unshare` and
`mount`; slow links need `tc` and `nft` (not netem, which many kernels lack).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

NETWORK = "10.77.0"
MEMORY = Path("/sys/fs/cgroup/memory")
"""Where the kernel's memory groups are, if it has them (cgroup, version 1)."""


def available() -> bool:
    """Whether this machine can make them."""
    if os.geteuid() != 0 or not all(shutil.which(tool) for tool in ("ip", "unshare", "mount")):
        return False
    name = f"s1ray-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return False
    bridge = ["ip", "-n", name, "link", "add", "bridge0", "type", "bridge"]
    made = subprocess.run(bridge, capture_output=True, check=False).returncode == 0
    subprocess.run(["ip", "netns", "del", name], check=True)
    return made


class Host:
    """One of them.

    Attributes:
        name: by which tests call it.
        address: its only one, but for loopback.
        folder: what it has for itself; `disk` within it lies on a file system of its own, where there is a size.
    """

    def __init__(self, name: str, number: int, folder: Path, own: Mapping[str, Path]) -> None:
        self.name = name
        self.address = f"{NETWORK}.{number}"
        self.folder = folder
        self.namespace = f"s1ray-{os.getpid()}-{name}"
        self._number = number
        self._own = own
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: str, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Run a shell command on the host; when it ends, or is killed, everything ends that it started."""
        hosts = self.folder / "hosts"
        hosts.write_text("127.0.0.1 localhost\n")
        binds = {"/etc/hosts": hosts, "/etc/resolv.conf": Path("/dev/null"), **self._own}
        setup = [f"hostname host-{self.name}", *(f"mount --bind {there} {path}" for path, there in binds.items())]
        prefix = ["ip", "netns", "exec", self.namespace, "unshare", "--uts", "--mount", "--pid", "--fork"]
        prefix += ["--kill-child", "--mount-proc", "sh", "-c", " && ".join([*setup, command])]
        with log.open("ab") as stream:
            process = subprocess.Popen(prefix, env=os.environ | environment, stdout=stream, stderr=stream)
        self._processes.append(process)
        return process

    def run(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the host's network alone, to its end."""
        prefix = ["ip", "netns", "exec", self.namespace]
        return subprocess.run(
            [*prefix, *command],
            env=os.environ | (environment or {}),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    @property
    def is_on(self) -> bool:
        """Whether everything that was started on it still runs."""
        return bool(self._processes) and all(process.poll() is None for process in self._processes)

    def power_off(self) -> None:
        """Kill everything that runs on the host, with no word to anybody, and take its link away."""
        self.unplug()
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def unplug(self) -> None:
        """Take the link away; nothing on the host is told."""
        _ip("-n", self.namespace, "link", "set", "net0", "down")

    def plug(self) -> None:
        """Give the link back."""
        _ip("-n", self.namespace, "link", "set", "net0", "up")

    def pids(self) -> list[int]:
        """The processes that run on the host, as this machine numbers them."""
        listed = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=True)
        return [int(pid) for pid in listed.stdout.split()]

    @contextlib.contextmanager
    def little_memory(self, mebibytes: int) -> Iterator[Callable[[], int]]:
        """Inside the block the host's processes may take so much more; beyond it the kernel kills the worst of them.

        Yields:
            How many it has killed so far.
        """
        group, home = MEMORY / self.namespace, _own_group()
        group.mkdir()
        try:
            (group / "memory.limit_in_bytes").write_text(str(mebibytes << 20))
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    (group / "cgroup.procs").write_text(str(pid))
            yield lambda: int((group / "memory.oom_control").read_text().split()[-1])
        finally:
            # More of them may come while they are moved, and those that are killed take a moment to go.
            while left := (group / "cgroup.procs").read_text().split():
                for each in left:
                    with contextlib.suppress(ProcessLookupError):
                        (home / "cgroup.procs").write_text(each)
            _try(group.rmdir)

    def slow(self, *, mbit: int, loss_percent: int = 0) -> None:
        """Send at a rate, with a queue of up to two seconds before it, and lose some packets at random."""
        link = ["tc", "-n", self.namespace, "qdisc", "replace", "dev", "net0", "root"]
        subprocess.run([*link, "tbf", "rate", f"{mbit}mbit", "burst", "64kb", "latency", "2s"], check=True)
        rules = (
            "add table inet lab; flush table inet lab; add chain inet lab out { type filter hook output priority 0; }"
        )
        if loss_percent:
            rules += f"; add rule inet lab out oifname net0 numgen random mod 100 < {loss_percent} drop"
        subprocess.run(["ip", "netns", "exec", self.namespace, "nft", rules], check=True)


class Hosts(Mapping[str, Host]):
    """Some hosts by name; inside the block they are there."""

    def __init__(self, names: Sequence[str], folder: Path, own: Sequence[str] = ()) -> None:
        """Say what is to be made.

        Args:
            names: of the hosts, in the order of their addresses (10.77.0.1, ...).
            folder: where they keep what is theirs.
            own: folders that are there on this machine, and are another, empty one on each host.
        """
        self._hosts = {}
        for number, name in enumerate(names, 1):
            place = folder / name
            owned = {path: place / f"own-{index}" for index, path in enumerate(own)}
            for there in (place, *owned.values()):
                there.mkdir(parents=True, exist_ok=True)
            self._hosts[name] = Host(name, number, place, owned)
        self._switch = f"s1ray-{os.getpid()}-switch"

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._hosts)

    def __len__(self) -> int:
        return len(self._hosts)

    def __enter__(self) -> Hosts:
        _ip("netns", "add", self._switch)
        try:
            _ip("-n", self._switch, "link", "add", "bridge0", "type", "bridge")
            _ip("-n", self._switch, "link", "set", "bridge0", "up")
            for number, host in enumerate(self.values(), 1):
                _ip("netns", "add", host.namespace)
                port = ["netns", self._switch, "type", "veth", "peer", "name", "net0", "netns", host.namespace]
                _ip("link", "add", f"port{number}", *port)
                _ip("-n", self._switch, "link", "set", f"port{number}", "master", "bridge0", "up")
                _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "net0")
                for interface in ("lo", "net0"):
                    _ip("-n", host.namespace, "link", "set", interface, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for host in self.values():
            with contextlib.suppress(subprocess.CalledProcessError):
                host.power_off()
        for name in (*(host.namespace for host in self.values()), self._switch):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@contextlib.contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed at the end of the block."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_file(file: Path, seconds: float) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < deadline, f"no {file} after {seconds:g} s"
        time.sleep(0.2)


def _own_group() -> Path:
    """The memory group of this process."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    group = MEMORY / next(line.split(":", 2)[2] for line in lines if ":memory:" in line).lstrip("/")
    return group if group.exists() else MEMORY


def _try(action: Callable[[], None], seconds: float = 10) -> None:
    """Do something that the kernel may refuse for a moment."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
