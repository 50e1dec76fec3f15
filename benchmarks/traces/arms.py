"""The ways of generating that are compared, each in a process of its own, with an engine of its own.

    python -m benchmarks.traces.arms ARM WORKLOAD.json FOLDER

An arm starts its engine and then generates whenever the process that compares says that it is its turn, so that no two
of them work at once. The clock of a turn starts when the questions are handed over and stops when the last answer is
there: for `LLM.generate`, when it returns; for the traces stage, when the last answer is written to the ledger.
Starting Python, Ray and the engine is left out, in every arm.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.traces.workload import SEED, Workload
from s1ray.generation.base import OnCall
from s1ray.storage import Location, write_json
from s1ray.teachers.base import Ask, Response, RunningTeacher
from s1ray.teachers.language_models import VLLMTeacher

GENERATE = "LLM.generate"
TRACES = "s1ray traces"
POLL_S = 0.02


@dataclass(frozen=True)
class Timing:
    """What one turn of an arm took."""

    seconds: float
    cpu_seconds: float
    """Of all processes of the arm, Ray's among them."""
    responses: int
    tokens: int
    """Of the responses, as the engine counts them."""


@dataclass(frozen=True)
class Turns:
    """Files by which an arm is told when to generate, and tells how long it took."""

    folder: Path

    def give(self, number: int) -> None:
        """Let the arm have its turn of a round."""
        (self.folder / f"go-{number}").touch()

    def wait(self, number: int) -> None:
        """Say that the engine is ready, and wait for the turn."""
        (self.folder / f"ready-{number}").touch()
        while not (self.folder / f"go-{number}").exists():
            time.sleep(POLL_S)

    def is_ready(self, number: int) -> bool:
        """The arm waits for its turn."""
        return (self.folder / f"ready-{number}").exists()

    def report(self, number: int, timing: Timing) -> None:
        """The turn is over."""
        write_json(self._timing(number), asdict(timing))

    def timing(self, number: int) -> Timing | None:
        """What a turn took; None: it is not over."""
        path = self._timing(number)
        return Timing(**json.loads(path.read_text())) if path.exists() else None

    def _timing(self, number: int) -> Path:
        return self.folder / f"timing-{number}.json"


class Clock:
    """Time, and processor time of a process with all its descendants."""

    def __init__(self, root: int) -> None:
        """Start now."""
        self._root = psutil.Process(root)
        self._cpu = self._cpu_by_process()
        self._began = time.perf_counter()

    def stop(self) -> tuple[float, float]:
        """Seconds and processor seconds since the start."""
        seconds, before = time.perf_counter() - self._began, self._cpu
        return seconds, sum(cpu - before.get(process, 0.0) for process, cpu in self._cpu_by_process().items())

    def _cpu_by_process(self) -> dict[int, float]:
        found = {}
        for process in (self._root, *self._root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                found[process.pid] = times.user + times.system
        return found


def generate(workload: Workload, turns: Turns) -> None:
    """One `LLM.generate` over all prompts, in a plain process, as vLLM's documentation shows it."""
    from vllm import LLM, SamplingParams

    llm = LLM(**workload.plain_kwargs())
    tokenizer, teacher = llm.get_tokenizer(), workload.teacher()
    for number in range(workload.rounds):
        requests = [teacher.request(ask, SEED) for ask in workload.asks(number)]
        turns.wait(number)
        clock = Clock(os.getpid())
        prompts = [
            tokenizer.apply_chat_template(request.messages, add_generation_prompt=True, tokenize=False)
            for request in requests
        ]
        params = [
            SamplingParams(
                temperature=request.temperature,
                top_p=request.top_p,
                max_tokens=request.max_tokens,
                seed=request.seed,
            )
            for request in requests
        ]
        outputs = llm.generate(prompts, params, use_tqdm=False)
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        turns.report(number, Timing(*clock.stop(), len(outputs), tokens))


class TimedTeacher(VLLMTeacher):
    """The teacher, which waits for its turns and has a clock around each."""

    turns: str
    """Their folder."""
    root: int
    """Process that the arm's other processes descend from."""

    def start(self, seed: int, folder: Location) -> RunningTeacher:
        """Start the engine."""
        return _Timed(super().start(seed, folder), self.root, Turns(Path(self.turns)))


class _Timed:
    def __init__(self, running: RunningTeacher, root: int, turns: Turns) -> None:
        self._running, self._root, self._turns = running, root, turns

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        for number in sorted({ask.sample for ask in asks}):
            part = [ask for ask in asks if ask.sample == number]
            self._turns.wait(number)
            clock, tokens = Clock(self._root), 0
            for ask, response in self._running.respond(part, calls):
                assert response.usage is not None
                tokens += response.usage.completion_tokens
                yield ask, response
            # Whoever asks has written the last one before coming back here.
            self._turns.report(number, Timing(*clock.stop(), len(part), tokens))

    def close(self) -> None:
        self._running.close()


def traces(workload: Workload, turns: Turns) -> None:
    """The traces stage's own way: Ray Data's actor asks the teacher, and each answer goes into the ledger."""
    from s1ray.teachers.asks import Asks
    from s1ray.teachers.collect import collect
    from s1ray.teachers.ledger import Ledger

    timed = {"turns": str(turns.folder), "root": os.getpid()}
    teacher = TimedTeacher.model_validate(workload.teacher().model_dump() | timed)
    numbers = range(workload.rounds)
    asks = Asks(_table(workload), [(row, number) for number in numbers for row in range(workload.questions)])
    with _ray():
        collect(asks, teacher, Ledger(turns.folder / "responses"), seed=SEED, max_failed=0)


def _table(workload: Workload) -> Any:
    import pyarrow as pa

    columns = ("id", "question", "answer", "domain", "metadata")
    questions = [ask.question for ask in workload.asks(0)]
    return pa.Table.from_pylist([{name: getattr(question, name) for name in columns} for question in questions])


@contextlib.contextmanager
def _ray() -> Iterator[None]:
    import ray

    # By default Ray's workers have a lower priority than the other arms' processes.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # Ray's spelling
    ray.init(address="local", include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        yield
    finally:
        ray.shutdown()


ARMS: Mapping[str, Callable[[Workload, Turns], None]] = {GENERATE: generate, TRACES: traces}


if __name__ == "__main__":
    arm, given, folder = sys.argv[1:]
    ARMS[arm](Workload.read(Path(given)), Turns(Path(folder)))
