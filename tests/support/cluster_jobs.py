"""Stages that run as jobs of a cluster of hosts, while something happens to it."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.cluster_stages import write_config
from tests.support.ray_hosts import WORKERS, RayHosts


class Job:
    """A stage's job: submitted at once, and again whenever `again` is called.

    Attributes:
        output: the run's folder or address.
        log: what the client heard.
    """

    def __init__(
        self, cluster: RayHosts, stage: str, config: dict[str, Any], output: str | Path, **fields: Any
    ) -> None:
        self.output, self._stage, self._cluster = str(output), stage, cluster
        name = f"{stage}-{uuid.uuid4().hex[:8]}"
        self._file = write_config(cluster.shared / f"{name}.yaml", config, self.output, **fields)
        self.log = cluster.folder / f"{name}.job"
        self._start()

    def _start(self) -> None:
        self._process = self._cluster.start_job(f"jobs/{self._stage}.py", "--config", str(self._file), log=self.log)

    def reaches(self, what: str, condition: Callable[[], object]) -> None:
        """Wait until it is at a point of its work."""
        self._cluster.wait(what, 300, lambda: condition() or self._process.poll() is not None)
        assert self._process.poll() is None, f"it ended before {what}: {self.said()}"

    def says(self, words: str) -> None:
        """Wait until its log has some words."""
        self.reaches(words, lambda: words in self.said())

    def ends(self, *, well: bool = True, seconds: float = 900) -> str:
        """Wait for its end; what it said."""
        assert (self._process.wait(seconds) == 0) == well, self.said()[-6000:]
        return self.said()

    def stop(self) -> None:
        """Stop it, as a user does; for Ray's client that is a good end."""
        name = re.search(r"raysubmit_\w+", self.said())
        assert name is not None, self.said()
        self._cluster.on_client("ray", "job", "stop", name[0], "--address", self._cluster.dashboard)
        self.ends()

    def abandon(self) -> None:
        """End the client, which waits for ever for a head without power."""
        self._process.kill()
        self._process.wait()

    def again(self) -> None:
        """Submit it once more, and wait for a good end."""
        self.log.unlink()
        self._start()
        self.ends()

    def said(self) -> str:
        """What it said."""
        return self.log.read_text() if self.log.exists() else ""

    def files(self, pattern: str = "*") -> int:
        """How many files its run folder holds."""
        return sum(file.is_file() for file in Path(self.output).rglob(pattern))


def host_of(cluster: RayHosts, process: str) -> str:
    """A worker's name on whose host a process of this name runs."""
    for name in WORKERS:
        for pid in cluster.hosts[name].pids():
            with contextlib.suppress(OSError):
                if process in Path(f"/proc/{pid}/cmdline").read_text(errors="replace"):
                    return name
    raise AssertionError(f"no host runs {process}")
