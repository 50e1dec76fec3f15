"""What a job is called, what it runs, and which files go with it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from s1ray.config import ConfigError, load_config
from s1ray.recipes import find_recipe
from s1ray.secrets import refuse_in_text
from s1ray.stages import STAGES

COMMANDS = ("curate", "traces", "train", "eval", "run", "doctor")
"""Commands that may be submitted."""
CONFIG = "config.yaml"
"""The name under which a config of this machine travels."""
ATTEMPT = re.compile(r"-(\d+)$")


@dataclass(frozen=True)
class Submission:
    """A command for the cluster."""

    command: str
    arguments: tuple[str, ...]
    """As they are for `s1ray COMMAND`; a config of this machine is `CONFIG`."""
    config: bytes | None
    """The config of this machine that goes along. None: a recipe, or none."""

    @property
    def name(self) -> str:
        """The same for the same command, arguments and content of the config."""
        parts = json.dumps([self.command, self.arguments, hashlib.sha256(self.config or b"").hexdigest()])
        return f"s1ray-{self.command}-{hashlib.sha256(parts.encode()).hexdigest()[:10]}"

    @property
    def entrypoint(self) -> str:
        """The job's shell command."""
        return shlex.join(["python", "-m", "s1ray.cli", self.command, *self.arguments])

    @contextmanager
    def working_folder(self, given: Path | None) -> Iterator[Path | None]:
        """The folder that is uploaded: the given one with the config in it, or the config alone. None: nothing is."""
        if self.config is None:
            yield given
            return
        if given is not None:
            raise ConfigError("--working-dir: a config of this machine travels by itself; leave --working-dir out")
        with TemporaryDirectory(prefix="s1ray-submit-") as folder:
            (Path(folder) / CONFIG).write_bytes(self.config)
            yield Path(folder)


def submission(command: str, arguments: Sequence[str]) -> Submission:
    """Read a command as `s1ray` has it.

    Raises:
        ConfigError: it is no command that may be submitted, or its config is wrong, or neither a file nor a recipe.
    """
    if command not in COMMANDS:
        raise ConfigError(f"submit: {command!r} is none of {', '.join(COMMANDS)}")
    for argument in arguments:
        refuse_in_text(argument, "submit", "Ray's job API shows a job's command; name keys by reference")
    found, place = _config_of(command, arguments)
    file = None if found is None else find_recipe(found, command).absolute()
    if command in STAGES:
        load_config(STAGES[command].load().config, file, _values(arguments, "--set", "-s"))
    # The cluster has the recipes.
    if found is None or file is None or not os.path.isfile(found):
        return Submission(command, tuple(arguments), None)
    changed = list(arguments)
    changed[place] = changed[place].removesuffix(found) + CONFIG
    return Submission(command, tuple(changed), file.read_bytes())


def attempt_of(job: str, name: str) -> int | None:
    """Which attempt a job is: 1 for the name itself, 2 for name-2. None: it is another's."""
    if job == name:
        return 1
    found = ATTEMPT.search(job)
    return int(found[1]) if found and job == f"{name}-{found[1]}" else None


def _values(arguments: Sequence[str], *names: str) -> list[str]:
    """The values of an option that may be repeated."""
    found: list[str] = []
    for place, argument in enumerate(arguments):
        if argument in names:
            found += arguments[place + 1 : place + 2]
        elif argument.startswith(f"{names[0]}="):
            found.append(argument.removeprefix(f"{names[0]}="))
    return found


def _config_of(command: str, arguments: Sequence[str]) -> tuple[str | None, int]:
    """The config that the arguments name, and where."""
    for place, argument in enumerate(arguments):
        if argument in ("--config", "-c") and place + 1 < len(arguments):
            return arguments[place + 1], place + 1
        if argument.startswith("--config="):
            return argument.removeprefix("--config="), place
    if command == "run" and arguments and not arguments[0].startswith("-"):
        return arguments[0], 0
    return None, -1
