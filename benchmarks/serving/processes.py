"""What a server's processes take: memory and processor time, by the part that each process plays."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

import psutil

ROLES = {
    "VLLM::EngineCore": "engine",
    "VLLM::Worker": "engine",
    "ray::ServeReplica": "replica",
    "ray::ProxyActor": "proxy",
    "ray::ServeController": "controller",
    "ray::": "other Ray workers",
}
"""Parts, by how a process's title begins; the first that fits."""

MIB = 2**20


@dataclass
class Usage:
    """What the processes of each part take together."""

    memory_mib: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Resident, less what is shared with other processes."""
    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Since each process began."""

    def since(self, before: Usage) -> dict[str, float]:
        """Processor seconds from then to now, by part."""
        return {role: round(seconds - before.cpu_s.get(role, 0.0), 2) for role, seconds in self.cpu_s.items()}


def role(process: psutil.Process) -> str:
    """The part that a process plays."""
    command = process.cmdline()
    title = command[0] if command else ""
    if title.startswith("ray::ServeReplica") and ":Ingress" in title:
        return "HTTP worker"
    for begins, part in ROLES.items():
        if title.startswith(begins):
            return part
    name = process.name()
    if any("vllm.entrypoints" in word for word in command) or "APIServer" in title:
        return "vLLM's server"
    if name in ("raylet", "gcs_server") or any("site-packages/ray/" in word for word in command[:3]):
        return "Ray's services"
    return "other"


def usage(root: psutil.Process, *, without: Collection[int] = (), memory: bool = True) -> Usage:
    """What a process and those below it take; this process itself, which measures, is left out.

    Args:
        root: a process.
        without: processes below it that are left out, with all below them.
        memory: look at memory, too, which takes some time.
    """
    taken = Usage()
    processes = _below(root, without)
    if root.pid != os.getpid():
        processes.append(root)
    for process in processes:
        try:
            part, times = role(process), process.cpu_times()
            taken.cpu_s[part] += times.user + times.system
            if memory:
                taken.memory_mib[part] += process.memory_full_info().uss / MIB
        except psutil.Error:
            continue
    return taken


def _below(root: psutil.Process, without: Collection[int]) -> list[psutil.Process]:
    found = []
    left = root.children()
    while left:
        process = left.pop()
        if process.pid in without:
            continue
        found.append(process)
        try:
            left += process.children()
        except psutil.Error:
            continue
    return found
