"""Lines that are appended where nothing can be appended: numbered objects of some lines each.

A store takes whole objects only. What a process appends is gathered, and written as a new object every `FLUSH_S`, or as
soon as there is much of it. An object is never written again. A process that is killed loses what it appended in the
last `FLUSH_S` and while the last object was on its way, and nothing else.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator

from s1ray.storage.paths import StorePath

FLUSH_S = 5.0
"""Seconds that a line may be in this process's memory alone."""
FLUSH_BYTES = 4 << 20
"""That are written before that time is over."""


class Parts:
    """Appends lines as numbered objects; may be used from several threads."""

    def __init__(self, name: Callable[[int], StorePath], first: int = 0) -> None:
        """Write nothing yet.

        Args:
            name: where the object of a number is.
            first: the first number.
        """
        self._name, self._number = name, first
        self._held, self._size, self._problem = list[bytes](), 0, ""
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._much, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="parts", daemon=True)
        self._thread.start()

    def append(self, line: bytes) -> None:
        """Take a line, with its end; it is written soon.

        Raises:
            OSError: earlier ones could not be written.
        """
        with self._lock:
            if self._problem:
                raise OSError(self._problem)
            self._held.append(line)
            self._size += len(line)
        if self._size >= FLUSH_BYTES:
            self._much.set()

    def flush(self) -> None:
        """Write what is held.

        Raises:
            OSError: it cannot be written; it is held on.
        """
        with self._turn:
            with self._lock:
                held, self._held, self._size = self._held, [], 0
            if not held:
                return
            try:
                self._name(self._number).write_bytes(b"".join(held))
            except OSError as error:
                with self._lock:
                    self._held[:0] = held
                    self._problem = str(error)
                raise
            self._number += 1

    def close(self) -> None:
        """Write what is held, and end.

        Raises:
            OSError: something could not be written.
        """
        if not self._closed.is_set():
            self._closed.set()
            self._much.set()
            self._thread.join()
            self.flush()

    def _work(self) -> None:
        while not self._closed.is_set():
            self._much.wait(FLUSH_S)
            self._much.clear()
            try:
                self.flush()
            except OSError:
                return  # `append` tells, and `close` tries once more


class Growing:
    """A small object of lines that grows: written again as a whole, some seconds after a line came."""

    def __init__(self, path: StorePath) -> None:
        """Begin with what the object holds."""
        self._path = path
        self._content = bytearray(path.read_bytes() if path.is_file() else b"")
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._dirty, self._closed = False, threading.Event()
        self._thread = threading.Thread(target=self._work, name="growing", daemon=True)
        self._thread.start()

    def append(self, line: bytes) -> None:
        """Take a line, with its end; it is written soon."""
        with self._lock:
            self._content += line
            self._dirty = True

    def flush(self) -> None:
        """Write what is new.

        Raises:
            OSError: it cannot be written; it is tried again.
        """
        with self._turn:
            with self._lock:
                content, dirty, self._dirty = bytes(self._content), self._dirty, False
            if not dirty:
                return
            try:
                self._path.write_bytes(content)
            except OSError:
                self._dirty = True
                raise

    def close(self) -> None:
        """Write what is new, and end.

        Raises:
            OSError: it cannot be written.
        """
        if not self._closed.is_set():
            self._closed.set()
            self._thread.join()
            self.flush()

    def _work(self) -> None:
        while not self._closed.wait(FLUSH_S):
            with contextlib.suppress(OSError):  # tried again, and told by `flush` and `close`
                self.flush()


class PartFolder:
    """A file of lines that is a folder of parts in a store."""

    def __init__(self, folder: StorePath) -> None:
        """Read nothing yet."""
        self.folder = folder

    def files(self) -> list[StorePath]:
        """The parts, in order."""
        return sorted(self.folder.glob("*.part"))

    def lines(self) -> Iterator[bytes]:
        """The lines of all parts, in order."""
        for file in self.files():
            with file.open("rb") as stream:
                yield from stream

    def appender(self) -> Parts:
        """Appends after the parts that are there.

        The names are no other process's: one that has lost its lock and writes a last part writes over none.
        """
        files, own = self.files(), uuid.uuid4().hex[:8]
        first = int(files[-1].stem.partition("-")[0]) + 1 if files else 0
        return Parts(lambda number: self.folder / f"{number:08d}-{own}.part", first)
