"""How often graders of mathematical answers are right, on public labelled sets.

python -m benchmarks.grading                                   # all arms on all sets
python -m benchmarks.grading --arms ours --sets "hard cases"   # some of them
python -m benchmarks.grading --wrong FILE                      # also lists the rows that an arm gets wrong
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.grading.accuracy import Score, measure, wrong_rows
from benchmarks.grading.arms import ARMS
from benchmarks.grading.sets import SETS
from s1ray.storage import write_json, write_text

HERE = Path(__file__).parent
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


@app.command()
def main(
    arms: Annotated[str | None, typer.Option(help=f"Of {', '.join(ARMS)}; comma between them.")] = None,
    sets: Annotated[str | None, typer.Option(help=f"Of {', '.join(SETS)}; comma between them.")] = None,
    graders: Annotated[Path, typer.Option(help="Folder of the other graders' virtual environments.")] = Path("graders"),
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for accuracy.json.")] = None,
    wrong: Annotated[Path | None, typer.Option(help="Write the rows that ours gets wrong here (Markdown).")] = None,
) -> None:
    """Measure, print and write."""
    scores = []
    for name in _chosen(sets, list(SETS), "--sets"):
        for arm in _chosen(arms, list(ARMS), "--arms"):
            scores.append(measure(name, ARMS[arm], graders))
    Console(width=160).print(show(scores))
    if wrong is not None:
        write_text(wrong, wrong_rows(scores))
    if output is not None:
        write_json(output / "accuracy.json", [score.figures() for score in scores])


if __name__ == "__main__":
    app()
