"""Measure the runner of the eval stage on this machine; a server of sums answers after a fixed time.

    python -m benchmarks.evaluation overhead                       # against a bare asyncio loop, five rounds
    python -m benchmarks.evaluation memory --samples 100000 --in-process   # of the driver, while samples come in

Each writes a JSON file next to this module, or into the given folder.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console

from benchmarks.evaluation.memory import IN_PROCESS
from benchmarks.evaluation.server import serving
from s1ray.storage import write_json

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
console = Console()
HERE = Path(__file__).parent
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")]
KINDS = ("bare", "alike", "runner", "stage")
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
    """Compare the runner, and the whole stage, with a bare loop of the same requests; the order changes each round.

    Processor time holds on a busy machine, too; wall time does not.
    """
    before = machine()
    seconds, processor = ({kind: list[float]() for kind in KINDS} for _ in range(2))
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "s", latency_ms=latency_ms) as (url, _):
        for number in range(rounds):
            for kind in KINDS if number % 2 == 0 else reversed(KINDS):
                place = f"{folder}/{number}-{kind}"
                line = [sys.executable, "-m", "benchmarks.evaluation.overhead", kind, url, str(requests)]
                done = subprocess.run([*line, str(concurrency), place], check=True, stdout=subprocess.PIPE, text=True)
                wall, used = map(float, done.stdout.splitlines()[-1].split())
                seconds[kind].append(round(wall, 3))
                processor[kind].append(round(1000 * used / requests, 3))
            console.print({kind: (found[-1], processor[kind][-1]) for kind, found in seconds.items()})
    result = {
        "machine": before,
        "load_at_the_end": os.getloadavg()[0],
        "requests": requests,
        "concurrency": concurrency,
        "latency_ms": latency_ms,
        "seconds": seconds,
        "ratio": _ratios(seconds),
        "processor_ms_per_request": processor,
        "processor_ratio": _ratios(processor),
    }
    write_json(output / "overhead.json", result)
    console.print(result)


def _ratios(found: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Each kind's to the bare loop's of the same round."""
    ratios = {kind: [a / b for a, b in zip(found[kind], found["bare"], strict=True)] for kind in KINDS[1:]}
    return {
        kind: {"median": round(statistics.median(r), 3), "low": round(min(r), 3), "high": round(max(r), 3)}
        for kind, r in ratios.items()
    }


@app.command()
def memory(
    samples: Annotated[int, typer.Option(min=1)] = 100_000,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 64,
    every: Annotated[int, typer.Option(min=1, help="Samples between two looks.")] = 2000,
    within: Annotated[bool, typer.Option("--in-process", help="Without sockets: much less work.")] = False,
    output: OutputOption = HERE,
) -> None:
    """Follow the driver's resident memory."""
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory())
        url = IN_PROCESS if within else stack.enter_context(serving(Path(name) / "s", latency_ms=0))[0]
        before, folder = machine(), Path(name)
        line = [sys.executable, "-m", "benchmarks.evaluation.memory", url, str(samples), str(concurrency), str(every)]
        done = subprocess.run([*line, name], check=True, stdout=subprocess.PIPE, text=True)
        found, size = json.loads(done.stdout), (folder / "run" / "evaluations.parquet").stat().st_size
    looks = found["looks"]
    result = {
        "machine": before,
        "samples": samples,
        "concurrency": concurrency,
        "over_http": not within,
        "seconds": round(found["seconds"], 1),
        "file_mib": round(size / MIB, 1),
        "mib_after_10000": next(rss for answered, rss in looks if answered >= min(10_000, samples // 10)),
        "mib_at_the_last_sample": looks[-1][1],
        "mib_most_while_results_are_written": found["at_end"],
        "looks": looks,
    }
    write_json(output / "memory.json", result)
    console.print({key: value for key, value in result.items() if key != "looks"})


if __name__ == "__main__":
    app()
