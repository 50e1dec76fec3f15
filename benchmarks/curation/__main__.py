r"""What decontamination finds, and what curation takes, on public questions.

    python -m benchmarks.curation rewrites                 # about two minutes; writes rewrites.json next to this module
    python -m benchmarks.curation rewrites --hits FILE     # also 200 hits in a clean pool, with both texts, for reading
    python -m benchmarks.curation domains --encoder FOLDER # some minutes; writes domains.json next to this module
    python -m benchmarks.curation scale --rows 59029,590290   # some minutes; writes scale.json next to this module
    python -m benchmarks.curation near                     # half a minute; other packages where they are installed
    python -m benchmarks.curation difficulty --model FOLDER   # some ten minutes on two cores; writes difficulty.json

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

from benchmarks.curation import domains as labelled_domains
from benchmarks.curation.difficulty import Agreement, agreements, draw, pass_rates, summary
from benchmarks.curation.near import measure as measure_near
from benchmarks.curation.rewrites import BESIDE, DATA, TIERS, Recall, benchmark, pairs, precision, read_hits, recall
from benchmarks.curation.scale import ARMS, Result, figures, measure, read_results
from s1ray import logs
from s1ray.cluster import own_cluster
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
    console.print(show(rows), figures, read_hits(), published)
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
        {
            "recall": [row.figures() for row in rows],
            "clean pool": figures,
            "200 hits, read": read_hits(),
            "published pairs": published,
        },
    )


@app.command()
def domains(
    encoder: Annotated[Path, typer.Option(help="Folder of a sentence encoder, such as all-MiniLM-L6-v2.")],
    data: Annotated[Path, typer.Option(help="Folder of the questions.")] = DATA,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for domains.json.")] = HERE,
) -> None:
    """Find the domains of labelled questions by an encoder; count how often they are those of the labels."""
    scores, more = labelled_domains.measure(data, encoder)
    rows = [score.figures() for score in scores]
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=160).print(table, more)
    write_json(output / "domains.json", {"agreement": rows, **more})


def scale_table(results: list[Result]) -> Table:
    """The results for the terminal."""
    table = Table(
        "rows", "arm", "left", "wall s", "CPU s", "driver", "workers", "driver MB", "worker MB", "all MB", "load"
    )
    for result in results:
        usage, peak = result.usage, result.usage.peak_mb
        seconds = (usage.wall_s, result.cpu_s, usage.cpu_s["driver"], usage.cpu_s["workers"])
        sizes = (peak.get(name, 0.0) for name in ("driver", "worker", "everything"))
        load = " to ".join(map(str, usage.load))
        numbers = [*(f"{value:.1f}" for value in seconds), *(f"{size:,.0f}" for size in sizes)]
        table.add_row(f"{result.rows:,}", result.arm, f"{result.left:,}", *numbers, load)
    return table


@app.command()
def scale(
    rows: Annotated[str, typer.Option(help="Sizes of the pools, with commas between them.")] = "59029,590290",
    arms: Annotated[str, typer.Option(help="Arms, with commas between them.")] = ",".join(ARMS),
    folder: Annotated[Path, typer.Option(help="Folder for pools and runs.")] = Path("runs/scale"),
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for scale.json.")] = HERE,
) -> None:
    """Curate pools of many rows; measure time, processor seconds and memory beside one plain process.

    Results of the same rows and arm in scale.json are replaced, the others stay.
    """
    file = output / "scale.json"
    known = {(result.rows, result.arm): result for result in read_results(file)}
    for count in map(int, rows.split(",")):
        for arm in arms.split(","):
            known[count, arm] = measure(count, arm, folder.resolve())
            write_json(file, figures(list(known.values())))
    Console(width=160).print(scale_table(read_results(file)))


def difficulty_table(found: list[Agreement]) -> Table:
    """The agreements for the terminal."""
    table = Table(
        "set",
        "easy are those where",
        "questions",
        "easy",
        "majority",
        "solved = easy",
        "AUC",
        "by chance",
        "AUC of length",
    )
    for each in found:
        same, area = (f"{low:.2f} to {high:.2f}" for low, high in (each.agrees_range, each.auc_range))
        shares = (f"{each.majority:.2f}", f"{each.agrees:.2f} ({same})", f"{each.auc:.2f} ({area})")
        table.add_row(
            each.set,
            each.label,
            str(each.questions),
            str(each.easy),
            *shares,
            f"{each.by_chance:.2f}",
            f"{each.words_auc:.2f}",
        )
    return table


@app.command()
def difficulty(
    model: Annotated[str, typer.Option(help="Folder or id of a small language model.")],
    data: Annotated[Path, typer.Option(help="Folder with math_12500.parquet and gsm8k.parquet.")] = DATA,
    count: Annotated[int, typer.Option(min=25, help="Questions.")] = 150,
    samples: Annotated[int, typer.Option(min=1, help="Attempts at each.")] = 4,
    folder: Annotated[Path, typer.Option(help="Folder for the run; one that was killed goes on.")] = Path(
        "runs/difficulty"
    ),
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for difficulty.json.")] = HERE,
) -> None:
    """Let a model answer questions whose difficulty is known, and compare its pass rates with the labels."""
    questions = draw(data, count)
    with own_cluster(2):
        rates, attempts = pass_rates(questions, model, samples, folder.resolve())
    found = agreements(questions, rates)
    write_json(output / "difficulty.json", summary(model, found, rates, samples, attempts))
    Console(width=160).print(difficulty_table(found))


@app.command()
def near(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for near.json.")] = HERE,
) -> None:
    """Find near duplicates in real questions and in rows of one template, also with datasketch and rensa."""
    figures = measure_near()
    write_json(output / "near.json", figures)
    Console().print_json(data=figures)


if __name__ == "__main__":
    app()
