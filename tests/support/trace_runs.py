"""What tests of whole runs of a stage share: questions, the command, and processes that are killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from s1ray.schemas import Question, question_id, to_table, write_table

AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
RUN = """
from s1ray.cli import app
from s1ray.cluster import own_cluster
with own_cluster(2):
    app()
"""


def write_questions(path: Path, answers: Mapping[str, str]) -> None:
    """Question -> its answer, as a table."""
    rows = [
        Question(id=question_id(text), question=text, answer=answer, domain="d") for text, answer in answers.items()
    ]
    write_table(to_table(rows, Question), path)


def command(config: Mapping[str, Any], folder: Path, stage: str = "traces") -> list[str]:
    """The line that runs a stage's config, which is written to a folder, on a cluster of its own."""
    path = folder / f"{stage}.yaml"
    path.write_text(yaml.safe_dump(dict(config)))
    return [sys.executable, "-c", RUN, stage, "--config", str(path)]


def environment(folder: Path) -> dict[str, str]:
    """Of a run that finds modules in `folder`, too."""
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


class Processes:
    """A run's process and all that come from it, also after it is gone."""

    def __init__(self, run: subprocess.Popen[str]) -> None:
        self._run = psutil.Process(run.pid)
        self._seen: dict[int, psutil.Process] = {}

    def look(self) -> list[psutil.Process]:
        """Those that are there, without the run's own."""
        with suppress(psutil.NoSuchProcess):
            self._seen |= {child.pid: child for child in self._run.children(recursive=True)}
        return [process for process in self._seen.values() if _is_alive(process)]

    def named(self, words: str) -> list[psutil.Process]:
        """Those whose command line has these words."""
        return [process for process in self.look() if words in _line(process)]

    def left(self, seconds: float, *, agents: bool) -> list[str]:
        """Those that go on so long after the run has ended.

        Args:
            seconds: that they have.
            agents: Ray's own of a node, which notice within some minutes that it is gone, too.
        """
        until = time.monotonic() + seconds
        while True:
            lines = [_line(process) for process in self.look()]
            lines = [line for line in lines if agents or line not in AGENTS]
            if not lines or time.monotonic() > until:
                return lines
            time.sleep(0.1)


def wait_until_gone(processes: Sequence[psutil.Process], seconds: float) -> None:
    """Wait until the last of some processes has ended."""
    until = time.monotonic() + seconds
    while any(map(_is_alive, processes)):
        assert time.monotonic() < until, "processes do not end"
        time.sleep(0.02)


def _is_alive(process: psutil.Process) -> bool:
    try:
        # One that nobody has waited for stays as a zombie.
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _line(process: psutil.Process) -> str:
    try:
        # A process that gives itself a name leaves the rest of its line blank.
        return " ".join(process.cmdline()).strip() or process.name()
    except psutil.NoSuchProcess:
        return ""
