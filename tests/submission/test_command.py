"""The command `s1ray submit`: mistakes told before anything is sent, exit codes, labels, tokens and addresses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from s1ray.cli import app
from s1ray.config import ConfigError
from s1ray.submission.api import dashboard_address, use_token
from tests.support.job_server import Head


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["serve"], "'serve' is none of curate"),
        (["curate", "--config", "nowhere.yaml"], "no such file, and no recipe of curate"),
        (["curate", "--config", "miniature", "--set", "sizes=3"], "sizes: unknown field"),
        (["run"], "name a recipe of `run`"),
        (["run", "miniature", "--set", "curate.sizes=3"], "sizes: unknown field"),
        (["run", "-o", "nowhere.yaml"], "name a recipe of `run`"),
        (["traces", "--config", "r1", "--set", "teacher.base_url=https://me:hush@h/v1"], "must not hold a user"),
    ],
)
def test_mistakes_are_told_before_anything_is_submitted(head: Head, command: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["submit", "--address", head.address, *command])
    assert result.exit_code == 2
    assert message in result.output + result.stderr
    assert "hush" not in result.output + result.stderr
    assert not head.submitted


def test_the_command_ends_with_the_jobs_exit_code(head: Head, tmp_path: Path) -> None:
    head.script = [{"status": "FAILED", "driver_exit_code": 3, "message": "no", "start_time": 10_000}]
    prices = tmp_path / "prices.yaml"
    prices.write_text("per_hour: {head: 0.4}\n")
    command = ["submit", "--address", head.address, "--entrypoint-num-cpus", "1", "--prices", str(prices), "doctor"]
    result = CliRunner().invoke(app, [*command, "--storage", "/shared"])
    assert result.exit_code == 3
    assert head.submitted[0]["entrypoint"] == "python -m s1ray.cli doctor --storage /shared"
    assert head.submitted[0]["entrypoint_num_cpus"] == 1


def test_the_labels_of_the_drivers_node_are_checked_and_sent(head: Head) -> None:
    head.script = [{"status": "SUCCEEDED", "start_time": 10_000}]

    def submit(labels: str) -> Any:
        command = ["submit", "--address", head.address, "--entrypoint-label-selector", labels, "doctor"]
        return CliRunner().invoke(app, command)

    for wrong, message in (
        ("s1ray/role=cpu", "node_labels: Input should be a valid dictionary"),
        ("{s1ray/role: 1}", "node_labels.s1ray/role: Input should be a valid string"),
        ("{a b: cpu}", "'a b' is no label"),
        ("{", "--entrypoint-label-selector: not valid YAML"),
    ):
        result = submit(wrong)
        assert result.exit_code == 2
        assert message in result.output + result.stderr
    assert not head.submitted
    assert submit('{"s1ray/role": "cpu"}').exit_code == 0
    assert head.submitted[0]["entrypoint_label_selector"] == {"s1ray/role": "cpu"}


def test_a_token_goes_to_loopback_and_to_nobody_else_unasked(
    head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("hush")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("RAY_AUTH_MODE")
    use_token("http://10.0.0.1:8265")
    assert "RAY_AUTH_MODE" not in os.environ
    use_token("http://127.0.0.1:8265")
    assert os.environ["RAY_AUTH_MODE"] == "token"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    head.token = "hush"
    result = CliRunner().invoke(app, ["submit", "--address", head.address, "doctor"])
    assert result.exit_code == 2
    assert "the cluster wants its token: set RAY_AUTH_MODE=token" in result.output + result.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ray://h:10001", "auto", "http://me:hush@h:8265", "http://"])
def test_an_address_that_is_no_dashboards_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="--address: must be that of the dashboard") as raised:
        dashboard_address(address)
    assert "hush" not in str(raised.value)
