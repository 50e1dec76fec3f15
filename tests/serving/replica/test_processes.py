"""Compilers are seen, and what a process has started is killed, among real processes."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from s1ray.serving.replica.processes import COMPILE_WORKER, CompilerWatch, kill_below

BUSY = "import time\nwhile True: sum(range(1000))"
IDLE = "import time\ntime.sleep(60)"


@contextlib.contextmanager
def running(*command: str) -> Iterator[psutil.Process]:
    """A process for the duration of a block; what it starts goes with it."""
    with subprocess.Popen(command) as started:
        process = psutil.Process(started.pid)
        try:
            yield process
        finally:
            for each in [*process.children(recursive=True), process] if process.is_running() else []:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()


def eventually(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def called(name: str, folder: Path) -> str:
    """A program that does nothing for a while, under another name."""
    sleep = shutil.which("sleep")
    assert sleep is not None
    return str(shutil.copy(sleep, folder / name))


@pytest.mark.parametrize("name", ["cc1plus", "cc1", "g++", "x86_64-linux-gnu-g++-13", "clang++-17", "ptxas", "ninja"])
def test_a_compiler_below_a_process_is_seen_while_it_runs(tmp_path: Path, name: str) -> None:
    watch = CompilerWatch()
    assert watch.running() == []
    with running("sh", "-c", f"'{called(name, tmp_path)}' 60; true"):
        assert eventually(lambda: watch.running() == [name])
    assert watch.running() == []


@pytest.mark.parametrize("name", ["python-cc1plus", "catalog", "ldd", "gccgo-client"])
def test_other_programs_are_no_compilers(tmp_path: Path, name: str) -> None:
    with running(called(name, tmp_path), "60") as process:
        assert eventually(lambda: process.name() == name)
        assert CompilerWatch().running() == []


def test_a_compile_worker_counts_only_while_it_works() -> None:
    watch = CompilerWatch()
    with running(sys.executable, "-c", BUSY, COMPILE_WORKER):
        assert eventually(lambda: watch.running() == [COMPILE_WORKER])
    with running(sys.executable, "-c", IDLE, COMPILE_WORKER) as idle:
        assert eventually(lambda: idle.status() == psutil.STATUS_SLEEPING)
        time.sleep(0.5)
        watch.running()
        assert watch.running() == []


def test_compilers_of_others_are_not_seen(tmp_path: Path) -> None:
    with running("sleep", "60") as other, running(called("cc1plus", tmp_path), "60"):
        assert CompilerWatch(other).running() == []


def test_everything_below_a_process_is_killed_and_nothing_else() -> None:
    with running("sleep", "60") as other, running("sh", "-c", "sh -c 'sleep 60; true' & sleep 60; true") as root:
        assert eventually(lambda: len(root.children(recursive=True)) == 3)
        below = root.children(recursive=True)
        below[0].send_signal(signal.SIGSTOP)
        assert sorted(kill_below(root)) == sorted(process.pid for process in below)
        assert eventually(lambda: not any(map(runs, below)))
        assert runs(other)
    assert kill_below(root) == []


def test_pythons_tracker_of_shared_memory_is_left_to_do_its_work() -> None:
    tracked = "from multiprocessing import resource_tracker as r; r.ensure_running(); import time; time.sleep(60)"
    with running(sys.executable, "-c", tracked) as root:
        assert eventually(lambda: len(root.children()) == 1)
        (tracker,) = root.children()
        assert eventually(lambda: "resource_tracker" in " ".join(tracker.cmdline()))
        assert kill_below(root) == []
        assert runs(tracker)


def runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
