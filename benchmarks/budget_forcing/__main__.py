"""What budget forcing costs, measured on a scripted model.

    make bench-forcing                                        # everything, about a quarter of an hour on two cores
    python -m benchmarks.budget_forcing --quick --output DIR  # the goals only, about three minutes

Writes results.json and results.png. All arms of a workload give the same token ids (plain decode: as many), which is
checked in each round; they take turns in one engine, and throughput is compared within a round.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.budget_forcing import controller, report
from benchmarks.budget_forcing.arms import ARMS, PLAIN, arms_for
from benchmarks.budget_forcing.engine import Engine, EngineWork, work_between
from benchmarks.budget_forcing.report import Measured
from benchmarks.budget_forcing.scripted_model import ScriptedModel, write_scripted_model
from benchmarks.budget_forcing.statistics import rotated
from benchmarks.budget_forcing.workload import PROMPT_TOKENS, ROOM, Request, Workload, make_requests

HERE = Path(__file__).parent
CHAIN, ANSWER, LAYERS = 48, 16, 6

GOAL_WORKLOADS = (
    Workload("base"),
    Workload("unequal lengths", lengths="unequal"),
)
FURTHER_WORKLOADS = (
    Workload("maximum", waits=0, lengths="endless", maximum=5 * CHAIN),
    Workload("0 waits", waits=0),
    Workload("1 wait", waits=1),
    Workload("2 waits", waits=2),
    Workload("8 waits", waits=8),
    Workload("1 at once", concurrency=1),
    Workload("16 at once", concurrency=16),
    Workload("unequal, 16 at once", lengths="unequal", concurrency=16),
)
"""One factor at a time around the base point."""


class WrongIds(RuntimeError):
    """An arm did not generate what budget forcing must give; its timing would mean nothing."""


async def measure(
    engine: Engine, model: ScriptedModel, loads: Sequence[tuple[Workload, list[Request], int]]
) -> list[Measured]:
    """Run each workload for its number of rounds; the first one once before that, to warm up.

    Each batch of a forced arm has a batch of plain decode right before and after it: what else runs on the machine
    changes from second to second.
    """
    measured = []
    for number, (workload, requests, rounds) in enumerate(loads):
        forced = [arm for arm in arms_for(workload) if arm != PLAIN]
        plain: list[float] = []
        seconds: dict[str, list[float]] = {arm: [] for arm in forced}
        beside: dict[str, list[float]] = {arm: [] for arm in forced}
        shares: dict[str, list[float]] = {arm: [] for arm in forced}
        work: dict[str, EngineWork] = {}
        for turn in range(-1 if number == 0 else 0, rounds):
            before, _, work[PLAIN] = await run(engine, model, workload, requests, PLAIN)
            plain.append(before)
            for arm in rotated(forced, turn):
                taken, share, work[arm] = await run(engine, model, workload, requests, arm)
                after, _, _ = await run(engine, model, workload, requests, PLAIN)
                plain.append(after)
                if turn >= 0:
                    seconds[arm].append(taken)
                    beside[arm].append((before + after) / 2)
                    shares[arm].append(share)
                before = after
        tokens = sum(len(request.expected) for request in requests)
        measured.append(Measured(workload, tokens, plain, seconds, beside, shares, work))
    return measured


async def run(
    engine: Engine, model: ScriptedModel, workload: Workload, requests: list[Request], arm: str
) -> tuple[float, float, EngineWork]:
    """Seconds of one batch, the part of them that the engine spent in our processor, and its work."""
    await engine.forget()
    counted, controlled = await engine.counters(), await engine.controller_seconds()
    begin = time.perf_counter()
    ids = await ARMS[arm](engine, requests, [model.eos_token_id])
    taken = time.perf_counter() - begin
    controlled = await engine.controller_seconds() - controlled
    work = work_between(counted, await engine.counters())
    check_ids(arm, workload, requests, ids)
    return taken, controlled / taken, work


def check_ids(arm: str, workload: Workload, requests: Sequence[Request], ids: Sequence[list[int]]) -> None:
    """Every arm gives the expected ids, plain decode as many.

    Raises:
        WrongIds: it does not.
    """
    for number, (request, given) in enumerate(zip(requests, ids, strict=True)):
        same = len(given) == len(request.expected) if arm == PLAIN else given == request.expected
        if not same:
            pairs = enumerate(zip(given, request.expected, strict=False))
            first = next((i for i, (a, b) in pairs if a != b), min(len(given), len(request.expected)))
            raise WrongIds(
                f"workload {workload.name!r}, arm {arm!r}, request {number}: {len(given)} ids where "
                f"{len(request.expected)} are due; the first other one is at {first}"
            )


def main(
    quick: Annotated[bool, typer.Option(help="Only what the goals need, in few rounds.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for results.json and results.png.")] = HERE,
) -> None:
    """Measure, print and write."""
    # Not a terminal: room for the table all the same.
    console = Console() if sys.stdout.isatty() else Console(width=130)
    if not output.is_dir():
        raise typer.BadParameter(f"there is no folder {str(output)!r}", param_hint="--output")
    # Core and worker in one process, on one thread: as two processes they spin while they wait for each other, and on
    # two cores every reading is then a reading of who else was running.
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1"}
    goal_rounds, rounds = (4, 0) if quick else (7, 2)
    loads = [(workload, goal_rounds) for workload in GOAL_WORKLOADS]
    loads += [(workload, rounds) for workload in FURTHER_WORKLOADS if rounds]
    with tempfile.TemporaryDirectory() as folder:
        model = write_scripted_model(folder, chain=CHAIN, answer=ANSWER, layers=LAYERS)
        prepared = [(workload, make_requests(model, workload), count) for workload, count in loads]
        console.print("engine: starting")
        engine = Engine(model, max_num_seqs=16, context=PROMPT_TOKENS + ROOM)
        try:
            measured = asyncio.run(measure(engine, model, prepared))
        finally:
            engine.close()
    console.print("controller: measuring")
    histories = (controller.HISTORIES[0], controller.HISTORIES[-1]) if quick else controller.HISTORIES
    batches = controller.BATCHES[:2] if quick else controller.BATCHES
    costs = controller.measure_all(seconds=0.3, histories=histories, batches=batches)
    settings = {"quick": quick, "chain": CHAIN, "answer": ANSWER, "layers": LAYERS, "temperature": 0.0}
    report.print_tables(console, measured, costs)
    report.write_json(output / "results.json", report.results(measured, costs, settings))
    report.write_plot(output / "results.png", measured, costs)


if __name__ == "__main__":
    typer.run(main)
