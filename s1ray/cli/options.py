"""Options that several commands have, and errors that end a command."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from s1ray.errors import S1rayError
from s1ray.secrets import redact
from s1ray.storage import is_address

ConfigOption = Annotated[
    str | None, typer.Option("--config", "-c", help="A recipe's name (`s1ray recipes`), or a YAML file.")
]
SetOption = Annotated[list[str] | None, typer.Option("--set", "-s", help="Override a field: section.field=value.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and what it would cost.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what the run folder already holds.")]


def local_path(value: str | Path) -> Path:
    """A path of this machine. An address would become a folder `s3:` here."""
    if "://" in str(value):
        raise typer.BadParameter(f"{redact(str(value))!r} is an address, and this is a path of this machine alone")
    return Path(value)


AddressOption = Annotated[
    str | None,
    typer.Option("--address", help='Ray cluster; "local" starts one. Default: Ray\'s own rules (RAY_ADDRESS).'),
]
RootOption = Annotated[
    str | None, typer.Option("--root", help="Folder that the relative paths of the config start from. Default: here.")
]


def start_from(root: str | None) -> None:
    """Let relative paths start from a folder.

    Raises:
        ConfigError: it is none.
    """
    from s1ray.config import ConfigError

    if root is None:
        return
    if is_address(root):
        raise ConfigError(
            f"--root {root}: relative paths start from a folder that each machine sees; leave it out, and give "
            "addresses in the config (--set output=s3://BUCKET/RUN)"
        )
    if not os.path.isdir(root):
        raise ConfigError(f"--root {root}: no such folder on this machine")
    os.chdir(root)


def refuse_lost_output(output: str, advice: str) -> None:
    """Refuse a relative output in a job, whose own working folder is a copy that Ray deletes.

    Raises:
        ConfigError: it is one; the message ends with the advice.
    """
    from s1ray.cluster import in_job
    from s1ray.config import ConfigError

    if in_job() and not is_address(output) and not Path(output).is_absolute():
        raise ConfigError(
            f"output: {str(output)!r} is relative, and a job's working folder is deleted with the job. {advice}"
        )


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors that a user can fix into one message and status 2; anything else keeps its traceback."""
    full, barred = (errno.ENOSPC, errno.EDQUOT), (errno.EACCES, errno.EPERM, errno.EROFS)
    misplaced = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted; run the same command again to resume", err=True)
        raise typer.Exit(130) from None
    except SystemExit as error:
        # Ray's answer to SIGTERM.
        if error.code != signal.SIGTERM:
            raise
        typer.echo("terminated; run the same command again to resume", err=True)
        raise typer.Exit(128 + signal.SIGTERM) from None
    except S1rayError as error:
        typer.secho(f"error: {redact(str(error))}", err=True, fg=typer.colors.RED)
        raise typer.Exit(2) from None
    except OSError as error:
        if error.errno not in full and (error.filename is None or error.errno not in (*barred, *misplaced)):
            raise
        where = f"{error.filename}: " if error.filename else ""
        why = "the disk is full; make room" if error.errno in full else f"{error.strerror}; put that right"
        typer.secho(f"error: {where}{why}, then run the same command again", err=True, fg="red")
        raise typer.Exit(2) from None
