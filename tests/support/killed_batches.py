"""Runs that ask in batches and are killed at a given step: `python -m tests.support.killed_batches`.

Reads one JSON object a line (fields of `Job`), runs each in a fork of its own, and writes how it ended. A step is
whatever leaves the process: an HTTP call, a line of the ledger, a file that is replaced or deleted; a kill comes before
or after it.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from s1ray.schemas import Question, question_id
from s1ray.teachers.asking import ask_all
from s1ray.teachers.base import Ask
from s1ray.teachers.batches import running as running_batches
from s1ray.teachers.endpoints import AnthropicTeacher, OpenAITeacher
from s1ray.teachers.ledger import TEACHER


@dataclass
class Job:
    """One start of a run."""

    kind: str
    url: str
    folder: str
    asks: int
    requests: int
    kill: int = 0
    """2n - 1: before the n-th step. 2n: after it. 0: not at all."""


def asks(count: int) -> list[Ask]:
    """Questions "0?", "1?", ..."""
    texts = [f"{number}?" for number in range(count)]
    return [Ask(Question(id=question_id(text), question=text), 0) for text in texts]


def main() -> None:
    """Do the jobs of standard input."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                work(Job(**json.loads(line)))
                os._exit(0)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status), flush=True)


def work(job: Job) -> None:
    """Ask, and die at the step."""
    running_batches.LISTED_S = 0.05
    # A kill of the process loses nothing that was written; reading certificates takes most of a start's time.
    os.fsync = lambda fd: None
    ssl.create_default_context = lambda *arguments, **named: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    steps = 0

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == job.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments, **named)
            steps += 1
            if steps == job.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return step

    httpx.Client.send = deadly(httpx.Client.send)  # type: ignore[method-assign]
    for name in ("write", "replace", "unlink"):
        setattr(os, name, deadly(getattr(os, name)))
    batch = {"poll": 0.005, "requests": job.requests}
    common = {"kind": job.kind, "base_url": job.url, "model": "m", "batch": batch}
    if job.kind == "anthropic":
        config: AnthropicTeacher | OpenAITeacher = AnthropicTeacher.model_validate(
            common | {"thinking": {"max_tokens": 2048}}
        )
    else:
        config = OpenAITeacher.model_validate(common)
    folder = Path(job.folder)
    ask_all(config.start(0, folder / TEACHER), config, asks(job.asks), folder)


def to_line(job: Job) -> str:
    """For standard input."""
    return json.dumps(asdict(job)) + "\n"


if __name__ == "__main__":
    main()
