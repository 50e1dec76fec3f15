"""What a command takes: time, processor seconds and peak memory of its process and all below it (Linux)."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

SAMPLE_S = 0.5
MB = 1e6


@dataclasses.dataclass
class Usage:
    """Of a command, in seconds and MB (10^6 bytes)."""

    wall_s: float = 0.0
    cpu_s: dict[str, float] = dataclasses.field(default_factory=dict)
    """driver; workers: of Ray, with tasks of the run; services: Ray's other processes."""
    peak_mb: dict[str, float] = dataclasses.field(default_factory=dict)
    """driver, worker: resident memory of the process, of the largest worker; everything: all processes together, where
    memory that several share counts once."""
    load: list[float] = dataclasses.field(default_factory=list)
    """Load average of the machine before and after."""
    others_cpu_s: float = 0.0
    """What processes of others used meanwhile."""


def measured(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Usage:
    """Run a command to its end.

    Args:
        command: what is run.
        environment: of the process.
        log: file for what it says.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    usage, begun, busy = Usage(load=[round(os.getloadavg()[0], 2)]), time.perf_counter(), _busy()
    cpu: dict[int, tuple[str, float]] = {}
    with log.open("wb") as said:
        process = subprocess.Popen(list(command), env=dict(environment), stdout=said, stderr=said)
        while process.poll() is None:
            _sample(process.pid, cpu, usage)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SAMPLE_S)
    usage.wall_s = round(time.perf_counter() - begun, 1)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {log.read_text(errors='replace')[-2000:]}")
    usage.cpu_s = {
        kind: round(sum(seconds for each, seconds in cpu.values() if each == kind), 1)
        for kind in ("driver", "workers", "services")
    }
    usage.peak_mb = {kind: round(size) for kind, size in usage.peak_mb.items()}
    usage.load.append(round(os.getloadavg()[0], 2))
    usage.others_cpu_s = round(max(0.0, _busy() - busy - sum(usage.cpu_s.values())), 1)
    return usage


def _sample(driver: int, cpu: dict[int, tuple[str, float]], usage: Usage) -> None:
    together = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [psutil.Process(driver), *psutil.Process(driver).children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
                kind = "driver" if process.pid == driver else _kind(process)
                times, memory = process.cpu_times(), process.memory_full_info()
                cpu[process.pid] = (kind, times.user + times.system)
                together += memory.pss / MB
                if kind != "services":
                    _raise(usage.peak_mb, "driver" if kind == "driver" else "worker", memory.rss / MB)
    _raise(usage.peak_mb, "everything", together)


def _raise(peaks: dict[str, float], name: str, value: float) -> None:
    peaks[name] = max(peaks.get(name, 0.0), value)


def _kind(process: psutil.Process) -> str:
    return "workers" if " ".join(process.cmdline()).startswith("ray::") else "services"


def _busy() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)
