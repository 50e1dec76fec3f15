"""Mathematical equivalence by math-verify, in a child process that can be killed.

math-verify (sympy underneath) takes up to minutes and gigabytes on towers of powers, and its own time-outs work on the
main thread only. So it runs in one child process per grading process, started at the first use and fed over a pipe; a
comparison that is out of time ends the child, counts as undecided, and the next one gets a new child.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from pathlib import Path

SECONDS = 5.0
"""Time of one comparison; nearly all take milliseconds."""
MAX_CHARACTERS = 600
"""Answers longer than this are not final answers; comparing them would only burn the time-out."""


class SymbolicComparer:
    """Compares answers in a child process; safe to use from several threads."""

    def __init__(self, seconds: float = SECONDS):
        self.seconds = seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None

    def equal(self, gold: str, answer: str) -> bool | None:
        """Whether math-verify finds the two equal; None where it could not tell in time.

        Raises:
            RuntimeError: the child process does not start (math-verify is not installed, for example).
        """
        if len(gold) > MAX_CHARACTERS or len(answer) > MAX_CHARACTERS:
            return None
        with self._lock:
            child = self._started()
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                child.stdin.write(json.dumps([_as_math(gold), _as_math(answer), self.seconds]) + "\n")
                child.stdin.flush()
                reply = child.stdout.readline().strip()
            except BrokenPipeError:
                reply = ""
            if not reply:
                self._close()
                return None
            return None if reply.startswith("error") else reply == "1"

    def close(self) -> None:
        """End the child process, if there is one."""
        with self._lock:
            self._close()

    def _started(self) -> subprocess.Popen[str]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        script = Path(__file__).with_name("math_verify_process.py")
        child = subprocess.Popen(
            # -P: the folder of the script must not shadow the standard library.
            [sys.executable, "-P", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        if child.stdout.readline().strip() != "ready":
            _, error = child.communicate()
            raise RuntimeError(f"math-verify does not start: {error.strip().splitlines()[-1:] or child.returncode}")
        self._child = child
        return child

    def _close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


_comparer: SymbolicComparer | None = None


def symbolic_equal(gold: str, answer: str) -> bool | None:
    """`SymbolicComparer.equal` on this process's own child."""
    global _comparer
    if _comparer is None:
        _comparer = SymbolicComparer()
        atexit.register(_comparer.close)
    return _comparer.equal(gold, answer)


def _as_math(answer: str) -> str:
    # math-verify looks for anchors in prose; a box around the extracted answer is the one that it always takes.
    return f"\\boxed{{{answer}}}"
