"""Requests to stop a run: from whoever started it, or because a node is about to be taken away.

SIGTERM to the process that started the run creates a file in the run folder, `stop`; a user may also create it by hand.
The first worker looks for it every few seconds and sends what it finds to the others along with the loss, so that all
of them save and stop after the same step. After a SIGTERM the sender must wait for a step and a checkpoint: `ray job
stop` waits 3 s (RAY_JOB_STOP_WAIT_TIME_S on the head node), and then kills.

Ray Train knows of nodes that are about to be taken away (`ray.train.get_preemption_info`). All workers must ask it
together, so the first worker's clock decides at which steps they do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from s1ray.manifests import RunError
from s1ray.storage import Location

STOP_FILE = "stop"
"""In the run folder: stop after the next step, with a checkpoint."""
INTERVAL = 2.0
"""Seconds between two checks."""

NOTHING, LOOK, STOP = 0, 1, 2
"""The first worker's signal to the others: nothing; ask for nodes about to be lost; save and stop."""


class StopRequests:
    """Checks the stop file and the clock, on the first worker."""

    def __init__(self, output: Location, *, interval: float = INTERVAL):
        self._stop_file = output / STOP_FILE
        self._interval = interval
        self._checked = time.monotonic()

    def signal(self) -> int:
        """The signal to send to the other workers at this step."""
        if time.monotonic() - self._checked < self._interval:
            return NOTHING
        self._checked = time.monotonic()
        return STOP if self._stop_file.exists() else LOOK


class PreemptionNotice:
    """Reports each node that is about to be taken away, once."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def is_new(self) -> bool:
        """Whether there is a notice that was not reported yet; every worker must call this at the same step."""
        import ray.train

        info = ray.train.get_preemption_info()
        nodes = set() if info is None else set(info.preempted_node_ids)
        new = bool(nodes - self._known)
        self._known |= nodes
        return new


@contextlib.contextmanager
def stop_on_sigterm(output: Location, began: Callable[[], bool]) -> Iterator[None]:
    """Inside the block SIGTERM asks the workers to save and stop; a second one ends this process as usual.

    Where no step has been taken yet there is nothing to save, and perhaps no worker that would look: the first one
    already ends the block, with a RunError.

    Deletes the stop request of an earlier start of the run. Only the main thread can handle signals; in another thread
    the block does nothing else.
    """
    stop_file = output / STOP_FILE
    stop_file.unlink(missing_ok=True)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGTERM)

    def ask(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, previous)
        if not began():
            raise RunError(f"{output}: stopped before a step was taken; run the same command again")
        stop_file.write_bytes(b"")
        os.write(2, b"train: asked to stop; saving a checkpoint first\n")

    signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
        # A run folder that can no longer be written to is already being reported.
        with contextlib.suppress(OSError):
            stop_file.unlink(missing_ok=True)
