"""Memory and processor time of a server's processes, by role."""

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
    "ray::ProxyActor": "Serve's proxy",
    "ray::HAProxyManager": "HAProxy's manager",
    "ray::ServeController": "controller",
    "ray::": "other Ray workers",
}
"""Roles by prefix of the process title; the first match counts."""

MIB = 2**20


@dataclass
class Usage:
    """Memory and processor time of all processes of each role."""

    memory_mib: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Resident memory that no other process shares."""
    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Since the start of each process."""

    def since(self, before: Usage) -> dict[str, float]:
        """Processor seconds since an earlier measurement, by role."""
        return {role: round(seconds - before.cpu_s.get(role, 0.0), 2) for role, seconds in self.cpu_s.items()}


def role(process: psutil.Process) -> str:
    """The role of a process."""
    command = process.cmdline()
    title = command[0] if command else ""
    if title.startswith("ray::ServeReplica") and ":Ingress" in title:
        return "HTTP worker"
    for prefix, found in ROLES.items():
        if title.startswith(prefix):
            return found
    name = process.name()
    if any("vllm.entrypoints" in word for word in command) or "APIServer" in title:
        return "vLLM's server"
    if name == "haproxy":
        return "HAProxy"
    if name in ("raylet", "gcs_server") or any("site-packages/ray/" in word for word in command[:3]):
        return "Ray's services"
    return "other"


def usage(root: psutil.Process, *, without: Collection[int] = (), memory: bool = True) -> Usage:
    """Memory and processor time of a process and its descendants, without this process, which measures.

    Args:
        root: a process.
        without: descendants that are left out, with their own descendants.
        memory: measure memory too, which takes some time.
    """
    result = Usage()
    processes = _below(root, without)
    if root.pid != os.getpid():
        processes.append(root)
    for process in processes:
        try:
            its_role, times = role(process), process.cpu_times()
            result.cpu_s[its_role] += times.user + times.system
            if memory:
                result.memory_mib[its_role] += process.memory_full_info().uss / MIB
        except psutil.Error:
            continue
    return result


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
