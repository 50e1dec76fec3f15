"""A command for each stage, and what works on its config before a run."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s1ray.cli.app import app
from s1ray.cli.options import (
    AddressOption,
    ConfigOption,
    DryRunOption,
    ForceOption,
    RootOption,
    SetOption,
    local_path,
    refuse_lost_output,
    start_from,
    user_errors,
)
from s1ray.stages import STAGES

if TYPE_CHECKING:
    from s1ray.config import StageConfig


def run_stage(
    name: str,
    config: str | None,
    overrides: list[str] | None,
    *,
    dry_run: bool,
    force: bool,
    address: str | None,
    root: str | None,
) -> None:
    """Load and check the config of a stage, then run it; user errors end the process with a message and status 2."""
    with user_errors():
        from s1ray.cluster import connected
        from s1ray.config import to_yaml

        stage = STAGES[name].load()
        resolved = load_stage_config(name, config, overrides, root)

        # Connected, a plan knows the cluster's GPUs.
        with connected(address) if address is not None else contextlib.nullcontext():
            if dry_run:
                typer.echo(to_yaml(resolved), nl=False)
                for line in stage.check(resolved, force=force):
                    typer.echo(f"# {line}")
                return
            run = stage(resolved, force=force)
        typer.echo(f"{name}: {run.path}{' (already complete, skipped)' if run.skipped else ''}")


def load_stage_config(name: str, config: str | None, overrides: list[str] | None, root: str | None) -> StageConfig:
    """A stage's config, from a recipe or file; relative paths in it start from `root`.

    A job's own working folder is a copy that Ray deletes, so there a relative output without a root is refused.

    Raises:
        ConfigError: the config is wrong, `root` is no folder, or a job would lose its output.
    """
    from s1ray.config import load_config
    from s1ray.recipes import find_recipe

    file = None if config is None else find_recipe(config, name).absolute()
    start_from(root)
    resolved: StageConfig = load_config(STAGES[name].load().config, file, overrides or ())
    if root is None:
        refuse_lost_output(
            resolved.output,
            "Add --root FOLDER on storage that all nodes share (on one machine, your checkout: --root $PWD), or give "
            "absolute paths",
        )
    return resolved


def add_stage(name: str) -> None:
    """Add the command of a stage."""

    def command(
        context: typer.Context,
        config: ConfigOption = None,
        overrides: SetOption = None,
        dry_run: DryRunOption = False,
        force: ForceOption = False,
        address: AddressOption = None,
        root: RootOption = None,
    ) -> None:
        if context.invoked_subcommand is not None:
            if config or overrides or root or dry_run or force or address:
                raise typer.BadParameter(f"options of {context.invoked_subcommand} go after its name")
            return
        run_stage(name, config, overrides, dry_run=dry_run, force=force, address=address, root=root)

    group = typer.Typer()
    group.callback(invoke_without_command=True, help=STAGES[name].help)(command)
    stage_apps[name] = group
    app.add_typer(group, name=name)


stage_apps: dict[str, typer.Typer] = {}
for _name in STAGES:
    add_stage(_name)


@stage_apps["traces"].command("probe")
def traces_probe(
    config: ConfigOption = None,
    overrides: SetOption = None,
    questions: Annotated[int, typer.Option("--questions", "-n", min=1, help="How many to ask.")] = 10,
    address: AddressOption = None,
    root: RootOption = None,
) -> None:
    """Ask a few of the questions for real; tell tokens, money and hours of the whole run, which keeps the answers."""
    with user_errors():
        from s1ray.cluster import connected
        from s1ray.traces.config import TracesConfig
        from s1ray.traces.probe import probe

        resolved = load_stage_config("traces", config, overrides, root)
        assert isinstance(resolved, TracesConfig)
        with connected(address) if address is not None else contextlib.nullcontext():
            for line in probe(resolved, questions):
                typer.echo(f"probe: {line}")


@stage_apps["train"].command("inspect")
def train_inspect(
    config: ConfigOption = None,
    overrides: SetOption = None,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="How many of the first rows.")] = 3,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Show this row instead; may be repeated.")] = None,
    root: RootOption = None,
) -> None:
    """Show training rows as the model will see them; what is not trained is grey, or in brackets when piped."""
    with user_errors():
        from rich.console import Console

        from s1ray.training.config import TrainingConfig
        from s1ray.training.inspection import inspect_rows, show

        resolved = load_stage_config("train", config, overrides, root)
        assert isinstance(resolved, TrainingConfig)
        console = Console(highlight=False)
        for row in inspect_rows(resolved, rows=rows, ids=ids or ()):
            show(row, console)


@stage_apps["train"].command("convert")
def train_convert(
    source: Annotated[str, typer.Argument(help="Parquet or JSON Lines file, folder, or data set of the Hub.")],
    output: Annotated[Path, typer.Argument(parser=local_path, help="The Parquet file to write.")],
    columns: Annotated[
        list[str] | None, typer.Option("--column", help="A column's own name: question=problem; may be repeated.")
    ] = None,
) -> None:
    """Write rows of any known kind (s1K, messages, prompt and completion, ...) as Parquet of s1ray's own."""
    with user_errors():
        from s1ray.config import load_config
        from s1ray.training.config import ColumnsConfig
        from s1ray.training.data.convert import convert
        from s1ray.training.data.examples import explain

        named = load_config(ColumnsConfig, None, columns) if columns else None
        converted = convert(source, output, named)
        if converted.unusable:
            typer.echo(explain(converted.unusable), err=True)
        typer.echo(f"{output}: {converted.rows:,} rows of {converted.kind}")
