"""Whole `s1ray curate` runs in processes of their own, on a pool that needs every filter; and what they write."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from tests.support.trace_runs import Processes

ROOT = Path(__file__).parents[2]
PART_ROWS, PIECE_BYTES = 150, 60_000
"""Small, so that a small pool has dozens of parts and tasks."""
RUN = f"""
import sys
from s1ray.cli import app
from s1ray.cluster import own_cluster
from s1ray.curation import staging
from s1ray.reading import pieces
staging.PART_ROWS, staging.PIECE_BYTES, pieces.PIECE_BYTES = {PART_ROWS}, {PIECE_BYTES}, {PIECE_BYTES}
with own_cluster(int(sys.argv.pop(1))):
    app()
"""
COLUMNS = {name: name for name in ("question", "solution", "answer", "domain")}
WORKERS = ("ray::do", "ray::MapBatches", "ray::sort_part", "ray::write_contested", "ray::shared_rows")
"""Names that Ray gives to processes which work on the run's tasks."""
UNSTABLE = frozenset({"manifest.json", "report.html", ".lock"})
"""Have times, or the paths of the run."""


def write_pool(folder: Path, rows: int, seed: int) -> dict[str, Any]:
    """Write files of JSON lines (some of them bad), gz, CSV and Parquet with copies, near copies, leaks and conflicts.

    Returns:
        A config, without `output`.
    """
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    asked = [f"How many of the {number} apples of Ann, Ben and Cleo are green if {number // 2} are red?"
             for number in range(40, 60)]  # fmt: skip
    texts = [_question(rng) for _ in range(rows)]
    for place in range(0, rows, 23):
        texts[place] = rng.choice(
            [asked[place % len(asked)], texts[place - 7], texts[place - 9].replace(" ", "  "), texts[place - 11] + "?"]
        )
    for place in range(0, rows, 41):
        texts[place] = texts[place - 5].replace("how many", "please say how many")
    table = [
        {
            "question": text,
            "solution": " ".join(["step"] * rng.randrange(4, 60)),
            "answer": str(rng.randrange(3)),
            "domain": rng.choice(["algebra", "geometry", "counting"]),
        }
        for text in texts
    ]
    lines = [json.dumps(row) for row in table]
    for place in range(5, rows // 4, 97):
        lines[place] = lines[place][: len(lines[place]) // 2]
    quarter = rows // 4
    (folder / "a.jsonl").write_text("\n".join(lines[:quarter]) + "\n")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(lines[quarter : 2 * quarter]).encode(), mtime=0))
    pa_csv.write_csv(pa.Table.from_pylist(table[2 * quarter : 3 * quarter]), folder / "c.csv")
    pq.write_table(pa.Table.from_pylist(table[3 * quarter :]), folder / "d.parquet", row_group_size=PART_ROWS)
    benchmark = folder / "asked" / "benchmark.jsonl"
    benchmark.parent.mkdir()
    benchmark.write_text("".join(json.dumps({"question": text}) + "\n" for text in asked))
    return {
        "sources": [
            {"kind": "files", "path": str(folder / "*.jsonl*"), "columns": COLUMNS, "max_bad_share": 0.1},
            {"kind": "files", "path": str(folder / "[cd].*"), "columns": COLUMNS},
        ],
        "decontamination": {"benchmarks": [{"path": str(benchmark)}]},
        "deduplication": {"cross_source_ngrams": True},
        "selection": {"size": 100, "weights": {"algebra": 2.0, "geometry": 1.0}},
    }


def _question(rng: random.Random) -> str:
    people = rng.sample(["Ann", "Ben", "Cleo", "Dan", "Eve", "Fay", "Gus", "Hal"], 3)
    things = rng.sample(["marbles", "coins", "stamps", "cards", "shells", "pens", "books", "keys"], 2)
    number = [rng.randrange(2, 99) for _ in range(3)]
    return (
        f"{people[0]} has {number[0]} {things[0]}, {people[1]} has {number[1]} {things[1]} more, and gives "
        f"${number[2]}x^2$ of them to {people[2]}; how many are left in the end for both of them when "
        f"$x = {rng.randrange(9)}$?"
    )


class CurateRun:
    """A run of `s1ray curate` in a process of its own."""

    def __init__(self, config: dict[str, Any], output: Path, *, cpus: int) -> None:
        """Start it on a cluster of `cpus`; its config and what it says lie beside its folder."""
        self.output, self.log = output, output.with_suffix(".log")
        file = output.with_suffix(".json")
        file.write_text(json.dumps(config | {"output": str(output), "seed": 7}))
        command = [sys.executable, "-c", RUN, str(cpus), "curate", "--config", str(file)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        with self.log.open("ab") as said:
            self.process = subprocess.Popen(command, stdout=said, stderr=said, env=environment, cwd=ROOT, text=True)
        self.processes = Processes(self.process)

    def wait(self, seconds: float = 300) -> None:
        """Wait for its end, which is a good one.

        Raises:
            AssertionError: it failed.
        """
        status = self.process.wait(seconds)
        assert status == 0, self.log.read_text()[-4000:]

    def reaches(self, files: int, *, seconds: float = 300) -> bool:
        """Wait until so many files are in its folder; False: it ended before."""
        until = time.monotonic() + seconds
        while written(self.output) < files:
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < until, self.log.read_text()[-4000:]
            self.processes.look()
            time.sleep(0.01)
        return True

    def kill_worker(self, choose: Callable[[list[Any]], Any], *, seconds: float = 60) -> bool:
        """Kill a process that works on a task of the run; False: the run ended before there was one."""
        until = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < until, "no worker is at work"
            if at_work := [each for name in WORKERS for each in self.processes.named(name)]:
                choose(at_work).kill()
                return True
            time.sleep(0.01)
        return False


def written(folder: Path) -> int:
    """Whole files in a run's folder."""
    return sum(not name.startswith(".") for _, _, names in os.walk(folder) for name in names)


def results(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a complete run, or of an export, that config and input decide."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in UNSTABLE
    }
