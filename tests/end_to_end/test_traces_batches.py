"""`s1ray traces` through a provider's batch API on Ray, killed while it waits and started again."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from s1ray.schemas import Trace, read_table
from tests.support.batch_server import batch_server
from tests.support.trace_runs import Processes, command, environment, wait_until_gone, write_questions

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

COUNT = 40


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_run_that_is_killed_while_it_waits_takes_the_answers_it_has_paid_for(kind: str, tmp_path: Path) -> None:
    questions = {f"What is {n} + 0?": str(n) for n in range(COUNT)}
    write_questions(tmp_path / "questions.parquet", questions)
    config = {
        "output": str(tmp_path / "run"),
        "questions": str(tmp_path / "questions.parquet"),
        "tokenizer": "miniature-base",
        "teacher": {
            "kind": kind,
            "model": "m",
            "prices": {"prompt": 2, "completion": 10},
            "batch": {"requests": 25, "poll": 0.2},
            **({"thinking": {"max_tokens": 2048}} if kind == "anthropic" else {}),
        },
    }
    with batch_server() as server:
        config["teacher"]["base_url"] = server.url  # type: ignore[index]
        server.looks = 10**6
        first = "What is 3 + 0?"
        server.result = lambda text, times: "error" if (text, times) == (first, 1) else f"So it is {questions[text]}."
        line = command(config, tmp_path)
        with (said := tmp_path / "said.txt").open("w") as stderr:
            killed = subprocess.Popen(line, env=environment(tmp_path), stderr=stderr, text=True)
        processes = Processes(killed)
        until = time.monotonic() + 120
        while said.read_text().count(f"was submitted to {server.url}") < 2:
            assert killed.poll() is None, said.read_text()
            assert time.monotonic() < until
            processes.look()
            time.sleep(0.1)
        actors = processes.named("ray::MapWorker")
        killed.kill()
        killed.wait()
        wait_until_gone(actors, 60)
        server.looks = 1
        for batch in server.batches.values():
            batch.looks = 1
        again = subprocess.run(
            line, env=environment(tmp_path), capture_output=True, text=True, timeout=240, check=False
        )
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("of an earlier start") == 2
    assert "gave 25 answers and 0 failures" in again.stderr or "gave 24 answers and 1 failures" in again.stderr
    assert server.asked == Counter([*questions, first])
    assert [len(batch.requests) for batch in server.batches.values()] == [25, 15, 1]
    traces = read_table(tmp_path / "run" / "traces.parquet", Trace)
    assert len(traces) == COUNT
    assert set(traces.column("verdict").to_pylist()) == {"correct"}
    bill = json.loads((tmp_path / "run" / "manifest.json").read_text())["figures"]["bill"]
    assert bill["calls"] == {"sent": COUNT + 1, "answered": COUNT, "retried": 0, "failed": 1, "lost": 0}
    assert bill["tokens"]["prompt"] == server.prompt_tokens
    assert bill["tokens"]["completion"] == server.completion_tokens
    assert bill["money"]["share_of_list_price"] == 0.5
    paid = (2 * server.prompt_tokens + 10 * server.completion_tokens) / 2 / 1e6
    assert bill["money"]["counted"] == pytest.approx(paid)
