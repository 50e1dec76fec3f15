"""Mathematical equivalence by math-verify, in a child process that can be killed.

math-verify (sympy underneath) can take minutes and gigabytes on a tower of powers, and its own time-outs work on the
main thread only. So it runs in one child process per grading process, started at first use and fed over a pipe. A
comparison that runs out of time ends the child and counts as undecided; the next one starts a new child.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from pathlib import Path

from s1ray.errors import S1rayError

SECONDS = 5.0
"""CPU time of one comparison; nearly all take milliseconds."""
MAX_CHARACTERS = 600
"""Longer answers are not final answers; comparing them would only use up the time."""


class GradingError(S1rayError):
    """Answers cannot be graded on this machine."""


class SymbolicComparer:
    """Compares answers in a child process. Thread-safe."""

    def __init__(self, seconds: float = SECONDS):
        self.seconds = seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None

    def equal(self, gold: str, answer: str) -> bool | None:
        """Whether math-verify finds the two equal; None if it could not tell in time.

        Raises:
            GradingError: the child process does not start (math-verify is not installed, for example).
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
        """End the child process, if one is running."""
        with self._lock:
            self._close()

    def _started(self) -> subprocess.Popen[str]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        script = Path(__file__).with_name("math_verify_process.py")
        child = subprocess.Popen(
            # -P: the script's folder must not shadow the standard library.
            [sys.executable, "-P", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        if child.stdout.readline().strip() != "ready":
            _, error = child.communicate()
            reason = (error.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
            raise GradingError(f"math-verify does not start: {reason}; reinstall s1ray with its dependencies")
        self._child = child
        return child

    def _close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


_comparer: SymbolicComparer | None = None


def symbolic_equal(gold: str, answer: str) -> bool | None:
    """`SymbolicComparer.equal` with the comparer that this process shares."""
    global _comparer
    if _comparer is None:
        _comparer = SymbolicComparer()
        atexit.register(_comparer.close)
    return _comparer.equal(gold, answer)


def _as_math(answer: str) -> str:
    # math-verify looks for anchors in prose, and a box is the one that it always accepts.
    return f"\\boxed{{{answer}}}"
