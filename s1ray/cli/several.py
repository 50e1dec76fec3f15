"""Several stages in one command: `s1ray run` and `s1ray demo`; and the recipes for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s1ray.cli.app import app
from s1ray.cli.options import DryRunOption, ForceOption, refuse_lost_output, user_errors
from s1ray.storage import is_address, location


@app.command()
def recipes() -> None:
    """List the recipes that come with s1ray, by stage."""
    with user_errors():
        from rich.console import Console
        from rich.table import Table

        from s1ray.recipes import recipe_names, recipe_stages, summary

        table = Table("how to use it", "what it is", box=None, pad_edge=False)
        for stage in recipe_stages():
            for name in recipe_names(stage):
                uses = {"run": f"s1ray run {name}", "serve": f"serve: {{config: {name}}}"}
                table.add_row(uses.get(stage, f"s1ray {stage} --config {name}"), summary(stage, name))
        Console(highlight=False).print(table)


def _folder(value: str) -> str:
    from s1ray.config import run_folder

    try:
        return run_folder(str(value))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _local_folder(value: str) -> str:
    if is_address(value):
        raise typer.BadParameter(f"{value!r} is no folder of this machine, which the demo needs; `s1ray run` takes it")
    return _folder(value)


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A recipe of `run` (`s1ray recipes`), or a YAML file.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", parser=_folder, help="Folder of the run folders.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="Override a stage's field, stage.field=value, or an axis, matrix.seed=[0,1]."),
    ] = None,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
) -> None:
    """Run several stages in order; a stage that is complete is skipped, one that was killed is resumed."""
    with user_errors():
        from s1ray.pipelines import load_pipeline, run_pipeline

        pipeline = load_pipeline(recipe, output=None if output is None else location(output), overrides=overrides or ())
        refuse_lost_output(
            output or pipeline.config.output, "Add --output FOLDER, an absolute path on storage that all nodes share"
        )
        if dry_run:
            for line in pipeline.check():
                typer.echo(line)
            return
        run_pipeline(pipeline, force=force)


@app.command()
def demo(
    output: Annotated[
        str, typer.Option("--output", "-o", parser=_local_folder, help="Folder of the demo's runs and report.")
    ] = "runs/demo",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run every stage again, also those that are complete.")
    ] = False,
    questions: Annotated[int, typer.Option("--questions", min=20, help="Held-out questions to measure on.")] = 300,
    dry_run: DryRunOption = False,
) -> None:
    """Run the whole system at laptop size: curate, teach, train, serve, measure, report."""
    with user_errors():
        from s1ray.miniature.demo import run_demo

        run_demo(Path(output), fresh=fresh, questions=questions, dry_run=dry_run)
