"""One writer at a time, on this machine's disks, on network storage and in object stores.

A local lock is the system's (`flock`), and ends with the process. Storage that has none is refused.

A store has no locks, and not every one can write "only if it is not there". There a lock is a folder of tickets.
Whoever wants it writes a ticket of its own, then lists: if another ticket is live, it takes its own back and gives up.
Of two that come at once each sees at least what was written before its own list, so both may give up, but never both go
on. A ticket is live while it is less than `LIVE_S` older than the one just written, both by the store's own clock; a
thread writes the holder's again every `RENEW_S`. A holder that could not do that for `LOST_S`, or whose ticket another
one has deleted as dead, has lost the lock and must stop.

What that cannot give: a process that the system holds still for longer than `LIVE_S`, in the middle of a write, may end
that write after another has begun.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

from s1ray.errors import S1rayError
from s1ray.storage.paths import Location, StorePath

LIVE_S = 60.0
"""Age from which a ticket is dead."""
RENEW_S = 15.0
"""Seconds between two renewals."""
LOST_S = 45.0
"""Seconds without a renewal after which the holder stops: before anybody else takes its ticket for dead."""
WATCH_S = 1.0
"""Seconds between two looks at that."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class TakenError(S1rayError, BlockingIOError):
    """Another process holds the lock; the message says which."""


class LostError(S1rayError, RuntimeError):
    """A lock that this process had, and has no more. No OSError, which code around a file might take for the file's."""


class NoLocksError(S1rayError, OSError):
    """The storage keeps no locks."""


class Lock(Protocol):
    """A lock that is held."""

    def check(self) -> None:
        """Raises `LostError` where it is held no more."""

    def release(self) -> None:
        """Let others have it."""


def take(place: Location, lost: Callable[[], None] | None = None) -> Lock:
    """Take a lock, or fail at once.

    Args:
        place: a file for the lock, which stays; in a store a folder.
        lost: called once, in another thread, when a store's lock is lost.

    Raises:
        TakenError: another process holds it.
        NoLocksError: the storage keeps none.
        OSError: the file cannot be opened.
    """
    return Lease(place, lost) if isinstance(place, StorePath) else FileLock(place)


class FileLock:
    """A lock of the operating system on a file."""

    def __init__(self, path: Path) -> None:
        """Take it, as `take` says."""
        self._file: IO[str] | None = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            who = self._file.read().strip() or "another process"
            self._file.close()
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise TakenError(who) from None
            raise NoLocksError(
                f"{path.parent}: this storage keeps no locks ({error.strerror}), so two starts could damage each "
                "other's files; use storage that does (NFS 4, Lustre with -o flock), or an s3:// address"
            ) from None
        self._file.truncate(0)
        self._file.write(_me())
        self._file.flush()

    def check(self) -> None:
        """Nothing: the system keeps it."""

    def release(self) -> None:
        """Let others have it."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Ticket:
    """An object that says that its process lives, until it is closed."""

    def __init__(self, path: StorePath, lost: Callable[[], None] | None = None) -> None:
        """Write it, and go on writing it again."""
        self.path, self._on_lost = path, lost
        self._text = json.dumps({"who": _me(), "process": os.getpid(), "boot": _boot(), "began": _began(os.getpid())})
        self._stop, self._turn, self._why = threading.Event(), threading.Lock(), ""
        self._renewed = _now()
        path.write_text(self._text)
        # Apart, as a renewal may hang for longer than there is time.
        for work in (self._renew, self._watch):
            threading.Thread(target=work, name="lease", daemon=True).start()

    def check(self) -> None:
        """Look whether the ticket was in time.

        Raises:
            LostError: it was not.
        """
        late = _now() - self._renewed
        if not self._why and late > LOST_S:
            self._why = f"could not be renewed for {late:.0f} s"
        if self._why:
            raise LostError(
                f"{self.path.parent}: this process's lock {self._why}, so another may be at work there; run again to "
                "go on from what is done"
            )

    def close(self) -> None:
        """End it, and delete the object unless another has taken over."""
        if not self._stop.is_set():
            self._stop.set()
            if not self._why:
                with self._turn, contextlib.suppress(OSError):
                    self.path.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_S):
            began = _now()
            with self._turn, contextlib.suppress(OSError):
                if self._stop.is_set() or began - self._renewed > LOST_S:
                    return
                if not self.path.is_file():
                    self._why = "was taken for dead and deleted"
                    return
                self.path.write_text(self._text)
                self._renewed = began

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_S):
            try:
                self.check()
            except LostError:
                if self._on_lost is not None:
                    self._on_lost()
                return


class Lease:
    """A lock in a store."""

    def __init__(self, place: StorePath, lost: Callable[[], None] | None = None) -> None:
        """Take it, as `take` says."""
        self._ticket = Ticket(place / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json", lost)
        try:
            now = self._ticket.path.stat().st_mtime
            others = [path for path in place.glob("*.json") if path != self._ticket.path]
            live = [path for path in others if is_live(path, now)]
            if live:
                raise TakenError(_holder(live[0]))
            for path in others:
                path.unlink(missing_ok=True)
        except BaseException:
            self._ticket.close()
            raise

    def check(self) -> None:
        """Raises `LostError` where another may have it."""
        self._ticket.check()

    def release(self) -> None:
        """Let others have it."""
        self._ticket.close()


def still_open(place: StorePath) -> list[StorePath]:
    """The live tickets in a folder; those of processes that have ended are deleted."""
    now = place / ".now"
    now.write_bytes(b"")
    time_there, tickets = now.stat().st_mtime, list(place.glob("*.json"))
    live = [ticket for ticket in tickets if is_live(ticket, time_there)]
    for ticket in tickets:
        if ticket not in live:
            ticket.unlink(missing_ok=True)
    return live


def is_live(ticket: StorePath, now: float) -> bool:
    """Whether a ticket's process may be at work.

    Args:
        ticket: its object.
        now: time by the store's clock.
    """
    try:
        if now - ticket.stat().st_mtime >= LIVE_S:
            return False
        about = json.loads(ticket.read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    # A process of this very machine that has ended needs no minute to be believed.
    here = isinstance(about, dict) and about.get("boot") is not None and about["boot"] == _boot()
    return not (here and _began(about["process"]) != about["began"])


def _holder(ticket: StorePath) -> str:
    try:
        return str(json.loads(ticket.read_bytes())["who"])
    except (OSError, ValueError, LookupError, TypeError):
        return "another process"


def _now() -> float:
    """Seconds, those among them in which the machine was asleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _me() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def _boot() -> str | None:
    """Names this start of this machine, and which processes it sees; None: not known."""
    try:
        return f"{_BOOT.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _began(process: int) -> str | None:
    """When a process of this machine began, in the system's ticks; None: there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
