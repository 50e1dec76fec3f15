r"""How often graders of mathematical answers are right, on public labelled sets.

    python -m benchmarks.grading -o benchmarks/grading             # all arms on all sets, about ten minutes
    python -m benchmarks.grading --arms ours --sets "hard cases"   # some of them
    python -m benchmarks.grading --wrong FILE                      # also lists the rows that an arm gets wrong
    python -m benchmarks.grading speed                             # on two cores against math-verify; long texts
    python -m benchmarks.grading load --loops 8                    # the same verdicts on a busy machine?
    python -m benchmarks.grading hostile                           # 1,000 answers that were written to hang a grader

Each writes a JSON file next to this module, or into the folder given with --output; the first only where it is given.
The other graders are no dependencies of s1ray: each has a virtual environment of its own in the folder --graders, and
an arm whose environment is not there is reported as missing.

    python -m venv graders/trl && graders/trl/bin/pip install trl math-verify
    python -m venv graders/lighteval && graders/lighteval/bin/pip install lighteval
    python -m venv graders/verl && graders/verl/bin/pip install --no-deps verl
    graders/verl/bin/pip install numpy packaging pylatexenc requests sympy tensordict torch
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.grading.accuracy import Score, markdown, measure, merged, wrong_rows
from benchmarks.grading.arms import ARMS
from benchmarks.grading.hostile import grade_hostile
from benchmarks.grading.load import ROWS, compare_under_load
from benchmarks.grading.plot import plot_extraction
from benchmarks.grading.sets import SETS
from benchmarks.grading.speed import compare_speed, extraction_times
from s1ray import logs
from s1ray.storage import write_json, write_text

HERE = Path(__file__).parent
log = logging.getLogger("s1ray")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _chosen(given: str | None, known: list[str], option: str) -> list[str]:
    names = [name.strip() for name in given.split(",")] if given else known
    if unknown := [name for name in names if name not in known]:
        raise typer.BadParameter(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}", param_hint=option)
    return names


def show(scores: list[Score]) -> Table:
    """The table for the terminal."""
    table = Table("set", "grader", "cases", "right", "wrong", "false positives", "false negatives", "undecided", "s")
    for score in scores:
        if score.missing:
            table.add_row(score.set, score.arm, str(score.cases), score.missing)
            continue
        counts = (score.cases, score.right, score.wrong, score.false_positives, score.false_negatives, score.undecided)
        table.add_row(score.set, score.arm, *(f"{count:,}" for count in counts), f"{score.seconds:.1f}")
    return table


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    arms: Annotated[str | None, typer.Option(help=f"Of {', '.join(ARMS)}; comma between them.")] = None,
    sets: Annotated[str | None, typer.Option(help=f"Of {', '.join(SETS)}; comma between them.")] = None,
    graders: Annotated[Path, typer.Option(help="Folder of the other graders' virtual environments.")] = Path("graders"),
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of accuracy.json, to add to.")] = None,
    wrong: Annotated[Path | None, typer.Option(help="Write the rows that ours gets wrong here (Markdown).")] = None,
    markdown_table: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
) -> None:
    """Measure how often graders are right, print and write."""
    if context.invoked_subcommand is not None:
        return
    logs.configure()
    scores = []
    for name in _chosen(sets, list(SETS), "--sets"):
        for arm in _chosen(arms, list(ARMS), "--arms"):
            scores.append(measure(name, ARMS[arm], graders))
            log.info("%s: %s is done", name, arm)
    if markdown_table:
        typer.echo(markdown(scores))
    else:
        Console(width=160).print(show(scores))
    if wrong is not None:
        write_text(wrong, wrong_rows(scores))
    if output is not None:
        write_json(output / "accuracy.json", merged(output / "accuracy.json", scores))


@app.command()
def speed(
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 3,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for speed.json and extraction.png.")] = HERE,
) -> None:
    """Time grading on two cores against math-verify one by one, and reading answers off long texts."""
    extraction = extraction_times()
    figures = {"grading": compare_speed(rounds), "extraction": extraction}
    Console(width=160).print(figures)
    write_json(output / "speed.json", figures)
    plot_extraction(extraction, output / "extraction.png")


@app.command()
def load(
    loops: Annotated[int, typer.Option(min=1, help="Busy loops beside the grading.")] = 8,
    rows: Annotated[int, typer.Option(min=1, help="Rows to grade.")] = ROWS,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for load.json.")] = HERE,
) -> None:
    """Grade the same rows on an idle machine and under load."""
    figures = compare_under_load(loops, rows)
    Console(width=160).print(figures)
    write_json(output / "load.json", figures)


@app.command()
def hostile(
    answers: Annotated[int, typer.Option(min=1, help="Hostile answers to grade.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Of the answers that are cut, rotated, boxed and joined.")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for hostile.json.")] = HERE,
) -> None:
    """Grade answers that were written to hang or to swell a grader."""
    figures = grade_hostile(answers, seed)
    Console(width=160).print(figures)
    write_json(output / "hostile.json", figures)


if __name__ == "__main__":
    app()
