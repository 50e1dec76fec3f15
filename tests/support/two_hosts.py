"""Two hosts on one machine: network namespaces joined by a cable, with names that resolve to nothing.

Needs root, `ip` and `unshare`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

ADDRESSES = {"a": "10.77.0.1", "b": "10.77.0.2"}


def available() -> bool:
    """Whether this machine can make them."""
    return os.geteuid() == 0 and all(shutil.which(tool) for tool in ("ip", "unshare", "mount"))


class Hosts:
    """The two, "a" and "b"."""

    def __init__(self, folder: Path):
        self._names = {host: f"s1ray-{os.getpid()}-{host}" for host in ADDRESSES}
        self._folder = folder

    def start(self, host: str, command: str, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Run a shell command on a host; when it ends, or is killed, everything ends that it started."""
        (self._folder / "hosts").write_text("127.0.0.1 localhost\n")
        setup = [
            f"hostname host-{host}",
            f"mount --bind {self._folder / 'hosts'} /etc/hosts",
            "mount --bind /dev/null /etc/resolv.conf",
        ]
        prefix = ["ip", "netns", "exec", self._names[host], "unshare", "--uts", "--mount", "--pid", "--fork"]
        prefix += ["--kill-child", "--mount-proc", "sh", "-c", " && ".join([*setup, command])]
        with log.open("wb") as stream:
            return subprocess.Popen(prefix, env=os.environ | environment, stdout=stream, stderr=stream)

    def __enter__(self) -> Hosts:
        for name in self._names.values():
            _ip("netns", "add", name)
        first, second = self._names.values()
        _ip("link", "add", "cable0", "netns", first, "type", "veth", "peer", "name", "cable0", "netns", second)
        for host, name in self._names.items():
            _ip("-n", name, "addr", "add", f"{ADDRESSES[host]}/24", "dev", "cable0")
            for interface in ("lo", "cable0"):
                _ip("-n", name, "link", "set", interface, "up")
        return self

    def __exit__(self, *error: object) -> None:
        for name in self._names.values():
            _ip("netns", "del", name)


@contextlib.contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed at the end of the block."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
