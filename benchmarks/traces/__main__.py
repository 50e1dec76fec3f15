"""Measure what the traces stage's way to a local vLLM engine costs beside one `LLM.generate` over the same prompts.

    make bench-traces                                       # the packaged miniature, three rounds
    python -m benchmarks.traces --model FOLDER --rounds 5   # further models: a folder or a Hugging Face id; repeatable
    python -m benchmarks.traces --markdown                  # only print what results.json says

Every arm runs in a process of its own with an engine of its own. They take turns, in an order that changes from round
to round; while one generates, the others wait. Rounds are added to results.json next to this module, or in the folder
given with --output.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.budget_forcing.statistics import rotated
from benchmarks.traces.arms import ARMS
from benchmarks.traces.processes import started
from benchmarks.traces.report import Run, markdown, read_runs, write_runs
from benchmarks.traces.workload import Workload, endless_miniature

HERE = Path(__file__).parent


def workloads(models: list[str], rounds: int, folder: Path) -> Iterator[Workload]:
    """What is generated: with the miniature, much outside the engine for every token; with each model, as it comes."""
    yield Workload("miniature, its short answers", "miniature-base", questions=600, max_tokens=64, rounds=rounds)
    endless = endless_miniature(folder / "miniature")
    yield Workload("miniature, 128 tokens each", endless, questions=96, max_tokens=128, rounds=rounds)
    for model in models:
        name = Path(model).name
        yield Workload(name, model, questions=32, max_tokens=64, max_num_seqs=16, rounds=rounds)


def measure(workload: Workload, first: int) -> Iterator[list[Run]]:
    """Start all arms, then let them take turns; gives each round when it is over.

    Args:
        workload: what to generate.
        first: number of the first round, for the results.
    """
    with started(list(ARMS), workload) as running:
        for number in range(workload.rounds):
            turns = []
            for arm in rotated(list(ARMS), number):
                load = round(os.getloadavg()[0], 1)
                timing, idle = running.turn(arm, number)
                turns.append(Run(workload.name, first + number, arm, timing, load, idle))
            yield turns


def about() -> dict[str, object]:
    """What the numbers depend on; nothing that identifies the machine."""
    import vllm

    versions = {"ray": version("ray"), "torch": version("torch"), "vllm": vllm.__version__}
    return {"cores": os.cpu_count(), "architecture": platform.machine(), "versions": versions}


def main(
    model: Annotated[list[str] | None, typer.Option(help="A further model: folder or Hugging Face id.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each arm.")] = 3,
    only: Annotated[str | None, typer.Option(help="Only workloads whose name begins like this.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of results.json.")] = HERE,
    markdown_table: Annotated[bool, typer.Option("--markdown", help="Print the results file and stop.")] = False,
) -> None:
    """Measure, print and write."""
    path = output / "results.json"
    runs = read_runs(path)
    if markdown_table:
        typer.echo(markdown(runs))
        return
    with tempfile.TemporaryDirectory() as folder:
        for workload in workloads(model or [], rounds, Path(folder)):
            if only is not None and not workload.name.startswith(only):
                continue
            first = 1 + max((run.round for run in runs if run.workload == workload.name), default=0)
            for turns in measure(workload, first):
                for run in turns:
                    typer.echo(run)
                runs += turns
                write_runs(path, runs, about())
    typer.echo(markdown(runs))


if __name__ == "__main__":
    typer.run(main)
