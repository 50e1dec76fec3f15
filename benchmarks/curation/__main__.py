r"""What decontamination finds, on public questions.

    python -m benchmarks.curation rewrites                 # about two minutes; writes rewrites.json next to this module
    python -m benchmarks.curation rewrites --hits FILE     # also 200 hits in a clean pool, with both texts, for reading

The questions are read from the folder `S1RAY_SHARED_DATA` (or ../shared/data); nothing of them is part of the project.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.curation.rewrites import BESIDE, TIERS, Recall, benchmark, pairs, precision, recall
from s1ray import logs
from s1ray.storage import write_json, write_text

HERE = Path(__file__).parent
READ = 200
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Measure the curation stage."""
    logs.configure()


def show(rows: list[Recall]) -> Table:
    """The table for the terminal."""
    table = Table("rewrite", "questions", "drop", "drop or review", *TIERS, *BESIDE)
    for row in rows:
        shares = (row.dropped, row.found, *(row.tiers[tier] for tier in (*TIERS, *BESIDE)))
        table.add_row(row.rewrite, str(row.questions), *(f"{100 * share:.1f}" for share in shares))
    return table


@app.command()
def rewrites(
    count: Annotated[int, typer.Option(min=1, help="Benchmark questions to rewrite.")] = 200,
    hits: Annotated[Path | None, typer.Option(help="Write hits of the clean pool here, for reading.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for rewrites.json.")] = HERE,
) -> None:
    """Rewrite benchmark questions in sixteen ways; count what each tier finds of them, and in a clean pool."""
    asked = benchmark()
    rows = recall(asked, count)
    figures, found = precision(asked)
    published = pairs()
    console = Console(width=200)
    console.print(show(rows), figures, published)
    if hits is not None:
        drawn = random.Random(0).sample(found, min(READ, len(found)))
        texts = [
            f"{hit.tier} {hit.score}\n  row:       {json.dumps(text, ensure_ascii=False)}\n"
            f"  benchmark: {json.dumps(hit.asked, ensure_ascii=False)}\n  matched:   {hit.found}\n"
            for text, hit in drawn
        ]
        write_text(hits, "\n".join(texts))
    write_json(
        output / "rewrites.json",
        {"recall": [row.figures() for row in rows], "clean pool": figures, "published pairs": published},
    )


if __name__ == "__main__":
    app()
