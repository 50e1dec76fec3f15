"""Graders as processes: each reads cases from a file, and is watched from here, since a grader may hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.grading.sets import Case

SCRIPTS = Path(__file__).parent / "graders"
ROOT = Path(__file__).parents[2]
STARTUP = 600.0
"""Seconds that a grader's process may take to its first case; it imports its libraries then."""
PATIENCE = 60.0
"""Seconds without a verdict after which a grader's process is ended: the case counts as undecided, the rest goes on."""

READY = ".ready"
"""Ending of the file that a grader's process makes when it comes to its first case."""


@dataclass(frozen=True)
class Verdict:
    """What a grader said of a case."""

    verdict: str
    """"correct", "incorrect" or "undecided" (it raised, hung or declined)."""
    detail: str
    seconds: float


@dataclass(frozen=True)
class Arm:
    """A grader, and the Python that has it."""

    name: str
    script: str
    """In `graders`, with arguments."""
    environment: str | None = None
    """The folder below --graders with its virtual environment. None: s1ray's own."""

    def python(self, graders: Path) -> Path | None:
        """The interpreter, or None where the environment is not there."""
        if self.environment is None:
            return Path(sys.executable)
        python = graders / self.environment / "bin" / "python"
        return python if python.exists() else None


ARMS = {
    arm.name: arm
    for arm in (
        Arm("ours", "ours.py"),
        Arm("math_verify", "math_verify_alone.py"),
        Arm("lighteval", "lighteval_metric.py", "lighteval"),
        Arm("trl", "trl_reward.py", "trl"),
        Arm("verl_math", "verl_score.py math", "verl"),
        Arm("verl_numina", "verl_score.py numina", "verl"),
    )
}


def judge(arm: Arm, cases: Sequence[Case], graders: Path) -> list[Verdict] | None:
    """An arm's verdicts, in order; None where its environment is not there.

    Raises:
        RuntimeError: its process ends before the first verdict.
    """
    python = arm.python(graders)
    if python is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "cases.jsonl", Path(folder) / "verdicts.jsonl"
        source.write_text("".join(json.dumps({"gold": c.gold, "text": c.text}) + "\n" for c in cases))
        target.touch()
        while (done := _count(target)) < len(cases):
            script, *arguments = arm.script.split()
            command = [str(python), str(SCRIPTS / script), *arguments, str(source), str(target), str(done)]
            _attempt(command, target)
            if (now := _count(target)) < len(cases):
                if now == 0:
                    raise RuntimeError(f"{arm.name}: its process gave no verdict")
                # The case at which it stopped, in place of a line that the end of the process left half written.
                whole = target.read_bytes().rpartition(b"\n")[0] + b"\n"
                stopped = json.dumps({"verdict": "undecided", "detail": "stopped", "seconds": PATIENCE})
                target.write_bytes(whole + stopped.encode() + b"\n")
        return [Verdict(**json.loads(line)) for line in target.read_text().splitlines()]


def _attempt(command: Sequence[str], target: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ready = target.with_suffix(READY)
        ready.unlink(missing_ok=True)
        seen, since = -1, time.monotonic()
        while process.poll() is None:
            time.sleep(0.1)
            size = target.stat().st_size + ready.exists()
            if size != seen:
                seen, since = size, time.monotonic()
            elif time.monotonic() - since > (PATIENCE if ready.exists() else STARTUP):
                return
    finally:
        process.kill()
        process.wait()


def _count(target: Path) -> int:
    return target.read_bytes().count(b"\n")
