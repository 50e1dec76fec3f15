"""The command line: fast help, messages instead of tracebacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from s1ray.cli import app
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


@pytest.mark.parametrize("stage", STAGES)
def test_a_missing_config_file_is_named(stage: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [stage, "--config", str(tmp_path / "absent.yaml")])
    assert result.exit_code == 2
    assert "absent.yaml: no such file" in result.output
