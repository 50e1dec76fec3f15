"""The arms' processes: started one after another, told whose turn it is, ended."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.traces.arms import Clock, Timing, Turns
from benchmarks.traces.workload import Workload

ROOT = Path(__file__).parents[2]
PATIENCE_S = 600.0
"""Seconds that an arm may take to start, and for one turn."""
ENDING_S = 60.0
"""Seconds that an arm may take to end."""
POLL_S = 0.05


@dataclass
class _Arm:
    process: subprocess.Popen[bytes]
    turns: Turns

    def until(self, what: Callable[[], bool]) -> None:
        """Wait.

        Raises:
            RuntimeError: the arm has ended, or it takes too long; with the end of what it said.
        """
        until = time.monotonic() + PATIENCE_S
        while not what():
            if self.process.poll() is not None or time.monotonic() > until:
                said = (self.turns.folder / "log.txt").read_text(errors="replace")
                raise RuntimeError(f"{self.process.args!r} did not go on; it said: {said[-2000:]}")
            time.sleep(POLL_S)


@dataclass(frozen=True)
class Running:
    """Arms that wait for their turns."""

    arms: Mapping[str, _Arm]

    def turn(self, name: str, number: int) -> tuple[Timing, float]:
        """Let an arm generate.

        Returns:
            What it took, and the processor seconds that the other arms used in the meantime.
        """
        arm = self.arms[name]
        arm.until(lambda: arm.turns.is_ready(number))
        others = [Clock(other.process.pid) for other in self.arms.values() if other is not arm]
        arm.turns.give(number)
        arm.until(lambda: arm.turns.timing(number) is not None)
        timing = arm.turns.timing(number)
        assert timing is not None
        return timing, round(sum(clock.stop()[1] for clock in others), 2)


@contextlib.contextmanager
def started(names: Sequence[str], workload: Workload) -> Iterator[Running]:
    """Start the arms and wait until each is ready; end them after the block.

    Raises:
        RuntimeError: one did not start.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "VLLM_LOGGING_LEVEL": "ERROR"}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        given = Path(folder) / "workload.json"
        workload.write(given)
        arms = {}
        for place, name in enumerate(names):
            turns = Turns(Path(folder) / str(place))
            turns.folder.mkdir()
            said = stack.enter_context((turns.folder / "log.txt").open("wb"))
            command = [sys.executable, "-m", "benchmarks.traces.arms", name, str(given), str(turns.folder)]
            process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
            stack.callback(_end, process)
            arms[name] = _Arm(process, turns)
            arms[name].until(functools.partial(turns.is_ready, 0))
        yield Running(arms)
        for arm in arms.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                arm.process.wait(ENDING_S)  # after its last turn an arm ends by itself


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ENDING_S)
            return
        process.kill()
        process.wait()
