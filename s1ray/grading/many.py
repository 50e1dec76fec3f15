r"""Grades many answers on several cores: worker processes, each with the child process that does its algebra.

    for verdict in grade_many([Answer("1/2", "so \\boxed{0.5}"), ...], workers=4):
        print(verdict.verdict)

Workers are started as commands of their own and fed over pipes, so this needs no `if __name__ == "__main__"`, works in
notebooks and threads, and a worker that dies (out of memory, say) costs one answer's verdict, not the run.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from s1ray.errors import InputError
from s1ray.grading.comparer import GradingError
from s1ray.grading.grade import RULES, Grade, Grader, find_grader

CHUNK = 32
"""Answers that a worker takes at a time: one slow comparison must not hold up many others."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer to grade."""

    gold: str | None
    """The reference answer. None or blank: there is none."""
    text: str
    """The response's answer text, without its thinking."""
    kind: str | None = None
    """One of `s1ray.grading.grade.KINDS`; None: what the reference looks like."""


def grade_many(
    answers: Iterable[Answer | tuple[str, str]], workers: int = 1, *, grader: str = RULES
) -> Iterator[Grade]:
    """Grade answers, in order; those that come are read a little ahead, never all at once.

    Args:
        answers: what to grade; a tuple is gold and text.
        workers: processes. 1: this process grades.
        grader: a registered grader's name, or "module:attribute".

    Raises:
        InputError: there is no such grader, or an answer cannot be graded (an unknown kind, a reference without
            content); names the answer by its number, from 0.
        GradingError: a worker does not start, or the grader fails in one.
    """
    for number, found in enumerate(attempt_many(answers, workers, grader=grader)):
        if isinstance(found, str):
            raise InputError(f"answer {number}: {found}")
        yield found


def attempt_many(
    answers: Iterable[Answer | tuple[str, str]], workers: int = 1, *, grader: str = RULES
) -> Iterator[Grade | str]:
    """As `grade_many`, but what cannot be graded gives the reason in its place.

    Raises:
        InputError: there is no such grader.
        GradingError: a worker does not start, or the grader fails in one.
    """
    with Pool(workers, grader) as pool:
        yield from pool.map(answers)


def attempt(judge: Grader, answer: Answer) -> Grade | str:
    """Grade one answer, or say why it cannot be graded."""
    if answer.gold is None or not answer.gold.strip():
        return Grade("no gold", None, "no gold")
    try:
        return judge(answer.gold, answer.text, kind=answer.kind)
    except InputError as error:
        return str(error)


class Pool:
    """Threads, each with a worker process of its own; they have all ended when the block is left.

    With one worker this process grades.

    Raises:
        InputError: there is no such grader, or no worker.
    """

    def __init__(self, workers: int, grader: str = RULES) -> None:
        if workers < 1:
            raise InputError(f"workers: {workers}: give 1 or more")
        self._workers, self._grader = workers, grader
        self._judge = find_grader(grader)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="grading")
        self._own = threading.local()
        self._started: list[_Worker] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._end_workers()
        self._threads.shutdown(wait=True)
        # A thread may have started one meanwhile.
        self._end_workers()

    def _end_workers(self) -> None:
        for worker in self._started:
            worker.close()

    def map(self, answers: Iterable[Answer | tuple[str, str]]) -> Iterator[Grade | str]:
        """Results in order, a reason where an answer cannot be graded; at most four chunks a worker are on their way.

        Raises:
            GradingError: a worker does not start, or the grader fails in one.
        """
        source = (answer if isinstance(answer, Answer) else Answer(*answer) for answer in answers)
        if self._workers == 1:
            return (attempt(self._judge, answer) for answer in source)
        return self._map(source)

    def _map(self, answers: Iterator[Answer]) -> Iterator[Grade | str]:
        waiting: deque[Future[list[Grade | str]]] = deque()
        while True:
            while len(waiting) < 4 * self._workers and (chunk := list(islice(answers, CHUNK))):
                waiting.append(self._threads.submit(self._grade, chunk))
            if not waiting:
                return
            yield from waiting.popleft().result()

    def _grade(self, chunk: Sequence[Answer]) -> list[Grade | str]:
        worker: _Worker | None = getattr(self._own, "worker", None)
        if worker is None:
            worker = self._own.worker = _Worker(self._grader)
            self._started.append(worker)
        return worker.grade(chunk)


class _Worker:
    """One worker process; a new one takes its place when it dies."""

    def __init__(self, grader: str) -> None:
        self._grader = grader
        self._process: subprocess.Popen[str] | None = None
        self._closed = False

    def grade(self, chunk: Sequence[Answer]) -> list[Grade | str]:
        """Grade a chunk. Where the worker dies, one by one, so that only what killed it stays without a verdict."""
        found = self._ask(chunk)
        if found is not None:
            return found
        if len(chunk) == 1:
            return [Grade("undecided", None, "undecided (the grading process ended)")]
        return [result for answer in chunk for result in self.grade([answer])]

    def close(self) -> None:
        """End the process."""
        self._closed = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _ask(self, chunk: Sequence[Answer]) -> list[Grade | str] | None:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps([dataclasses.astuple(answer) for answer in chunk]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except (BrokenPipeError, ValueError):
            line = ""
        if line.endswith("\n"):
            reply = json.loads(line)
            if isinstance(reply, dict):
                raise GradingError(f"the grader {self._grader!r} failed: {reply['failed']}")
            return [found if isinstance(found, str) else Grade(*found) for found in reply]
        process.kill()
        process.communicate()
        self._process = None
        return None

    def _running(self) -> subprocess.Popen[str]:
        if self._closed:
            raise GradingError("grading was stopped")
        if self._process is None:
            command = [sys.executable, "-P", "-m", "s1ray.grading.worker", self._grader]
            pipe = subprocess.PIPE
            # A grader of one's own is found there where this process finds it.
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)}
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, encoding="utf-8", env=environment)
            self._process = process
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                process.kill()
                process.communicate()
                self._process = None
                raise GradingError("a grading process does not start; what it wrote to standard error says why")
        return self._process
