"""Being asked to stop: by whoever started the run, or by a node that is about to be taken away.

SIGTERM to the process that started the run becomes a file in the run folder, `stop`; anybody may also create it. The
first worker looks for it now and then, and what it finds goes to the others along with the loss, so that all of them
save and stop after the same step. Whoever sends SIGTERM must then wait for a step and a checkpoint: `ray job stop`
waits 3 s (RAY_JOB_STOP_WAIT_TIME_S on the head node), and then kills.

Of nodes that are about to be taken away Ray Train knows (`ray.train.get_preemption_info`). Asking it is a meeting of
all workers, so the first worker's clock says at which steps they ask.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

STOP_FILE = "stop"
"""In the run folder: stop after the next step, with a checkpoint."""
INTERVAL = 2.0
"""Seconds between two looks."""

NOTHING, LOOK, STOP = 0, 1, 2
"""What the first worker tells the others: nothing; to ask for nodes about to be lost; to save and stop."""


class Lookout:
    """The first worker's eye on the run folder and the clock."""

    def __init__(self, output: Path, *, interval: float = INTERVAL):
        self._stop_file = output / STOP_FILE
        self._interval = interval
        self._looked = time.monotonic()

    def signal(self) -> int:
        """What to tell the other workers at this step."""
        if time.monotonic() - self._looked < self._interval:
            return NOTHING
        self._looked = time.monotonic()
        return STOP if self._stop_file.exists() else LOOK


class PreemptionNotice:
    """Tells once of each node that is about to be taken away."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def is_new(self) -> bool:
        """Whether there is a notice that has not been told yet; every worker must call this at the same step."""
        import ray.train

        info = ray.train.get_preemption_info()
        nodes = set() if info is None else set(info.preempted_node_ids)
        new = bool(nodes - self._known)
        self._known |= nodes
        return new


@contextlib.contextmanager
def stop_on_sigterm(output: Path) -> Iterator[None]:
    """Inside the block SIGTERM asks the workers to save and stop; a second one ends this process as usual.

    A request of an earlier start of the run is forgotten. Only the main thread can take signals: in another one the
    block does that alone.
    """
    stop_file = output / STOP_FILE
    stop_file.unlink(missing_ok=True)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGTERM)

    def ask(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, previous)
        stop_file.touch()
        os.write(2, b"train: asked to stop; saving a checkpoint first\n")

    signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
        stop_file.unlink(missing_ok=True)
