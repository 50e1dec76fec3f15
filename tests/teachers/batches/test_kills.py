"""A run that is killed at any step and started again asks nothing twice, loses nothing, and has the server's bill."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s1ray.teachers.ledger import Ledger
from tests.support.batch_server import BatchServer, batch_server
from tests.support.killed_batches import Job, asks, to_line

Start = Callable[[Job], str]
FAILS = "0?"
"""The question whose first answer is of no use."""


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    command = [sys.executable, "-m", "tests.support.killed_batches"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    stdin, stdout = child.stdin, child.stdout

    def run(job: Job) -> str:
        stdin.write(to_line(job))
        stdin.flush()
        return stdout.readline().strip()

    yield run
    stdin.close()
    assert child.wait(timeout=30) == 0


def scripted(server: BatchServer) -> BatchServer:
    server.looks = 1
    server.result = lambda question, times: "unusable" if (question, times) == (FAILS, 1) else "4"
    return server


def check(server: BatchServer, folder: Path, count: int) -> None:
    wanted = [ask.question.question for ask in asks(count)]
    assert server.asked == Counter(wanted) + Counter([FAILS])
    ledger = Ledger(folder)
    ledger.read()
    assert set(ledger.answers) == {ask.id for ask in asks(count)}
    lines = [json.loads(line) for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]
    answers = Counter(line["id"] for line in lines if line["event"] == "answered")
    assert set(answers.values()) == {1}
    tally = ledger.tally(closed=True)
    assert (tally.sent, tally.answered, tally.failed, tally.lost) == (count + 1, count, 1, 0)
    assert (tally.prompt_tokens, tally.completion_tokens) == (server.prompt_tokens, server.completion_tokens)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_kill_at_any_step_costs_nothing(kind: str, start: Start, tmp_path: Path) -> None:
    step = 0
    while True:
        step += 1
        with batch_server() as server:
            job = Job(kind, scripted(server).url, str(tmp_path / str(step)), asks=2, requests=2, kill=step)
            ended = start(job)
            if ended == "killed":
                job.kill = 0
                ended = start(job)
                assert ended == "0", f"step {step}"
            else:
                assert ended == "0", f"step {step}"
                break
            check(server, tmp_path / str(step), 2)
    assert step > 30, "the steps of a whole run"


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_many_kills_of_a_run_of_several_batches_cost_nothing(kind: str, start: Start, tmp_path: Path) -> None:
    numbers = random.Random(kind)
    for round_ in range(4):
        with batch_server() as server:
            job = Job(kind, scripted(server).url, str(tmp_path / str(round_)), asks=7, requests=3)
            for _ in range(5):
                job.kill = numbers.randint(1, 60)
                assert start(job) in ("killed", "0")
            job.kill = 0
            assert start(job) == "0"
            check(server, tmp_path / str(round_), 7)
