"""Eval runs of 2,000 samples: the driver killed five times, servers that go wrong in every way, a replica that dies.

Whatever happens, every sample is there once, and at temperature 0 the bytes are those of an undisturbed run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
import yaml

from benchmarks.evaluation.server import FAULTS, counts, serving
from s1ray.schemas import Question, question_id, to_table, write_table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

QUESTIONS, ARMS = 500, (0, 8, 32, 64)
SAMPLES = QUESTIONS * len(ARMS)
KILLS = 5
CONCURRENCY = 32
TIMEOUT = 10.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a benchmark of sums."""
    folder = tmp_path_factory.mktemp("faults")
    texts = [f"What is {n} + {7 * n % 1000} ?" for n in range(QUESTIONS)]
    rows = [Question(id=question_id(t), question=t, answer=str(n + 7 * n % 1000)) for n, t in enumerate(texts)]
    write_table(to_table(rows, Question), folder / "sums.parquet")
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> bytes:
    """The results of a run that nothing happens to."""
    with serving(folder / "calm-server", latency_ms=5) as (url, _):
        assert _start(folder, "calm", url).wait() == 0
        assert counts(url)["answered"] >= SAMPLES + 1  # the trial
    return (folder / "calm" / "evaluations.parquet").read_bytes()


def test_a_driver_that_is_killed_five_times_has_every_sample_once(folder: Path, undisturbed: bytes) -> None:
    with serving(folder / "killed-server", latency_ms=5) as (url, _):
        starts = 0
        for kill in range(1, KILLS + 1):
            process, starts = _start(folder, "killed", url), starts + 1
            _until_answered(url, kill * SAMPLES // (KILLS + 1), process)
            process.kill()
            process.wait()
        assert _start(folder, "killed", url).wait() == 0
        answered = counts(url)["answered"]
    _check(folder / "killed")
    assert (folder / "killed" / "evaluations.parquet").read_bytes() == undisturbed
    again = answered - SAMPLES - (starts + 1)
    print(f"asked again after {KILLS} kills: {again}, with {CONCURRENCY} in flight")
    assert 0 <= again <= KILLS * CONCURRENCY


def test_servers_that_go_wrong_in_every_way_answer_all_and_the_time_lost_is_said(
    folder: Path, undisturbed: bytes
) -> None:
    with serving(folder / "faulty-server", latency_ms=5, faults=1) as (url, _):
        began = time.monotonic()
        assert _start(folder, "faulty", url).wait() == 0
        seconds, happened = time.monotonic() - began, counts(url)
    assert happened.keys() >= FAULTS.keys()
    assert (folder / "faulty" / "evaluations.parquet").read_bytes() == undisturbed
    (calls,) = json.loads((folder / "faulty" / "manifest.json").read_text())["figures"]["calls"].values()
    useless = {what: found["calls"] for what, found in calls["useless"].items()}
    print(f"{seconds:.1f} s; {happened}; {json.dumps(calls)}")
    names = {"429": "status 429", "500": "status 500", "error in 200": "status 200, but an error in the answer"}
    for name, what in names.items():
        assert useless.pop(what) == happened[name]
    # A busy machine may answer too late, too.
    late = useless.pop(f"no answer within {TIMEOUT:g} s")
    assert late >= happened["hang"]
    assert sum(useless.values()) == happened["dropped"]
    assert calls["calls"]["answered"] == SAMPLES
    assert calls["calls"]["sent"] == SAMPLES + late + sum(happened[name] for name in FAULTS if name != "hang")
    assert calls["seconds_lost"] >= TIMEOUT * happened["hang"]
    log = (folder / "faulty.log").read_text()
    assert f"{happened['500']} status 500" in log
    assert "s of the run, with 32 in flight" in log


def test_a_replica_that_dies_loses_no_sample(folder: Path, undisturbed: bytes) -> None:
    with ExitStack() as stack:
        (one, _), (two, process) = (
            stack.enter_context(serving(folder / f"replica-{number}", latency_ms=5)) for number in range(2)
        )
        run = _start(folder, "replicas", one, replicas=[two])
        _until_answered(two, SAMPLES // 5, run)
        alone = counts(one)["answered"]
        process.kill()
        assert run.wait() == 0
        assert alone > SAMPLES // 10, "both were asked"
        assert counts(one)["answered"] > SAMPLES // 2
    _check(folder / "replicas")
    assert (folder / "replicas" / "evaluations.parquet").read_bytes() == undisturbed


def _start(folder: Path, name: str, url: str, **endpoint: Any) -> subprocess.Popen[bytes]:
    """`s1ray eval` in a process of its own."""
    config = {
        "output": str(folder / name),
        "benchmark": str(folder / "sums.parquet"),
        "models": [{"label": "m", "name": "m"}],
        "sweep": {"max_tokens": list(ARMS)},
        "endpoint": {"base_url": url, "concurrency": CONCURRENCY, "timeout": TIMEOUT, "attempts": 8} | endpoint,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    line = [sys.executable, "-m", "s1ray.cli", "eval", "--config", str(folder / f"{name}.yaml")]
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(line, stdout=log, stderr=log, env=os.environ | {"PYTHONUNBUFFERED": "1"})


def _until_answered(url: str, count: int, run: subprocess.Popen[bytes]) -> None:
    """Wait until a server has answered so many requests."""
    with httpx.Client() as client:
        while counts(url, client).get("answered", 0) < count:
            assert run.poll() is None, "it ended by itself"
            time.sleep(0.02)


def _check(run: Path) -> None:
    rows = pq.read_table(run / "evaluations.parquet", columns=["arm", "id", "error"])
    found = Counter(zip(rows["arm"].to_pylist(), rows["id"].to_pylist(), strict=True))
    assert len(found) == SAMPLES
    assert set(found.values()) == {1}
    assert rows["error"].null_count == SAMPLES
