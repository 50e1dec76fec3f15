"""How fast fine-tuning is, and how much memory its loss needs.

    make bench-training                                # everything, about five minutes on two cores
    python -m benchmarks.training --quick --output DIR # fewer rounds and steps, about two minutes

Writes results.json and results.png. All arms take the same optimizer steps on the same rows, which their first loss
verifies; they take turns in one process, and throughput is compared within a round.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue
from rich.console import Console

from benchmarks.budget_forcing.statistics import rotated
from benchmarks.training import cross_entropy, report
from benchmarks.training.report import Speed
from benchmarks.training.workload import GLOBAL_BATCH, SCALE, ModelSize, draw_lengths, make_rows, write_model
from s1ray.errors import S1rayError
from s1ray.storage import write_json

HERE = Path(__file__).parent
ROWS = 20 * GLOBAL_BATCH
LOSS_VOCABULARY = 32768
LOSS_TOKENS = (512, 1024, 2048, 4096)


class LossMismatch(S1rayError):
    """An arm does not train on the same rows as the others, so its timing would mean nothing."""


def measure_speed(console: Console, size: ModelSize, rounds: int, steps: int) -> Speed:
    """Time the arms in turns.

    Raises:
        LossMismatch: their first losses, of the same weights on the same rows, differ.
    """
    import torch

    from benchmarks.training.arms import make_arms, step_rows
    from benchmarks.training.libraries import make_library_arms

    torch.set_num_threads(1)
    lengths = draw_lengths(ROWS)
    tokens, masks = make_rows(lengths, size.vocabulary)
    with tempfile.TemporaryDirectory() as folder:
        write_model(size, Path(folder) / "model")
        workload = Path(folder) / "model", tokens, masks, steps
        arms = make_arms(*workload) | make_library_arms(*workload)
        console.print("warming up")
        first = {name: arm.first() for name, arm in arms.items()}
        expected = next(iter(first.values()))
        if wrong := {name: loss for name, loss in first.items() if abs(loss - expected) > 1e-3 * expected}:
            raise LossMismatch(f"first losses that are not {expected:.4f}: {wrong}")
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        for turn in range(rounds):
            for name in rotated(list(arms), turn):
                seconds[name].append(arms[name].timed())
            console.print(f"round {turn + 1} of {rounds}")
    timed = [index for batch in step_rows(ROWS, steps)[1:] for index in batch]
    return Speed(sum(lengths[index] for index in timed), seconds)


def main(
    quick: Annotated[bool, typer.Option(help="Fewer rounds and steps.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for results.json and results.png.")] = HERE,
) -> None:
    """Measure, print and write."""
    if not output.is_dir():
        raise typer.BadParameter(f"there is no folder {str(output)!r}", param_hint="--output")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    # Room for the tables also where the output is not a terminal.
    console = Console() if sys.stdout.isatty() else Console(width=110)
    size, rounds, steps = ModelSize(), 3 if quick else 5, 1 if quick else 2
    console.print("memory of the loss")
    peaks = [cross_entropy.measure(tokens, LOSS_VOCABULARY) for tokens in LOSS_TOKENS[:: 3 if quick else 1]]
    speed = measure_speed(console, size, rounds, steps)
    settings: dict[str, JsonValue] = {
        "quick": quick,
        "rounds": rounds,
        "steps_a_round": steps,
        "rows_a_step": GLOBAL_BATCH,
        "lengths": f"s1K's divided by {SCALE}",
        "model": size.describe(),
        "precision": "fp32",
    }
    report.print_tables(console, speed, peaks)
    write_json(output / "results.json", report.results(speed, peaks, settings))
    report.write_plot(output / "results.png", speed, peaks)


if __name__ == "__main__":
    typer.run(main)
