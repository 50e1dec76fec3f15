"""Measure the runner of the eval stage on this machine; a server of sums answers after a fixed time.

    python -m benchmarks.evaluation overhead                       # against a bare asyncio loop, five rounds
    python -m benchmarks.evaluation memory --samples 100000        # of the driver, while samples come in

Each writes a JSON file next to this module, or into the given folder.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import httpx
import psutil
import typer
from rich.console import Console

from benchmarks.evaluation.server import counts, serving
from s1ray.storage import write_json

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
console = Console()
HERE = Path(__file__).parent
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")]
KINDS = ("bare", "runner", "stage")
MIB = 2**20


def machine() -> dict[str, object]:
    """The machine, and how busy it is."""
    memory = round(psutil.virtual_memory().total / 2**30)
    return {"cores": os.cpu_count(), "processor": platform.machine(), "GiB": memory, "load": os.getloadavg()[0]}


@app.command()
def overhead(
    requests: Annotated[int, typer.Option(min=1)] = 1000,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 32,
    latency_ms: Annotated[float, typer.Option(help="Of every answer.")] = 200,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    output: OutputOption = HERE,
) -> None:
    """Compare the runner, and the whole stage, with a bare loop of the same requests; the order changes each round."""
    before, seconds = machine(), dict[str, list[float]]((kind, []) for kind in KINDS)
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "s", latency_ms=latency_ms) as (url, _):
        for number in range(rounds):
            for kind in KINDS if number % 2 == 0 else reversed(KINDS):
                place = f"{folder}/{number}-{kind}"
                line = [sys.executable, "-m", "benchmarks.evaluation.overhead", kind, url, str(requests)]
                done = subprocess.run([*line, str(concurrency), place], check=True, stdout=subprocess.PIPE, text=True)
                seconds[kind].append(round(float(done.stdout.splitlines()[-1]), 3))
            console.print({kind: found[-1] for kind, found in seconds.items()})
    ratios = {kind: [a / b for a, b in zip(seconds[kind], seconds["bare"], strict=True)] for kind in KINDS[1:]}
    result = {
        "machine": before,
        "requests": requests,
        "concurrency": concurrency,
        "latency_ms": latency_ms,
        "seconds": seconds,
        "ratio": {
            kind: {"median": round(statistics.median(r), 3), "low": round(min(r), 3), "high": round(max(r), 3)}
            for kind, r in ratios.items()
        },
    }
    write_json(output / "overhead.json", result)
    console.print(result)


@app.command()
def memory(
    samples: Annotated[int, typer.Option(min=1)] = 100_000,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 64,
    every: Annotated[int, typer.Option(min=1, help="Samples between two looks.")] = 2000,
    output: OutputOption = HERE,
) -> None:
    """Follow the driver's resident memory."""
    looks, at_end = list[tuple[int, float]](), 0.0
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory())
        url, _ = stack.enter_context(serving(Path(name) / "s", latency_ms=0))
        before, folder, began = machine(), Path(name), time.monotonic()
        line = [sys.executable, "-m", "benchmarks.evaluation.memory", url, str(samples), str(concurrency), name]
        run = subprocess.Popen(line)
        driver = psutil.Process(run.pid)
        client = stack.enter_context(httpx.Client())
        while run.poll() is None:
            answered = counts(url, client).get("answered", 0)
            rss = driver.memory_info().rss / MIB if driver.is_running() else 0.0
            if answered >= len(looks) * every and answered < samples:
                looks.append((answered, round(rss, 1)))
                console.print(looks[-1])
            if answered >= samples:
                at_end = max(at_end, rss)
            time.sleep(1)
        assert run.returncode == 0, "the run failed"
        seconds, size = time.monotonic() - began, (folder / "run" / "evaluations.parquet").stat().st_size
    warm = next(rss for answered, rss in looks if answered >= min(10_000, samples // 10))
    result = {
        "machine": before,
        "samples": samples,
        "concurrency": concurrency,
        "seconds": round(seconds, 1),
        "file_mib": round(size / MIB, 1),
        "mib_after_10000": warm,
        "mib_at_the_last_sample": looks[-1][1],
        "mib_most_while_results_are_written": round(at_end, 1),
        "looks": looks,
    }
    write_json(output / "memory.json", result)
    console.print({key: value for key, value in result.items() if key != "looks"})


if __name__ == "__main__":
    app()
