"""The `s1ray` command: one subcommand a stage, each a YAML file and overrides.

    s1ray curate --config jobs/configs/curate.miniature.yaml --set selection.size=500 --dry-run

Nothing heavy is imported here or at help time. The scripts in jobs/ call the same commands, so `ray job submit` and a
laptop do the same thing.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from s1ray import __version__

app = typer.Typer(
    name="s1ray",
    help="Curate, train, serve and measure reasoning models with test-time scaling, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
serve_app = typer.Typer(help="Check a Serve config file, or serve it.", no_args_is_help=True)
app.add_typer(serve_app, name="serve")
train_app = typer.Typer()
app.add_typer(train_app, name="train")

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="The stage's YAML file.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", "-s", help="Override a field: section.field=value.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and what it would cost.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what the run folder already holds.")]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", help='Ray cluster; "local" starts one. Default: Ray\'s own rules (RAY_ADDRESS).'),
]

RootOption = Annotated[
    Path | None, typer.Option("--root", help="Folder that the relative paths of the config start from. Default: here.")
]

STAGES = {
    "curate": ("s1ray.curation.config:CurationConfig", "s1ray.curation.pipeline", "curate"),
    "traces": ("s1ray.traces.config:TracesConfig", "s1ray.traces.pipeline", "generate_traces"),
    "train": ("s1ray.training.config:TrainingConfig", "s1ray.training.trainer", "train"),
    "eval": ("s1ray.evaluation.config:BenchmarkConfig", "s1ray.evaluation.runner", "run_benchmark"),
}
"""Stage -> (config class, module of its entry, name of its entry function)."""

JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the driver of `ray job submit`."""


def run_stage(
    stage: str,
    config: Path | None,
    overrides: list[str] | None,
    *,
    dry_run: bool,
    force: bool,
    address: str | None,
    root: Path | None,
) -> None:
    """Load and check the config of a stage, then run it; user errors end the process with a message and status 2."""
    config_path, module_name, function = STAGES[stage]
    with user_errors():
        from s1ray.config import load_config, to_yaml

        config_module, _, config_class = config_path.partition(":")
        resolved = load_config(getattr(importlib.import_module(config_module), config_class), config, overrides or ())
        enter_root(root, resolved.output)
        module = importlib.import_module(module_name)
        from s1ray.cluster import connected

        with connected(address) if address is not None else contextlib.nullcontext():
            if dry_run:
                typer.echo(to_yaml(resolved), nl=False)
                for line in module.plan(resolved):
                    typer.echo(f"# {line}")
                return
            run = getattr(module, function)(resolved, force=force)
        typer.echo(f"{stage}: {run.path}{' (already complete, skipped)' if run.skipped else ''}")


def enter_root(root: Path | None, output: str) -> None:
    """Let relative paths start from `root`.

    A job's own working folder is a copy that Ray deletes, so there a relative output without a root is refused.

    Raises:
        ValueError: `root` is no folder, or a job would lose its output.
    """
    if root is not None:
        if not root.is_dir():
            raise ValueError(f"--root {root}: no such folder on this machine")
        os.chdir(root)
    elif JOB_VARIABLE in os.environ and not Path(output).is_absolute():
        raise ValueError(
            f"output: {output!r} is relative, and a job's working folder goes away with the job. Add --root FOLDER on "
            "storage that all nodes share (on one machine, your checkout: --root $PWD), or give absolute paths"
        )


@app.command()
def curate(
    config: ConfigOption = None,
    overrides: SetOption = None,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    address: AddressOption = None,
    root: RootOption = None,
) -> None:
    """Choose questions: quality, decontamination, difficulty, diversity."""
    run_stage("curate", config, overrides, dry_run=dry_run, force=force, address=address, root=root)


@app.command()
def traces(
    config: ConfigOption = None,
    overrides: SetOption = None,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    address: AddressOption = None,
    root: RootOption = None,
) -> None:
    """Collect a teacher's reasoning traces on the questions."""
    run_stage("traces", config, overrides, dry_run=dry_run, force=force, address=address, root=root)


@train_app.callback(invoke_without_command=True)
def train(
    context: typer.Context,
    config: ConfigOption = None,
    overrides: SetOption = None,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    address: AddressOption = None,
    root: RootOption = None,
) -> None:
    """Fine-tune a model on the traces (Ray Train, DeepSpeed)."""
    if context.invoked_subcommand is not None:
        if config or overrides or root or dry_run or force or address:
            raise typer.BadParameter(f"options of {context.invoked_subcommand} go after its name")
        return
    run_stage("train", config, overrides, dry_run=dry_run, force=force, address=address, root=root)


@train_app.command("inspect")
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

        from s1ray.config import load_config
        from s1ray.training.config import TrainingConfig
        from s1ray.training.inspection import inspect_rows, show

        resolved = load_config(TrainingConfig, config, overrides or ())
        enter_root(root, resolved.output)
        console = Console(highlight=False)
        for row in inspect_rows(resolved, rows=rows, ids=ids or ()):
            show(row, console)


@app.command("eval")
def evaluate(
    config: ConfigOption = None,
    overrides: SetOption = None,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    address: AddressOption = None,
    root: RootOption = None,
) -> None:
    """Measure a served model at a sweep of thinking budgets."""
    run_stage("eval", config, overrides, dry_run=dry_run, force=force, address=address, root=root)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of `s1ray eval`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")] = Path("report.html"),
) -> None:
    """Write the HTML report of one or more benchmark runs, and print its table."""
    with user_errors():
        from rich.console import Console

        from s1ray.evaluation.report import summary_table, write_report

        write_report(runs, output)
        Console().print(summary_table(runs))
        typer.echo(f"report: {output}")


@serve_app.command("check")
def serve_check(
    file: Annotated[Path, typer.Argument(help="The Serve config file.")] = Path("serve_config.yaml"),
) -> None:
    """Validate a whole Serve config file, unknown keys included, without starting anything."""
    with user_errors():
        from s1ray.serving.check import serve_warnings

        for warning in serve_warnings(file):
            typer.echo(f"{file}: warning: {warning}", err=True)
        typer.echo(f"{file}: valid")


@serve_app.command("key")
def serve_key(name: Annotated[str, typer.Argument(help="Whose key it is, for metrics and logs.")]) -> None:
    """Make an API key: shown once, here; the key file holds only its hash."""
    with user_errors():
        from s1ray.serving.keys import new_key

        secret, line = new_key(name)
        typer.echo("The key, for its owner. It is shown only now:", err=True)
        typer.echo(secret)
        typer.echo("Its line in the key file, below `keys:`:", err=True)
        typer.echo(line)


@serve_app.command("run")
def serve_run(file: Annotated[Path, typer.Argument(help="The Serve config file.")] = Path("serve_config.yaml")) -> None:
    """Check a Serve config file, then hand over to Ray's `serve run`."""
    serve_check(file)
    os.execvp(sys.executable, [sys.executable, "-m", "ray.serve.scripts", "run", str(file)])


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the demo's runs and report.")] = Path(
        "runs/demo"
    ),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run every stage again, also those that are complete.")
    ] = False,
    questions: Annotated[int, typer.Option("--questions", min=20, help="Held-out questions to measure on.")] = 500,
) -> None:
    """Run the whole system at laptop size: curate, teach, train, serve, measure, report."""
    with user_errors():
        from s1ray.miniature.demo import run_demo

        run_demo(output, fresh=fresh, questions=questions)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Set up logging for every subcommand."""
    configure_logging(verbose)
    if version:
        typer.echo(f"s1ray {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def configure_logging(verbose: bool = False) -> None:
    """Send s1ray's own log lines to stderr; other libraries stay at warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger = logging.getLogger("s1ray")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)


def job(command: Callable[..., Any]) -> None:
    """Run one command as a script of its own (jobs/*.py)."""
    configure_logging()
    typer.run(command)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn the errors that a user can mend into one message and status 2; anything else keeps its traceback."""
    from s1ray.runs import RunError

    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    except (RunError, ValueError, FileNotFoundError, ConnectionError) as error:
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
