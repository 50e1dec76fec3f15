"""`s1ray traces` with a scripted teacher in Ray's actors, killed and started again."""

from __future__ import annotations

import json
import signal
import subprocess
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

from s1ray.schemas import Trace, read_table
from tests.support.trace_runs import command, environment, write_questions

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

COUNT = 200
TEACHER = """
    import os, time, uuid
    from pathlib import Path
    from s1ray.teachers.base import Placement, Response, Teacher


    class Slow(Teacher):
        '''Takes its time; notes what it is asked; fails at the first try of every tenth ask.'''

        notes: str
        seconds: float
        bad: int = 10

        incidental = frozenset({"seconds", "notes", "bad"})

        def placement(self):
            return Placement(actors=2, options={"num_cpus": 0.5})

        def start(self, seed, folder):
            return Running(self)


    class Running:
        def __init__(self, config):
            self.config = config
            self.notes = Path(config.notes) / uuid.uuid4().hex
            self.tries = {}

        def respond(self, asks, calls):
            for ask in asks:
                with self.notes.open("a") as file:
                    file.write(ask.id + "\\n")
                time.sleep(self.config.seconds)
                self.tries[ask.id] = self.tries.get(ask.id, 0) + 1
                if self.tries[ask.id] == 1 and int(ask.question.answer) % self.config.bad == 0:
                    raise KeyError("no luck")
                yield ask, Response("two and two " * 2000, f"Final Answer: {ask.question.answer}")

        def close(self):
            pass
"""


def asked(notes: Path) -> Counter[str]:
    return Counter(line for file in notes.iterdir() for line in file.read_text().splitlines())


def test_a_killed_run_of_actors_goes_on_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "slow_teacher.py").write_text(textwrap.dedent(TEACHER))
    (notes := tmp_path / "notes").mkdir()
    write_questions(tmp_path / "questions.parquet", {f"{n}?": str(n) for n in range(COUNT)})
    config = {
        "output": str(tmp_path / "run"),
        "questions": str(tmp_path / "questions.parquet"),
        "tokenizer": "miniature-base",
        "teacher": {"kind": "slow_teacher:Slow", "notes": str(notes), "seconds": 0.1},
        "shard_rows": 64,
    }
    line = command(config, tmp_path)
    first = subprocess.Popen(line, env=environment(tmp_path), stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while sum(asked(notes).values()) < 30:
        assert first.poll() is None, first.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    faster = [*line, "--set", "teacher.seconds=0.005"]
    second = subprocess.run(faster, env=environment(tmp_path), capture_output=True, text=True, timeout=240, check=False)
    assert second.returncode == 0, second.stderr
    assert "are there already" in second.stderr
    traces = read_table(tmp_path / "run" / "traces.parquet", Trace)
    assert len(traces) == COUNT
    assert set(traces.column("verdict").to_pylist()) == {"correct"}
    events = [
        json.loads(line)
        for file in sorted((tmp_path / "run" / "responses").glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    answers = Counter(event["id"] for event in events if event["event"] == "answered")
    assert set(answers.values()) == {1}, "nothing that was answered is asked again"
    assert len(answers) == COUNT
    bill = json.loads((tmp_path / "run" / "manifest.json").read_text())["figures"]["bill"]
    assert bill["calls"]["answered"] == bill["answers_without_a_count"] == COUNT
