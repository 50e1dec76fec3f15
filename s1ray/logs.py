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
from pathlib import Path

from s1ray.secrets import redact
from s1ray.storage import Location, Parts, StorePath

HEARTBEAT_S = 10.0
"""Seconds between two lines of long work; more after some minutes."""
RELAY_S = 1.0
"""Seconds between two looks at the log lines of other processes."""
STORE_RELAY_S = 5.0
"""The same where they are in a store."""


class RedactedFormatter(logging.Formatter):
    """Formats lines and tracebacks without secrets: a library's error may repeat a URL or a key."""

    def format(self, record: logging.LogRecord) -> str:
        """The line without them."""
        return redact(super().format(record))


def configure(*, verbose: bool = False) -> None:
    """Send s1ray's log lines to standard error, with the time of day; `verbose` adds debug lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactedFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
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


def log_to(path: Location) -> None:
    """Append the log lines of this process, which has no terminal, to a file, where `relayed` reads them."""
    logger = logging.getLogger("s1ray")
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = (
        _PartsHandler(path)
        if isinstance(path, StorePath)
        else logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    )
    handler.setFormatter(RedactedFormatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


@contextlib.contextmanager
def relayed(path: Location) -> Iterator[None]:
    """Log, as they come, the lines that other processes append to a file inside the block (`log_to`)."""
    stop = threading.Event()
    follow = _PartsFollower(path) if isinstance(path, StorePath) else _FileFollower(path)
    pause = STORE_RELAY_S if isinstance(path, StorePath) else RELAY_S

    def relay() -> None:
        stopped = False
        while not stopped:
            stopped = stop.wait(pause)
            with contextlib.suppress(OSError):
                for line in follow.new():
                    logging.getLogger("s1ray").info("%s", line.decode("utf-8", "replace").rstrip("\n"))

    thread = threading.Thread(target=relay, name="relay", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class _FileFollower:
    """The lines that are appended to a file."""

    def __init__(self, path: Path) -> None:
        self._path, self._position = path, path.stat().st_size if path.exists() else 0

    def new(self) -> Iterator[bytes]:
        with self._path.open("rb") as stream:
            stream.seek(self._position)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._position += len(line)
                yield line


class _PartsFollower:
    """The lines that processes append in a store, each in files of its own."""

    def __init__(self, path: StorePath) -> None:
        self._path, self._seen = path, set(path.glob("*"))

    def new(self) -> Iterator[bytes]:
        for file in sorted(set(self._path.glob("*")) - self._seen):
            self._seen.add(file)
            yield from file.read_bytes().splitlines(keepends=True)


class _PartsHandler(logging.Handler):
    def __init__(self, path: StorePath) -> None:
        super().__init__()
        name = f"{time.time_ns():020d}-{os.getpid()}"
        self._parts = Parts(lambda number: path / f"{name}-{number:06d}.log")

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # what cannot be told must not end the work
            self._parts.append(self.format(record).encode("utf-8", "backslashreplace") + b"\n")


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


@contextlib.contextmanager
def keeping_handlers() -> Iterator[None]:
    """Let the block import what configures logging, as vLLM does, without closing the handlers that are there.

    `logging.config` closes every handler of the process first, and those that buffer, as Serve's, forget their file.
    """
    kept = logging._handlerList[:]  # type: ignore[attr-defined]
    logging._handlerList.clear()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        logging._handlerList[:0] = kept  # type: ignore[attr-defined]
