"""What a job is called, what it runs and where, and which files go with it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from s1ray.config import Config, ConfigError, NodeLabels, load_config, parse_yaml, validate_config, yaml_problem
from s1ray.pipelines import load_pipeline
from s1ray.recipes import find_recipe
from s1ray.secrets import refuse_in_text
from s1ray.stages import STAGES
from s1ray.storage import location

COMMANDS = ("curate", "traces", "train", "eval", "run", "doctor")
"""Commands that may be submitted."""
CONFIG = "config.yaml"
"""The name under which a config of this machine travels."""
SET, OUTPUT = ("--set", "-s"), ("--output", "-o")
"""Options of `s1ray run` that take a value."""
ATTEMPT = re.compile(r"-(\d+)$")


@dataclass(frozen=True)
class Submission:
    """A command for the cluster."""

    command: str
    arguments: tuple[str, ...]
    """As they are for `s1ray COMMAND`; a config of this machine is `CONFIG`."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Name -> content of the configs that go along: `CONFIG`, and those that a recipe of `run` names."""

    @property
    def name(self) -> str:
        """The same for the same command, arguments and content of the configs."""
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()}
        parts = json.dumps([self.command, self.arguments, digests], sort_keys=True)
        return f"s1ray-{self.command}-{hashlib.sha256(parts.encode()).hexdigest()[:10]}"

    @property
    def entrypoint(self) -> str:
        """The job's shell command."""
        return shlex.join(["python", "-m", "s1ray.cli", self.command, *self.arguments])

    @contextmanager
    def working_folder(self, given: Path | None) -> Iterator[Path | None]:
        """The folder that is uploaded: the given one, or one of the configs alone. None: nothing is."""
        if not self.files:
            yield given
            return
        if given is not None:
            raise ConfigError("--working-dir: a config of this machine travels by itself; leave --working-dir out")
        with TemporaryDirectory(prefix="s1ray-submit-") as folder:
            for name, content in self.files.items():
                (Path(folder) / name).write_bytes(content)
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
    overrides = [value for value, _ in _values(arguments, *SET)]
    if command in STAGES:
        load_config(STAGES[command].load().config, file, overrides)
    elif command == "run":
        if found is None:
            raise ConfigError("submit: run: name a recipe of `run` (`s1ray recipes`), or a YAML file")
        output = next((location(value) for value, _ in reversed([*_values(arguments, *OUTPUT)])), None)
        load_pipeline(found, output=output, overrides=overrides).configs()
    # The cluster has the recipes.
    if found is None or file is None or not os.path.isfile(found):
        return Submission(command, tuple(arguments))
    changed = list(arguments)
    changed[place] = changed[place].removesuffix(found) + CONFIG
    return Submission(command, tuple(changed), _with_inner(file) if command == "run" else {CONFIG: file.read_bytes()})


def _with_inner(recipe: Path) -> dict[str, bytes]:
    """A recipe of `run` and the configs of this machine that it names, by the names under which they travel."""
    content, inner = recipe.read_bytes(), dict[str, bytes]()
    data: Any = parse_yaml(content.decode())
    for step in data["stages"]:
        label = step.get("name") or step["stage"]
        for holder, name in ((step, f"config-{label}.yaml"), (step.get("serve"), f"config-{label}-serve.yaml")):
            if holder and os.path.isfile(holder["config"]):
                inner[name] = Path(holder["config"]).read_bytes()
                holder["config"] = name
    if inner:
        content = yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode()
    return {CONFIG: content} | inner


class _Placement(Config):
    node_labels: NodeLabels


def driver_options(cpus: float, labels: str | None) -> dict[str, object]:
    """Ray's options of a job, which say where its driver runs. Without any it runs on the head.

    Args:
        cpus: that it needs.
        labels: YAML (and so JSON) of the labels that its node must have. None: any node.

    Raises:
        ConfigError: they are none.
    """
    options: dict[str, object] = {"entrypoint_num_cpus": cpus} if cpus else {}
    if labels is None:
        return options
    option = "--entrypoint-label-selector"
    try:
        data = parse_yaml(labels)
    except yaml.YAMLError as error:
        raise ConfigError(f"{option}: not valid YAML: {yaml_problem(error)}") from None
    selector = validate_config(_Placement, {"node_labels": data}, option).node_labels
    return options | {"entrypoint_label_selector": selector}


def attempt_of(job: str, name: str) -> int | None:
    """Which attempt a job is: 1 for the name itself, 2 for name-2. None: it is another's."""
    if job == name:
        return 1
    found = ATTEMPT.search(job)
    return int(found[1]) if found and job == f"{name}-{found[1]}" else None


def _values(arguments: Sequence[str], long: str, short: str) -> Iterator[tuple[str, int]]:
    """The values of an option, each with the place of the argument that ends with it."""
    for place, argument in enumerate(arguments):
        if argument in (long, short) and place + 1 < len(arguments):
            yield arguments[place + 1], place + 1
        elif argument.startswith(f"{long}="):
            yield argument.removeprefix(f"{long}="), place
        elif argument.startswith(short) and argument != short:
            yield argument.removeprefix(short), place


def _config_of(command: str, arguments: Sequence[str]) -> tuple[str | None, int]:
    """The config that the arguments name, and the place of the argument that ends with it."""
    if command != "run":
        return next(reversed([*_values(arguments, "--config", "-c")]), (None, -1))
    is_value = False
    for place, argument in enumerate(arguments):
        if not is_value and not argument.startswith("-"):
            return argument, place
        is_value = not is_value and argument in (*SET, *OUTPUT)
    return None, -1
