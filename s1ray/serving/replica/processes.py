"""The processes below a replica: its engine, the engine's workers, and the compilers that they start."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import psutil

COMPILERS = frozenset(
    {
        "cc1",
        "cc1plus",
        "gcc",
        "g++",
        "c++",
        "clang",
        "clang++",
        "as",
        "collect2",
        "ld",
        "ninja",
        "nvcc",
        "cicc",
        "cudafe++",
        "ptxas",
    }
)
"""Programs that live only as long as they compile."""

COMPILE_WORKER = "compile_worker"
"""In the command lines of torch's compile workers, which stay when they have nothing to do."""

RESOURCE_TRACKER = "multiprocessing.resource_tracker"
"""In the command line of Python's tracker, which removes shared memory once the processes that it serves are gone."""


class CompilerWatch:
    """Says which compilers run below a process.

    Args:
        root: the process. None: this one.
    """

    def __init__(self, root: psutil.Process | None = None) -> None:
        self._root = root or psutil.Process()
        self._worked: dict[int, float] = {}

    def running(self) -> list[str]:
        """The names of the compilers, each once; of torch's compile workers those that worked since the last call."""
        names: set[str] = set()
        worked: dict[int, float] = {}
        for process in _below(self._root):
            with contextlib.suppress(psutil.Error):
                name = process.name()
                # Platform and version are part of some names: x86_64-linux-gnu-g++-13.
                plain = re.sub(r"^.*gnu-|-[\d.]+$", "", name)
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if plain in COMPILERS:
                    names.add(name)
                elif any(COMPILE_WORKER in part for part in process.cmdline()):
                    times = process.cpu_times()
                    worked[process.pid] = times.user + times.system
                    if worked[process.pid] > self._worked.get(process.pid, worked[process.pid]):
                        names.add(COMPILE_WORKER)
        self._worked = worked
        return sorted(names)


def kill_below(root: psutil.Process | None = None) -> list[int]:
    """Kill every process that a process has started, and theirs; nothing else.

    Args:
        root: the process, which stays. None: this one.

    Returns:
        The killed processes' ids.
    """
    found = [process for process in _below(root or psutil.Process()) if not _is_tracker(process)]
    for process in found:
        # psutil compares the time of their start: an id that another process has by now is left alone.
        with contextlib.suppress(psutil.Error):
            process.kill()
    return [process.pid for process in found]


def _below(root: psutil.Process) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        yield from root.children(recursive=True)


def _is_tracker(process: psutil.Process) -> bool:
    try:
        return any(RESOURCE_TRACKER in part for part in process.cmdline())
    except psutil.Error:
        return False
