"""`s1ray curate` is killed while a model on vLLM answers: no answer is lost or asked for again, and the result is that
of a run that was left alone; and another run takes its answers over."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s1ray.manifests import read_manifest
from s1ray.schemas import Question, read_table
from s1ray.teachers.events import event_of
from tests.support.trace_runs import Processes, command, environment, wait_until_gone

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.timeout(1800)]

ROWS = 560
MODEL = {
    "kind": "vllm",
    "engine": {
        "model": "miniature-base",
        "device": "cpu",
        "max_model_len": 256,
        "max_num_seqs": 4,
        "kv_cache_gib": 0.1,
    },
    "thinking": {"max_tokens": 0},
    "max_tokens": 48,
    "temperature": 0.0,
}


def config(output: Path, **difficulty: Any) -> dict[str, Any]:
    return {
        "output": str(output),
        "sources": [{"kind": "miniature", "size": ROWS}],
        "quality": {"missing_answer": True},
        "difficulty": {"kind": "model", "models": {"base": MODEL}} | difficulty,
        "selection": {"size": 50},
    }


def answered(run: Path) -> Counter[str]:
    """Ask -> answers in the ledger."""
    files = (run / "answers" / "base").glob("*.jsonl")
    lines = (line for file in files for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n"))
    return Counter(event["id"] for line in lines if (event := event_of(line))["event"] == "answered")


def run_once(settings: dict[str, Any], folder: Path, kill: Callable[[subprocess.Popen[str], Processes], bool]) -> int:
    """Run the stage; `kill` is asked again and again whether it has killed something.

    Returns:
        The exit status.
    """
    folder.mkdir(exist_ok=True)
    with (folder / "log.txt").open("a") as log:
        run = subprocess.Popen(
            command(settings, folder, "curate"), env=environment(folder), stderr=log, stdout=log, text=True
        )
    processes, done, until = Processes(run), False, time.monotonic() + 600
    while run.poll() is None:
        assert time.monotonic() < until
        processes.look()
        time.sleep(0.02)
        done = done or kill(run, processes)
    assert not processes.left(60, agents=False), "processes go on after the run"
    return run.returncode


def never(run: subprocess.Popen[str], processes: Processes) -> bool:
    return True


def test_killed_and_taken_over(tmp_path: Path) -> None:
    alone, killed, later = (tmp_path / name for name in ("alone", "killed", "later"))
    assert run_once(config(alone / "run"), alone, never) == 0

    def the_driver(run: subprocess.Popen[str], processes: Processes) -> bool:
        if sum(answered(killed / "run").values()) < 60:
            return False
        actors = processes.named("ray::MapWorker")
        run.kill()
        wait_until_gone(actors, 60)
        return True

    assert run_once(config(killed / "run"), killed, the_driver) != 0
    kept = answered(killed / "run")
    assert 60 <= len(kept) < 300
    assert run_once(config(killed / "run"), killed, never) == 0
    counts = answered(killed / "run")
    assert set(counts.values()) == {1}, "no answer was asked for again"
    assert kept.keys() < counts.keys() == answered(alone / "run").keys()
    for name in ("questions.parquet", "difficulty.parquet"):
        assert (killed / "run" / name).read_bytes() == (alone / "run" / name).read_bytes()

    # Other bounds, and the same answers.
    bounds = {"max_pass_rate": 1.0, "min_pass_rate": 0.5, "answers_from": str(alone / "run")}
    assert run_once(config(later / "run", **bounds), later, never) == 0
    manifest = read_manifest(later / "run")
    assert manifest is not None
    figures = manifest["figures"]["difficulty"]["base"]
    assert figures["taken_over"] == len(counts)
    assert figures["bill"]["calls"]["sent"] == 0
    questions = read_table(later / "run" / "questions.parquet", Question)
    assert set(questions.column("pass_rates").to_pylist()) == {'{"base": 1.0}'}
