"""`s1ray grade`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from s1ray.cli.app import app
from s1ray.cli.options import AddressOption, local_path, user_errors


@app.command()
def grade(
    file: Annotated[Path, typer.Argument(parser=local_path, help="JSON Lines (also .gz) or Parquet.")],
    gold: Annotated[str, typer.Option("--gold", help="Column of the reference answers.")] = "gold",
    response: Annotated[str, typer.Option("--response", help="Column of the responses.")] = "response",
    kind: Annotated[
        str | None, typer.Option("--kind", help="Column of the kinds (number, choice, math, text), if there is one.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", parser=local_path, help="Default: FILE with .graded in its name."),
    ] = None,
    grader: Annotated[str, typer.Option("--grader", help="A registered grader, or module:attribute.")] = "rules",
    thinking_format: Annotated[
        str | None,
        typer.Option(
            "--thinking-format", help="Responses begin with thinking in this format (s1, deepseek_r1, qwen3)."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes (on a cluster, actors). Default: one a core.")
    ] = None,
    address: AddressOption = None,
) -> None:
    """Grade responses in a file against reference answers: the same rows, each with a verdict."""
    with user_errors():
        from rich.console import Console

        from s1ray.cluster import connected
        from s1ray.grading.files import grade_file, output_of, quarantine_of
        from s1ray.grading.rows import Job
        from s1ray.grading.summary import summary_table, warnings
        from s1ray.thinking.format import ThinkingFormat

        named = None if thinking_format is None else ThinkingFormat.preset(thinking_format)
        target = output or output_of(file)
        job = Job(file, target, gold=gold, response=response, kind=kind, grader=grader, thinking_format=named)
        with connected(address) if address is not None else contextlib.nullcontext():
            summary = grade_file(job, workers, on_ray=address is not None)
        Console().print(summary_table(summary))
        for warning in warnings(summary, quarantine_of(target)):
            typer.echo(f"warning: {warning}", err=True)
        typer.echo(f"grade: {target}")
