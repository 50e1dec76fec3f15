"""Comparing two answers: what is exact arithmetic here, what needs algebra in a child process that can be ended.

One child for each grading process, started at first use and fed over a pipe (`child`). A comparison that reaches a
limit of processor time or memory is undecided, and is tried once more. Limits of wall time are only there for a machine
that has stopped: they are minutes.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import select
import subprocess
import sys
import threading
import time

from s1ray.errors import S1rayError
from s1ray.grading.equality import Comparison
from s1ray.grading.notation import canonical
from s1ray.grading.numbers import parse_number, same_number
from s1ray.grading.reading import read
from s1ray.grading.splitting import spelling, trivial
from s1ray.grading.values import Named, Scalar, Value, Words

WALL_SECONDS = 600.0
"""For a start and for one comparison, whose processor time is bounded by the child itself."""


class GradingError(S1rayError):
    """Answers cannot be graded on this machine."""


_COMMA = re.compile(r"-?\d+,\d+%?")
_ONE_THOUSAND = re.compile(r"-?[1-9]\d{0,2},\d{3}%?")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")


class NeedsAlgebraError(Exception):
    """Two expressions are not plain numbers."""


class _Arithmetic:
    """`equality.Leaves` for plain numbers alone."""

    def equal(self, gold: str, answer: str) -> bool:
        one, other = parse_number(gold), parse_number(answer)
        if one is None or other is None:
            raise NeedsAlgebraError
        return same_number(one, other)

    def near(self, one: str, other: str) -> bool:
        first, second = parse_number(one), parse_number(other)
        if first is None or second is None:
            raise NeedsAlgebraError
        return abs(first.value - second.value) <= abs(first.value) / 100

    def multiples(self, gold: tuple[str, str], answer: tuple[str, str], *, positive: bool) -> bool:
        raise NeedsAlgebraError


_ARITHMETIC = Comparison(_Arithmetic())


def compare(gold: str, answer: str, kind: str | None = None) -> tuple[bool | None, str]:
    """Whether two answers are the same, and by which rule; None: undecided, a limit was reached twice.

    Args:
        gold: an answer, without its box.
        answer: another one; at most `MAX_CHARACTERS` long, like the first.
        kind: "text" compares words, or an ordered list, by spelling alone.

    Raises:
        GradingError: the child process does not start.
    """
    one, other = canonical(gold), canonical(answer)
    spelled = one, other
    one, other = _with_point(one, other), _with_point(other, one)
    if (one, other) != spelled and one == other:
        return True, "decimal comma"
    if (as_list := _THOUSANDS.fullmatch(one)) is not None and ", " in other:
        # "58,500" may be two answers; what is spelled as two can only be meant so.
        one = ", ".join(as_list[0].split(","))
    if one == other:
        return (not trivial(other) or trivial(one)), "exact"
    if kind == "text":
        return spelling(one) == spelling(other) or _same_words(one, other), "exact"
    return _equal(one, other)


def _equal(gold: str, answer: str) -> tuple[bool | None, str]:
    """Whether two answers in canonical notation say the same, and the rule: "numeric", "structure" or "symbolic".

    None: a limit was reached, twice.

    Raises:
        GradingError: the child process does not start.
    """
    gold_value, answer_value = read(gold), read(answer)
    try:
        return _ARITHMETIC.same(gold_value, answer_value), _rule(gold_value, answer_value)
    except NeedsAlgebraError:
        comparer = _shared()
        verdict = comparer.equal(gold, answer)
        return comparer.equal(gold, answer) if verdict is None else verdict, "symbolic"


def _with_point(text: str, other: str) -> str:
    """An answer with a decimal comma as a decimal, if the other one is a decimal; "1,2" may be a list otherwise, and
    "1,234" is a thousand.
    """
    if not _COMMA.fullmatch(text) or _ONE_THOUSAND.fullmatch(text):
        return text
    number = parse_number(other)
    return text.replace(",", ".") if number is not None and number.places else text


def _same_words(gold: str, answer: str) -> bool:
    """Whether two texts are the same words, or the same date."""
    one, other = read(gold), read(answer)
    return isinstance(one, Words) and one == other


def _rule(gold: Value, answer: Value) -> str:
    values = [value.value if isinstance(value, Named) else value for value in (gold, answer)]
    return "numeric" if all(isinstance(value, Scalar) for value in values) else "structure"


class AlgebraProcess:
    """The child process. Thread-safe."""

    def __init__(self, wall_seconds: float = WALL_SECONDS):
        self._wall_seconds = wall_seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self.owner = os.getpid()

    def equal(self, gold: str, answer: str) -> bool | None:
        """Whether two canonical answers say the same; None where a limit was reached.

        Raises:
            GradingError: the child process does not start (sympy is not installed, for example).
        """
        with self._lock:
            child = self._started()
            assert child.stdin is not None
            try:
                child.stdin.write(json.dumps([gold, answer]).encode() + b"\n")
                child.stdin.flush()
                reply = self._reply(child)
            except BrokenPipeError:
                reply = ""
            if not reply:
                self._close()
            return {"1": True, "0": False}.get(reply) if not reply.startswith("error") else False

    def close(self) -> None:
        """End the child process, if one is running."""
        with self._lock:
            self._close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        code = f"import sys; sys.path[:] = {sys.path!r}; from s1ray.grading.child import main; main()"
        # -P: the working folder must not shadow the standard library. A session of its own: a Ctrl-C at the terminal
        # ends the parent, and with its end of the pipe the child.
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        if self._reply(child) != "ready":
            child.kill()
            _, error = child.communicate()
            lines = error.decode(errors="replace").strip().splitlines() or [f"exit status {child.returncode}"]
            raise GradingError(f"algebra does not start: {lines[-1]}; reinstall s1ray with its dependencies")
        self._child = child
        return child

    def _reply(self, child: subprocess.Popen[bytes]) -> str:
        """A line of the child; empty: it ended, or said nothing for minutes."""
        assert child.stdout is not None
        data, until = b"", time.monotonic() + self._wall_seconds
        while not data.endswith(b"\n"):
            ready, _, _ = select.select([child.stdout], [], [], max(0.0, until - time.monotonic()))
            part = os.read(child.stdout.fileno(), 4096) if ready else b""
            if not part:
                return ""
            data += part
        return data.decode().strip()

    def _close(self) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, 9)
            self._child.communicate()
            self._child = None


_process: AlgebraProcess | None = None


def _shared() -> AlgebraProcess:
    """The one of this process; a forked process must not read its parent's pipe."""
    global _process
    if _process is None or _process.owner != os.getpid():
        _process = AlgebraProcess()
        atexit.register(_process.close)
    return _process
