"""Clusters: `s1ray doctor` looks at one, `s1ray submit` runs a stage there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from s1ray.cli.app import app
from s1ray.cli.options import local_path, user_errors


@app.command()
def doctor(
    address: Annotated[
        str | None,
        typer.Option("--address", help="Ray cluster to look at (auto, HOST:6379). Default: RAY_ADDRESS, or none."),
    ] = None,
    storage: Annotated[
        str | None, typer.Option("--storage", metavar="LOCATION", help="Look whether every node reads and writes it.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="That a node may take to answer.")] = 45.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at this machine, or at every node of a cluster, before a run: what would keep it from succeeding."""
    with user_errors():
        from s1ray.doctor import report
        from s1ray.doctor.nodes import examine

        findings = examine(address or os.environ.get("RAY_ADDRESS"), storage, seconds)
        if as_json:
            typer.echo(report.as_json(findings))
        else:
            for line in report.lines(findings):
                typer.echo(line)
        if report.any_failed(findings):
            raise typer.Exit(1)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
)
def submit(
    context: typer.Context,
    command: Annotated[str, typer.Argument(help="curate, traces, train, eval, run or doctor; its options follow.")],
    address: Annotated[
        str | None, typer.Option("--address", help="Dashboard. Default: RAY_ADDRESS, or http://127.0.0.1:8265.")
    ] = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(
            "--working-dir", parser=local_path, help="Folder to upload. Default: a config of this machine alone."
        ),
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option(
            "--prices", parser=local_path, help="YAML: what a node of each type costs an hour; tells the cost so far."
        ),
    ] = None,
    cpus: Annotated[
        float, typer.Option("--entrypoint-num-cpus", min=0, help="1: the driver runs on a worker, not on the head.")
    ] = 0,
    labels: Annotated[
        str | None,
        typer.Option(
            "--entrypoint-label-selector", metavar="YAML", help='Labels of the driver\'s node: {"s1ray/role": cpu}.'
        ),
    ] = None,
    patience: Annotated[
        float, typer.Option("--patience", min=0, help="Seconds that the cluster may not answer.")
    ] = 1800.0,
    again: Annotated[bool, typer.Option("--again", help="Submit once more what is complete.")] = False,
) -> None:
    """Run a stage as a job: attach to it if it runs, follow it, and submit it again if its cluster was lost.

    The same command finds the same job. Ctrl-C stops following; `ray job stop` stops the job.
    """
    with user_errors():
        from s1ray.submission.api import Cluster, dashboard_address
        from s1ray.submission.costs import read_prices
        from s1ray.submission.following import Follower
        from s1ray.submission.naming import driver_options, submission

        follower = Follower(
            Cluster(dashboard_address(address)),
            submission(command, context.args),
            working_folder=working_dir,
            options=driver_options(cpus, labels),
            prices=None if prices is None else read_prices(prices),
            patience=patience,
            again=again,
            out=typer.echo,
        )
        raise typer.Exit(follower.follow())
