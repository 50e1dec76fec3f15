"""The commands in the documentation: their options, recipes, overrides, files and make targets exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup

from s1ray.cli import app
from s1ray.config import load_config
from s1ray.pipelines import load_pipeline
from s1ray.recipes import find_recipe
from s1ray.stages import STAGES
from tests.support import examples, markdown

PLACEHOLDER = re.compile(r"[A-Z_]{3,}|\.\.\.|<.+>|my[-_.].*|runs/.*")
WORKFLOWS = sorted((markdown.ROOT / ".github").glob("workflows/*.yml"))


def commands(file: Path) -> list[list[str]]:
    """The s1ray commands of a file as arguments; a job's script is the command of its stage."""
    found = []
    for line in markdown.code(file):
        text = re.sub(r"^.*\bpython jobs/(\w+)\.py", r"s1ray \1", line.strip().removeprefix("$ "))
        text = re.sub(r"^export \S+; ", "", text)
        if text.startswith("s1ray "):
            found.append(shlex.split(text, comments=True)[1:])
    return found


def parsed(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The command's words and the innermost one's options; raises click's errors where arguments are wrong."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("s1ray", list(arguments))
    words: list[str] = []
    while isinstance(command, TyperGroup) and (rest := [*context._protected_args, *context.args]):
        name, command, rest = command.resolve_command(context, rest)
        words.append(str(name))
        # A text that only mentions a command leaves out what it would need.
        context = command.make_context(name, list(rest), parent=context, resilient_parsing=not rest)
    return words, dict(context.params)


CASES = [(file, arguments) for file in markdown.FILES for arguments in commands(file)]


@pytest.mark.parametrize(
    ("file", "arguments"), CASES, ids=[f"{markdown.name(file)}: s1ray {' '.join(args)}" for file, args in CASES]
)
def test_a_command_parses_and_its_config_loads(
    file: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples.install(monkeypatch)
    monkeypatch.chdir(markdown.ROOT)
    words, values = parsed(arguments)
    if (config := values.get("config")) and not PLACEHOLDER.fullmatch(config):
        overrides = [text for text in values.get("overrides") or () if not PLACEHOLDER.search(text)]
        load_config(STAGES[words[0]].load().config, find_recipe(config, words[0]), overrides)
    if (recipe := values.get("recipe")) and not PLACEHOLDER.fullmatch(recipe):
        load_pipeline(recipe, overrides=values["overrides"] or ()).check()
    if words[:1] == ["serve"] and (served := values.get("file")) and not PLACEHOLDER.fullmatch(str(served)):
        assert Path(served).is_file()


def test_make_targets_exist() -> None:
    makefile = (markdown.ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    lines = [line for file in markdown.FILES for line in markdown.code(file)]
    for workflow in WORKFLOWS:
        jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values()
        lines += [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    asked = {target for line in lines for target in re.findall(r"^make ([a-z-]+)", line)}
    assert asked
    assert asked <= targets
