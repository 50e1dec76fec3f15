"""What appears on the terminal: our own log lines; of other libraries only what is wrong."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

HEARTBEAT_S = 10.0
"""Seconds between two lines of long work; more after some minutes."""


def configure(*, verbose: bool = False) -> None:
    """Send s1ray's log lines to standard error, with the time of day; `verbose` adds debug lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger = logging.getLogger("s1ray")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    # Serve gives the root logger a handler; every request of an evaluation would be a line.
    logging.getLogger("httpx").setLevel(logging.WARNING)


@contextlib.contextmanager
def quiet(*names: str, level: int = logging.WARNING) -> Iterator[None]:
    """Raise the level of other libraries' loggers inside the block."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, old in zip(loggers, before, strict=True):
            logger.setLevel(old)


@contextlib.contextmanager
def heartbeat(line: Callable[[float], str]) -> Iterator[None]:
    """Log a line now and then inside the block, so that long work is not silent.

    Args:
        line: from the seconds since the block began to the text; called in another thread.
    """
    stop, began = threading.Event(), time.monotonic()

    def beat() -> None:
        # Every ten seconds for five minutes, then less often: work of hours must not fill the log.
        while not stop.wait(max(HEARTBEAT_S, (time.monotonic() - began) / 30)):
            logging.getLogger("s1ray").info("%s", line(time.monotonic() - began))

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def without_lines(text: str) -> Iterator[None]:
    """Keep lines with this text off standard error inside the block.

    For what a library's C++ code prints past Python's logging. A child process filters, so that the last words of a
    process that crashes are not lost.
    """
    grep = shutil.which("grep")
    if grep is None:
        yield
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    child = subprocess.Popen([grep, "--line-buffered", "-vF", text], stdin=subprocess.PIPE, stdout=terminal)
    assert child.stdin is not None
    os.dup2(child.stdin.fileno(), 2)
    child.stdin.close()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        os.close(terminal)
        # A process that was started inside the block may still hold the pipe.
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=1)
