"""The command line: fast help, messages instead of tracebacks."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
from typer.testing import CliRunner, Result

from s1ray import cli, recipes
from s1ray.cli import app
from s1ray.cluster import JOB_VARIABLE
from s1ray.errors import InputError
from s1ray.stages import STAGES

HEAVY = ("torch", "ray", "vllm", "transformers", "deepspeed", "datasets", "pyarrow", "matplotlib")


def test_help_imports_nothing_heavy() -> None:
    code = f"import sys; import s1ray.cli; print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("target", [entry.target for entry in STAGES.values()])
def test_stages_import_nothing_heavy(target: str) -> None:
    module = target.partition(":")[0]
    code = f"import sys; import {module}; print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("stage", STAGES)
def test_an_unknown_field_is_a_message_and_status_2(stage: str) -> None:
    result = CliRunner().invoke(app, [stage, "--set", "output=x", "--set", "no_such_field=1"])
    assert result.exit_code == 2
    assert "no_such_field: unknown field" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["demo", "--output", "s3://bucket/run"], "is no folder of this machine"),
        (["run", "miniature", "--output", "ftp://host/run", "--dry-run"], "unknown storage"),
        (["curate", "--set", "output=s3://key:secret@bucket/run"], "must not hold a user or password"),
        (["curate", "--root", "s3://bucket/x"], "relative paths start from a folder"),
        (["grade", "answers.jsonl", "--output", "s3://bucket/x.jsonl"], "a path of this machine alone"),
        (["train", "convert", "rows.jsonl", "s3://bucket/x.parquet"], "a path of this machine alone"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_in_words(command: list[str], said: str) -> None:
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())
    assert not Path("s3:").exists()


def test_no_parameter_takes_an_address_for_a_path() -> None:
    """`Path("s3://b/x")` is a folder `s3:` here, so that each path has a parser which refuses it."""
    found = {}
    rooms = [vars(cli)[name] for name in cli.__all__ if inspect.ismodule(vars(cli)[name])]
    for room in rooms:
        for name, function in vars(room).items():
            if not inspect.isfunction(function) or function.__module__ != room.__name__:
                continue
            for parameter, hint in get_type_hints(
                function, vars(room) | {"StageConfig": object}, include_extras=True
            ).items():
                if get_origin(hint) is Annotated and "Path" in str(get_args(hint)[0]):
                    found[name, parameter] = hint.__metadata__[0].parser
    assert len(found) >= 7
    assert [place for place, parser in found.items() if parser is None] == []


def test_a_dry_run_looks_at_the_output_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(
        app, ["curate", "--config", "miniature", "--set", f"output={tmp_path}/file", "--dry-run"]
    )
    assert result.exit_code == 2
    assert f"error: {tmp_path}/file: cannot be a folder" in result.output


@pytest.mark.parametrize("stage", STAGES)
def test_a_missing_config_file_is_named(stage: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [stage, "--config", str(tmp_path / "absent.yaml")])
    assert result.exit_code == 2
    assert "absent.yaml: no such file" in result.output


def fails_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> Result:
    """What `s1ray recipes` shows when something below it raises."""

    def fail() -> list[str]:
        raise error

    monkeypatch.setattr(recipes, "recipe_stages", fail)
    return CliRunner().invoke(app, ["recipes"])


def test_a_users_mistake_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    result = fails_with(InputError("rows.parquet: row 3 has no question"), monkeypatch)
    assert (result.exit_code, result.output) == (2, "error: rows.parquet: row 3 has no question\n")


def test_a_run_that_is_terminated_can_be_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    result = fails_with(SystemExit(15), monkeypatch)
    assert (result.exit_code, result.output) == (143, "terminated; run the same command again to resume\n")
    assert fails_with(SystemExit(3), monkeypatch).exit_code == 3


def test_a_full_disk_and_a_file_in_the_way_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    result = fails_with(OSError(28, "No space left on device", "runs/x/traces.parquet"), monkeypatch)
    assert result.exit_code == 2
    assert result.output == (
        "error: runs/x/traces.parquet: the disk is full; make room, then run the same command again\n"
    )
    result = fails_with(NotADirectoryError(20, "Not a directory", "runs/x/journals"), monkeypatch)
    assert result.output == (
        "error: runs/x/journals: Not a directory; put that right, then run the same command again\n"
    )
    assert isinstance(fails_with(OSError(5, "Input/output error"), monkeypatch).exception, OSError)


def test_a_bug_keeps_its_traceback() -> None:
    """Also one whose exception is a ValueError, as those of a user's mistakes are."""
    code = (
        "import s1ray.recipes, s1ray.cli\n"
        "def recipe_stages():\n    a, b = (1, 2, 3)\n"
        "s1ray.recipes.recipe_stages = recipe_stages\n"
        "s1ray.cli.app(['recipes'])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert "ValueError: too many values to unpack" in result.stderr


def test_a_working_folder_that_is_gone_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = CliRunner().invoke(app, ["run", "miniature", "--dry-run"])
    assert (result.exit_code, result.output) == (
        2,
        "error: the folder that you are in was deleted; change to another one\n",
    )


@pytest.mark.parametrize("command", [["curate", "--config", "miniature"], ["run", "miniature"]])
def test_a_job_whose_output_would_be_lost_is_refused(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOB_VARIABLE, "{}")
    result = CliRunner().invoke(app, [*command, "--dry-run"])
    assert result.exit_code == 2
    assert "is deleted with the job" in result.output


def test_a_run_whose_output_is_kept_may_be_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(JOB_VARIABLE, "{}")
    assert CliRunner().invoke(app, ["run", "miniature", "--dry-run", "--output", str(tmp_path)]).exit_code == 0


def test_recipes_are_listed_with_the_command_that_uses_them() -> None:
    result = CliRunner().invoke(app, ["recipes"])
    assert result.exit_code == 0
    for command in ("s1ray train --config s1-32b", "s1ray run miniature", "s1ray curate --config miniature"):
        assert command in result.output
