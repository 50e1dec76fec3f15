"""What curation takes on pools of many rows, beside s1's rules in one plain Python process.

Arms: `every` stage but those with models; `s1`, the same work as the plain process (no normal form, no near
duplicates, sources compared with each other); `plain`, with s1's inverted indexes; and `sets`, which is leaner.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.curation.pool import write_pool
from benchmarks.curation.processes import Usage, measured
from benchmarks.curation.rewrites import benchmark
from s1ray.storage import write_json, write_text

ROOT = Path(__file__).parents[2]
EVERY, S1, PLAIN, SETS = ARMS = ("every", "s1", "plain", "sets")
S1_RULES = {
    "deduplication": {"normalised": False, "jaccard": None, "cross_source_ngrams": True},
    "decontamination": {"recipe": "s1_code"},
}


@dataclasses.dataclass
class Result:
    """What an arm took on a pool."""

    rows: int
    arm: str
    usage: Usage
    left: int
    """Rows after all filters."""

    @property
    def cpu_s(self) -> float:
        """Of all its processes."""
        return sum(self.usage.cpu_s.values())


def measure(rows: int, arm: str, folder: Path) -> Result:
    """Curate a pool in an arm.

    Args:
        rows: of the pool.
        arm: one of `ARMS`.
        folder: for pools, which are made where they are not there, and runs, which are deleted.
    """
    pool, run = folder / f"pool-{rows}", folder / "run"
    files = write_pool(pool, rows)
    asked = _write_benchmark(folder / "benchmark.jsonl")
    shutil.rmtree(run, ignore_errors=True)
    log, environment = folder / "log.txt", os.environ | {"PYTHONPATH": str(ROOT)}
    if arm in (PLAIN, SETS):
        write_json(pool / "files.json", [str(file) for file in files])
        how = "index" if arm == PLAIN else "sets"
        command = [sys.executable, "-m", "benchmarks.curation.plain", how, str(pool), str(asked)]
        usage = measured(command, environment, log)
        return Result(rows, arm, usage, json.loads(log.read_text().splitlines()[-1])["left"])
    config = folder / "config.yaml"
    write_json(config, _config(files, asked, run, arm))
    usage = measured([sys.executable, "-m", "s1ray.cli", "curate", "--config", str(config)], environment, log)
    left = int(json.loads((run / "manifest.json").read_text())["rows"]["after domains"])
    shutil.rmtree(run)
    return Result(rows, arm, usage, left)


def _write_benchmark(file: Path) -> Path:
    write_text(file, "".join(json.dumps({"question": question}) + "\n" for _, question in benchmark()))
    return file


def _config(files: Sequence[Path], asked: Path, run: Path, arm: str) -> dict[str, Any]:
    columns = {field: field for field in ("question", "solution", "answer", "domain")}
    config: dict[str, Any] = {
        "output": str(run),
        "seed": 0,
        "sources": [{"kind": "files", "path": str(file), "name": file.stem, "columns": columns} for file in files],
        "decontamination": {},
        "selection": {"method": "s1", "size": 1000},
    } | (S1_RULES if arm == S1 else {})
    config["decontamination"] = config["decontamination"] | {"benchmarks": [{"path": str(asked), "name": "benchmark"}]}
    return config


def figures(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The results as JSON, each with its ratios to the plain process and to the next smaller pool."""
    known = {(result.rows, result.arm): result for result in results}
    lines = []
    for result in sorted(results, key=lambda each: (each.rows, ARMS.index(each.arm))):
        line = dataclasses.asdict(result)
        smaller = max((rows for rows, arm in known if arm == result.arm and rows < result.rows), default=None)
        for other in (PLAIN, SETS):
            if (result.rows, other) in known and result.arm in (EVERY, S1):
                line[f"against {other}"] = _ratios(result, known[result.rows, other])
        if smaller is not None:
            line[f"against {smaller:,} rows"] = _ratios(result, known[smaller, result.arm])
        lines.append(line)
    return lines


def _ratios(one: Result, other: Result) -> dict[str, float]:
    return {
        "wall": round(one.usage.wall_s / other.usage.wall_s, 2),
        "cpu": round(one.cpu_s / other.cpu_s, 2),
        "memory": round(one.usage.peak_mb["everything"] / other.usage.peak_mb["everything"], 2),
    }


def read_results(file: Path) -> list[Result]:
    """Results of earlier calls."""
    if not file.exists():
        return []
    lines = json.loads(file.read_text(encoding="utf-8"))
    return [Result(line["rows"], line["arm"], Usage(**line["usage"]), line["left"]) for line in lines]
