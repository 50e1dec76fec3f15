"""`s1ray serve`: check a Serve config file, or serve it."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from s1ray.cli.app import app
from s1ray.cli.options import local_path, user_errors

serve_app = typer.Typer(help="Check a Serve config file, or serve it.", no_args_is_help=True)
app.add_typer(serve_app, name="serve")


@serve_app.command("check")
def serve_check(
    file: Annotated[Path, typer.Argument(parser=local_path, help="The Serve config file.")] = Path("serve_config.yaml"),
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
        from s1ray.serving.http.keys import new_key

        secret, line = new_key(name)
        typer.echo("The key, for its owner. It is shown only now:", err=True)
        typer.echo(secret)
        typer.echo("Its line in the key file, below `keys:`:", err=True)
        typer.echo(line)


@serve_app.command("haproxy")
def serve_haproxy() -> None:
    """Print the environment with which HAProxy takes the requests, for the shell of `ray start` on every node.

    env=$(s1ray serve haproxy) && eval "$env" && ray start --head
    """
    with user_errors():
        from s1ray.serving.front import settings

        for name, value in settings.settings(settings.folder()).items():
            typer.echo(f"export {name}={shlex.quote(value)}")


@serve_app.command("run")
def serve_run(
    file: Annotated[Path, typer.Argument(parser=local_path, help="The Serve config file.")] = Path("serve_config.yaml"),
) -> None:
    """Check a Serve config file, then hand over to Ray's `serve run`.

    Where that starts Ray, HAProxy takes the requests, if it runs here; else what the running cluster was told to.
    """
    serve_check(file)
    with user_errors():
        from s1ray.serving.front import settings
        from s1ray.serving.local import free_ports

        try:
            metrics, stats, fallback = free_ports(3)
            env = settings.settings(settings.folder(), metrics_port=metrics, stats_port=stats, fallback_port=fallback)
        except settings.FrontError as error:
            typer.echo(f"Serve's own proxy takes the requests: {error}", err=True)
            env = {}
    os.environ.update({name: value for name, value in env.items() if name not in os.environ})
    os.execvp(sys.executable, [sys.executable, "-m", "ray.serve.scripts", "run", str(file)])
