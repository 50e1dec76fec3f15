"""A process that an engine runs in ends with the one that started it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys

import psutil

from s1ray.thinking.vllm.parent import end_with_parent
from tests.support.streams import is_gone, wait_until

START = """
import multiprocessing, time
from tests.thinking.vllm.test_parent import engine
if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=engine)
    child.start()
    print(child.pid, flush=True)
    time.sleep(600)
"""


def engine() -> None:
    end_with_parent()
    end_with_parent()
    signal.pause()


def test_it_is_killed_when_its_parent_is() -> None:
    with subprocess.Popen([sys.executable, "-c", START], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        # It has imported what it needs, and waits.
        wait_until(lambda: child.num_threads() >= 2 or is_gone(child), 60, "it watches its parent")
        assert not is_gone(child)
        os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: is_gone(child), 10, "it is gone")


def test_a_main_process_has_no_parent_to_end_with() -> None:
    assert multiprocessing.parent_process() is None
    end_with_parent()
