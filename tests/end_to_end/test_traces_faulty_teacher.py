"""`s1ray traces` asks a teacher that goes wrong in every way, and is killed five times: nothing is lost, nothing is
paid for twice but what was in flight, and the bill is the server's own.

S1RAY_SEED=7 runs it with other faults and other moments.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s1ray.generation.base import request_seed
from s1ray.schemas import Trace, question_id, read_table
from s1ray.teachers.bill import Prices
from tests.support.faulty_teacher import (
    FORMS,
    PAIRS_REFUSED,
    UNBILLED,
    UNCOUNTED,
    USABLE,
    WEIGHTS,
    Answered,
    Billed,
    Journal,
    faulty_teacher,
)
from tests.support.trace_runs import Processes, command, environment, wait_until_gone, write_questions

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.timeout(900)]

QUESTIONS, SAMPLES = 1000, 4
CONCURRENCY = 32
MAX_TOKENS = 512
KEY = "sk-faulty-0123456789abcdef"
KILLS = {"driver": 2, "actor": 2, "node": 1}
"""What is killed, and how often."""
LAG_S = 1.0
"""That a call may have waited for the server, where the machine is busy."""
SLACK_S = 3.0
"""That an answer which was sent may have waited in a client that was killed, where the machine is busy."""
PRICES = {"prompt": 2.0, "cached_prompt": 0.5, "completion": 8.0}
DROPPED = {"refusal": "refused", "content filter": "refused", "length": "truncated", "no finish reason": "incomplete"}
"""Kind of the answer that is kept -> reason."""
SEED = int(os.environ.get("S1RAY_SEED", "0"))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Journal, list[float]]:
    """The run's folder, the server's journal, and when something was killed."""
    folder = tmp_path_factory.mktemp("faulty")
    answers = {f"What is {n} + {n * 7 % 1000} ?": str(n + n * 7 % 1000) for n in range(QUESTIONS)}
    write_questions(folder / "questions.parquet", answers)
    (key := folder / "key").write_text(KEY)
    key.chmod(0o600)
    with faulty_teacher(folder / "server", SEED, KEY) as address:
        config = {
            "output": str(folder / "run"),
            "questions": str(folder / "questions.parquet"),
            "tokenizer": "miniature-base",
            "samples": SAMPLES,
            "truncated": "drop",
            "teacher": {
                **{"kind": "openai", "base_url": address, "model": "faulty", "api_key": f"file:{key}"},
                **{"max_tokens": MAX_TOKENS, "thinking_format": "deepseek_r1", "prices": PRICES},
                **{"concurrency": CONCURRENCY, "timeout": 20, "attempts": 4},
            },
        }
        kills = _run_and_kill(command(config, folder), folder)
    return folder, Journal(folder / "server"), kills


def _run_and_kill(line: list[str], folder: Path) -> list[float]:
    """Run to the end; while answers flow, kill the driver, the actor or the node. When asking ended by that."""
    draw = random.Random(SEED)
    victims = [name for name, times in KILLS.items() for _ in range(times)]
    draw.shuffle(victims)
    # After so many calls; far enough from each other for a new start to have asked something.
    each = 0.9 * QUESTIONS * SAMPLES / len(victims)
    moments = [(place + draw.uniform(0.3, 0.9)) * each for place in range(len(victims))]
    kills: list[float] = []
    every: list[Processes] = []
    answered, starts, until = Answered(folder / "server"), 0, time.monotonic() + 800
    while True:
        starts += 1
        assert starts <= len(victims) + 1, "a run ended by itself"
        with (folder / f"log-{starts}.txt").open("w") as log:
            run = subprocess.Popen(line, env=environment(folder), stderr=log, stdout=log, text=True)
        processes = Processes(run)
        while run.poll() is None:
            assert time.monotonic() < until
            processes.look()
            time.sleep(0.1)
            if len(kills) < len(victims) and answered.count() >= moments[len(kills)]:
                kills.append(_kill(victims[len(kills)], run, processes))
        assert not processes.left(30, agents=False), "processes go on after the run"
        every.append(processes)
        if run.returncode == 0:
            break
    assert len(kills) == len(victims)
    assert not any(processes.left(180, agents=True) for processes in every), "Ray's processes go on after the run"
    print(f"killed: {', '.join(victims)}; starts: {starts}")
    return kills


def _kill(victim: str, run: subprocess.Popen[str], processes: Processes) -> float:
    """Kill; gives when the actor, which asks, has ended."""
    actors = processes.named("ray::MapWorker")
    if victim == "driver":
        run.kill()
    elif victim == "node":
        for process in processes.named("raylet/raylet"):
            process.kill()
    else:
        for process in actors:
            process.kill()
    wait_until_gone(actors, 60)
    return time.time()


def test_every_pair_is_there_exactly_once(ended: tuple[Path, Journal, list[float]]) -> None:
    folder, journal, _ = ended
    rows = _rows(folder)
    pairs = Counter((row["question_id"], row["sample"]) for row in rows)
    assert len(pairs) == QUESTIONS * SAMPLES
    assert set(pairs.values()) == {1}
    sent = defaultdict(list)
    for call in journal.calls:
        sent[call.question, call.seed].append(call)
    for row in rows:
        calls = sent[row["question"], request_seed(0, row["id"])]
        answers = [call for call in calls if call.kind in USABLE]
        if row["reason"] == "request failed":
            assert not [call for call in answers if call.sent], row
            continue
        kept = re.search(r"\[(.*), (\d+)\]", row["thinking"] + row["attempt"])
        assert kept is not None, row
        call = calls[int(kept[2]) - 1]
        assert (call.kind, row["reason"]) == (kept[1], DROPPED.get(kept[1]))
        if row["completion_tokens"] is not None:
            assert call.usage is not None
            assert (row["prompt_tokens"], row["completion_tokens"]) == (call.usage["prompt"], call.usage["completion"])
        assert row["reason"] is not None or row["correct"]


def test_only_what_was_in_flight_at_a_kill_is_asked_again(ended: tuple[Path, Journal, list[float]]) -> None:
    folder, journal, kills = ended
    useful = defaultdict(list)
    for call in journal.calls:
        if call.sent and call.kind in USABLE:
            useful[call.question, call.seed].append(call)
    again = [calls for calls in useful.values() if len(calls) > 1]
    for calls in again:
        assert all(_in_flight(call, kills) for call in calls[:-1]), calls
    in_flight = [each for each in _open_calls(folder) if each]
    assert len(in_flight) <= len(kills)
    assert max(in_flight) <= CONCURRENCY
    assert len(again) <= sum(in_flight)
    print(f"asked again after an answer of use: {len(again)}; calls in flight at the kills: {in_flight}")


def test_the_bill_is_the_servers(ended: tuple[Path, Journal, list[float]]) -> None:
    folder, journal, kills = ended
    bill = json.loads((folder / "run" / "manifest.json").read_text())["figures"]["bill"]
    prices = Prices.model_validate(PRICES)
    # What the run counted, ask by ask, against what the server billed; of the rest there must be a reason.
    counted: dict[tuple[str, int], list[dict[str, int]]] = defaultdict(list)
    for event in _events(folder):
        if event.get("usage"):
            question, _, sample = event["id"].rpartition("-")
            names = ("prompt", "cached", "completion", "reasoning")
            counted[question, request_seed(0, f"{question}-{sample}")].append(
                {name: event["usage"][f"{name}_tokens"] for name in names}
            )
    unseen: list[Billed] = []
    for call in journal.calls:
        if call.usage is not None:
            known = counted[question_id(call.question), call.seed]
            known.remove(call.usage) if call.usage in known else unseen.append(call)
    assert not any(counted.values()), "the run counted what was not billed"
    for call in unseen:
        assert call.kind in UNCOUNTED or _in_flight(call, kills), call
    tokens, not_seen = (
        {kind: sum((call.usage or {}).get(kind, 0) for call in calls) for kind in bill["tokens"]}
        for calls in (journal.calls, unseen)
    )
    assert bill["tokens"] == {kind: tokens[kind] - not_seen[kind] for kind in tokens}
    # What was not seen is told of as lost or without a count, and fits under what the bill says of it at most.
    seen_without = sum(call.kind == "without a count" and not _in_flight(call, kills) for call in unseen)
    assert seen_without <= bill["answers_without_a_count"] <= len(unseen)
    assert len(unseen) <= bill["calls"]["lost"] + bill["answers_without_a_count"]
    money = bill["money"]
    assert money["counted"] == pytest.approx(_money(prices, tokens) - _money(prices, not_seen), abs=1e-5)
    assert _money(prices, not_seen) <= money["lost_at_most"] + money["without_a_count_at_most"]
    # A kill may catch calls that are told of and have not reached the server.
    assert 0 <= bill["calls"]["sent"] - len(journal.calls) <= len(kills) * CONCURRENCY
    print(f"calls: {len(journal.calls)}; by kind: {journal.kinds()}")
    print(f"bill: {json.dumps(bill)}; the server's tokens: {tokens}; of them not seen: {not_seen}")


def test_every_fault_happened(ended: tuple[Path, Journal, list[float]]) -> None:
    _, journal, _ = ended
    assert PAIRS_REFUSED
    assert journal.kinds().keys() >= {*WEIGHTS, *FORMS, "400"}
    assert all(call.usage is None for call in journal.calls if call.kind in UNBILLED)


def test_the_key_is_nowhere(ended: tuple[Path, Journal, list[float]]) -> None:
    folder, _, _ = ended
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "key"]
    assert len(files) > 10
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def _open_calls(folder: Path) -> list[int]:
    """Of each file of the ledger, the calls that have not ended."""
    found = []
    for events in _files(folder):
        calls = set()
        for event in events:
            key = event["id"], event.get("call")
            calls.add(key) if event["event"] == "sent" else calls.discard(key)
        found.append(len(calls))
    return found


def _in_flight(call: Billed, kills: list[float]) -> bool:
    return any(call.began - LAG_S <= kill <= call.ended + SLACK_S for kill in kills)


def _money(prices: Prices, tokens: dict[str, int]) -> float:
    return prices.money(tokens["prompt"], tokens["cached"], tokens["completion"])


def _rows(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    kept = read_table(folder / "run" / "traces.parquet", Trace).to_pylist()
    dropped: list[dict[str, Any]] = pq.read_table(folder / "run" / "dropped.parquet").to_pylist()
    return [row | {"reason": None} for row in kept] + dropped


def _events(folder: Path) -> Iterator[dict[str, Any]]:
    return (event for events in _files(folder) for event in events)


def _files(folder: Path) -> Iterator[list[dict[str, Any]]]:
    for file in sorted((folder / "run" / "responses").glob("*.jsonl")):
        lines = file.read_text().splitlines(keepends=True)
        yield [json.loads(line) for line in lines if line.endswith("\n")]
