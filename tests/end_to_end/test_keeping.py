"""`s1ray traces` with every option of keeping at once: rounds, majority answers, a judge, one trace a question."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from s1ray.errors import InputError
from s1ray.manifests import RunError
from s1ray.schemas import Question, Trace, question_id, read_table, to_table, write_table
from s1ray.traces.blocks import in_workers

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

EACH = 8
MODULE = """
    import json, time
    from s1ray.grading import Grade, grade
    from s1ray.teachers.base import Placement, Response, Teacher


    def careful(gold, text, *, kind=None):
        '''The rules, but for texts that say that they cannot be decided.'''
        return Grade("undecided", text, "careful") if "hard to say" in text else grade(gold, text, kind=kind)


    class Scripted(Teacher):
        seconds: float
        actors: int = 1
        incidental = frozenset({"seconds", "actors"})

        def placement(self):
            return Placement(actors=self.actors, options={"num_cpus": 0.25})

        def start(self, seed, folder):
            return self

        def respond(self, asks, calls):
            for ask in asks:
                time.sleep(self.seconds)
                yield ask, self.one(ask)

        def close(self):
            pass


    class Scholar(Scripted):
        '''Its question says what it does.'''

        def one(self, ask):
            kind, number = ask.question.question.split()[:2]
            right = {"right": True, "late": ask.sample == 3, "never": False}.get(kind)
            text = {
                "alike": f"Final Answer: {number}",
                "apart": f"Final Answer: {ask.sample}",
                "letter": "I would go for the third one.",
                "hard": f"hard to say: {number}",
            }.get(kind) or f"Final Answer: {number if right else -7}"
            return Response("so " * (20 - ask.sample), text)


    class Judge(Scripted):
        '''Is asked for the stated answer without the reference, then to compare.'''

        def one(self, ask):
            text = ask.question.question
            if "## Attempt" in text:
                assert "SECRET" not in text, "the reference is shown first"
                stated = "C" if "the third one" in text else "hard to say: something"
                return Response("", f"Final Answer: {stated}")
            assert "SECRET" in text
            return Response("", "They are.\\nYes")
"""
ANSWERS = {
    "right": "{n}",
    "late": "{n}",
    "never": "{n}",
    "alike": None,
    "apart": None,
    "letter": "C",
    "hard": "SECRET {n}",
}
"""Kind of question -> its reference answer."""


def slowest_first(rows: pa.Table) -> pa.Table:
    """A block of one row, whose number says how long it takes."""
    time.sleep(rows.column("n")[0].as_py() / 10)
    return rows


def refused(rows: pa.Table) -> pa.Table:
    """Whoever calls this can mend it."""
    raise InputError("no tokenizer is here")


def test_blocks_come_back_in_order_and_errors_as_one_sentence(ray_session: None) -> None:
    blocks = [pa.table({"n": [n]}) for n in range(9, -1, -1)]
    assert [table.column("n")[0].as_py() for table in in_workers(slowest_first, blocks)] == [*range(9, -1, -1)]
    with pytest.raises(RunError, match=r"^traces: no tokenizer is here; the answers are kept: mend it and run again$"):
        list(in_workers(refused, blocks))


def prepare(tmp_path: Path) -> list[str]:
    """A run's files; its command but for the output."""
    (tmp_path / "scholars.py").write_text(textwrap.dedent(MODULE))
    rows = []
    for kind, answer in ANSWERS.items():
        for n in range(EACH):
            text, gold = f"{kind} {n} ?", None if answer is None else answer.format(n=n)
            rows.append(Question(id=question_id(text), question=text, answer=gold, domain=kind))
    write_table(to_table(rows, Question), tmp_path / "questions.parquet")
    config = {
        "output": "given",
        "questions": str(tmp_path / "questions.parquet"),
        "tokenizer": "miniature-base",
        "teacher": {"kind": "scholars:Scholar", "seconds": 0.002},
        "judge": {"kind": "scholars:Judge", "seconds": 0.002},
        "grader": "scholars:careful",
        "samples": 2,
        "max_samples": 5,
        "majority_answers": True,
        "per_question": "best",
        "shard_rows": 5,
    }
    (tmp_path / "traces.yaml").write_text(yaml.safe_dump(config))
    s1ray = [sys.executable, "-c", "from s1ray.cli import app; app()"]
    return [*s1ray, "traces", "--config", str(tmp_path / "traces.yaml")]


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]


def answered(folder: Path) -> Counter[str]:
    return Counter(event["id"] for event in events(folder) if event["event"] == "answered")


def test_every_option_at_once_with_a_kill_in_between(tmp_path: Path) -> None:
    command = prepare(tmp_path)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}

    def run(folder: str, *settings: str) -> Path:
        output = tmp_path / folder
        given = [part for setting in (f"output={output}", *settings) for part in ("--set", setting)]
        done = subprocess.run([*command, *given], env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr
        return output

    slow = ["--set", f"output={tmp_path / 'killed'}", "--set", "judge.seconds=0.3"]
    first = subprocess.Popen([*command, *slow], env=environment, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 200
    while len(answered(tmp_path / "killed" / "judgements")) < 5:
        assert first.poll() is None, first.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    resumed = run("killed")
    undisturbed = run("undisturbed", "teacher.actors=2", "shard_rows=64")
    for name in ("traces.parquet", "dropped.parquet"):
        assert (resumed / name).read_bytes() == (undisturbed / name).read_bytes()
    for folder in ("responses", "judgements"):
        assert answered(resumed / folder) == answered(undisturbed / folder), "nothing is asked twice"
    check_rows(undisturbed)
    check_manifest(undisturbed)
    check_manifest(resumed)


def check_rows(folder: Path) -> None:
    dropped = pq.read_table(folder / "dropped.parquet").to_pylist()
    kept = {(row["domain"], row["question"]): row for row in read_table(folder / "traces.parquet", Trace).to_pylist()}
    assert len(kept) == EACH * len(ANSWERS)
    assert {row["reason"] for row in dropped} == {"not the best"}
    asked = Counter(row["domain"] for row in [*kept.values(), *dropped])
    more = {"late": 4, "never": 5}
    assert asked == {kind: EACH * more.get(kind, 2) for kind in ANSWERS}
    expected = {
        "right": (1, "correct", "exact", "reference"),
        "late": (3, "correct", "exact", "reference"),
        "never": (4, "incorrect", None, "reference"),
        "alike": (1, "correct", "exact, by majority answer", "majority 2/2"),
        "apart": (1, None, None, None),
        "letter": (1, "correct", "judge:scholars:Judge, choice", "reference"),
        "hard": (1, "correct", "judge:scholars:Judge, compared", "reference"),
    }
    for (domain, question), row in kept.items():
        sample, verdict, graded_by, source = expected[domain]
        assert (row["sample"], row["verdict"], row["answer_source"]) == (sample, verdict, source)
        assert graded_by is None or row["graded_by"] == graded_by
        if domain == "alike":
            assert row["answer"] == question.split()[1]


def check_manifest(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    figures, judged = manifest["figures"], 2 * EACH
    asked = EACH * (2 * 5 + 4 + 5)
    assert manifest["rows"] == {"in": EACH * len(ANSWERS), "asked": asked, "out": EACH * len(ANSWERS)}
    assert figures["asked_again"] == {"questions": 2 * EACH, "correct_in_the_end": EACH}
    assert figures["majority_answers"] == {"found": EACH, "none": EACH}
    assert figures["judge"] == {"attempts": 2 * judged, "decided": 2 * judged}
    assert figures["bill"]["calls"]["answered"] == asked
    assert figures["judge_bill"]["calls"]["answered"] == 2 * judged + judged
    assert (figures["graded"], figures["correct_share"]) == (5 * EACH, 0.8)
