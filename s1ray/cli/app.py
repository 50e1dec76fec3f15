"""The command itself: what holds for every subcommand."""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType
from typing import Annotated

import typer

from s1ray import __version__, logs
from s1ray.cli.options import user_errors
from s1ray.errors import S1rayError
from s1ray.secrets import redact

app = typer.Typer(
    name="s1ray",
    help="Curate, train, serve and measure reasoning models with test-time scaling, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Set up logging for every subcommand."""
    logs.configure(verbose=verbose)
    sys.excepthook = _redacted_traceback
    if version:
        typer.echo(f"s1ray {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        return
    with user_errors():
        try:
            os.getcwd()
        except FileNotFoundError:
            raise S1rayError("the folder that you are in was deleted; change to another one") from None


def _redacted_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))
