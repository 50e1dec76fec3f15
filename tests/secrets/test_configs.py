"""Configs with secrets in all places and shapes: each is refused in words, and no output or file has the secret."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from s1ray.cli import app
from s1ray.config import ConfigError, validate_config
from s1ray.recipes import find_recipe
from s1ray.serving.check import serve_warnings

KEY = "sk-proj-Hush0123456789abcdefHush"
WORD = "HushHushHush"
FORBIDDEN = (KEY, WORD, "Hush0123")

TEACHER = {"kind": "openai", "base_url": "https://api.test/v1", "model": "m"}
EXTRA: dict[str, Any] = {"extra_body": {"headers": {"Authorization": f"Bearer {WORD}"}}}

STAGES: dict[str, tuple[str, str, dict[str, object]]] = {
    "a teacher's user and password": ("traces", "r1", {"teacher.base_url": f"https://me:{WORD}@api.test/v1"}),
    "a teacher's query": ("traces", "r1", {"teacher.base_url": f"https://api.test/v1?key={WORD}"}),
    "a teacher's fragment": ("traces", "r1", {"teacher.base_url": f"https://api.test/v1#{KEY}"}),
    "a teacher's address without a scheme": ("traces", "r1", {"teacher.base_url": f"me:{WORD}@api.test/v1"}),
    "a key in place of its reference": ("traces", "r1", {"teacher.api_key": KEY}),
    "a word in place of its reference": ("traces", "r1", {"teacher.api_key": WORD}),
    "a variable's value": ("traces", "r1", {"teacher.api_key": f"env:{KEY}"}),
    "extra_body.api_key": ("traces", "r1", {"teacher.extra_body": {"api_key": WORD}}),
    "a header": ("traces", "r1", {"teacher.extra_body": {"headers": {"Authorization": f"Basic {WORD}"}}}),
    "a nested password": ("traces", "r1", {"teacher.extra_body": {"a": [{"b": {"password": WORD}}]}}),
    "a text in place of a body": ("traces", "r1", {"teacher.extra_body": f"Bearer {WORD}"}),
    "a key in the prompt": ("traces", "r1", {"teacher.prompt": f"{{question}} {KEY}"}),
    "a key as a field's name": ("traces", "r1", {f"teacher.{KEY}": 1}),
    "an unknown field": ("traces", "r1", {"teacher.api_token": WORD}),
    "a judge's": ("traces", "r1.correct", {"judge.extra_body": {"token": WORD}}),
    "a student's engine": ("curate", "miniature", {"difficulty": {"kind": "model", "models": {
        "m": {"kind": "vllm", "engine": {"model": "miniature-base", "engine_kwargs": {"hf_token": WORD}}}}}}),
    "a source's path": ("curate", "miniature", {"sources": [
        {"kind": "file", "path": f"https://me:{WORD}@h/pool.jsonl"}]}),
    "a signed address": ("curate", "miniature", {"decontamination.benchmarks": [
        f"https://account.blob.core.windows.net/c?sv=1&sig={WORD}"]}),
    "an endpoint's": ("eval", "miniature", {"endpoint.base_url": f"http://me:{WORD}@127.0.0.1:8000/v1"}),
    "an endpoint's replica": ("eval", "miniature", {"endpoint.replicas": [f"http://h/v1?token={WORD}"]}),
    "an endpoint's key": ("eval", "miniature", {"endpoint.api_key": WORD}),
    "a served model's body": ("eval", "miniature", {"models": [{"label": "a", "name": "x", **EXTRA}]}),
    "a reward model's address": ("eval", "miniature", {"arms": [
        {"strategy": "best_by_reward", "reward": {"base_url": f"http://me:{WORD}@h/v1"}}]}),
    "a tracking server's": ("train", "miniature", {"tracking": {"mlflow": {
        "experiment": "e", "tracking_uri": f"https://me:{WORD}@mlflow.test"}}}),
    "a W&B key as a project": ("train", "miniature", {"tracking": {"wandb": {"project": f"p-{KEY}"}}}),
    "a W&B key of its own": ("train", "miniature", {"tracking": {"wandb": {"project": "p", "api_key": WORD}}}),
    "a repository to publish to": ("train", "miniature", {"push_to": f"https://me:{WORD}@huggingface.co/o/n"}),
    "an output": ("train", "miniature", {"output": f"s3://AKIAIOSFODNN7EXAMPLE:{WORD}@bucket/run"}),
    "a model's address": ("train", "miniature", {"model": f"https://me:{WORD}@h/model"}),
}  # fmt: skip


@pytest.mark.parametrize("case", STAGES.values(), ids=STAGES.keys())
def test_a_stage_refuses_it(
    case: tuple[str, str, dict[str, object]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage, recipe, changes = case
    command = [stage, "--config", recipe, "--dry-run", "--set", f"output={tmp_path}/run"]
    for field, value in changes.items():
        command += ["--set", f"{field}={yaml.safe_dump(value, default_flow_style=True, width=10**6)}"]
    refused(command, tmp_path, caplog)


@pytest.mark.parametrize("case", STAGES.values(), ids=STAGES.keys())
def test_a_stages_file_with_it_is_refused(
    case: tuple[str, str, dict[str, object]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage, recipe, changes = case
    data = yaml.safe_load(find_recipe(recipe, stage).read_text()) | {"output": str(tmp_path / "run")}
    for dotted, value in changes.items():
        *sections, field = dotted.split(".")
        node = data
        for section in sections:
            node = node.setdefault(section, {})
        node[field] = value
    file = tmp_path / "config" / "stage.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(data))
    refused([stage, "--config", str(file), "--dry-run"], tmp_path, caplog, but=file)


@pytest.mark.parametrize(
    "text",
    [f"output: run\napi_key: {KEY}: x\n", f"- [{KEY}\n", f"api_key: {WORD}\napi_key: 2\n", f"a: 'b\nx: {KEY}\n"],
)
def test_a_file_that_is_no_yaml_does_not_show_its_lines(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "stage.yaml"
    file.write_text(text)
    refused(["traces", "--config", str(file)], tmp_path, caplog, but=file)


def test_a_series_of_stages_refuses_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = find_recipe("miniature", "run")
    for change in (f"traces.teacher.extra_body={{api_key: {WORD}}}", f"eval.endpoint.base_url=http://me:{WORD}@h/v1"):
        refused(["run", str(recipe), "-o", str(tmp_path / "run"), "--dry-run", "--set", change], tmp_path, caplog)


SERVED = {"name": "m", "model": "miniature-base"}


@pytest.mark.parametrize(
    "change",
    [
        {"runtime_env": {"env_vars": {"HF_TOKEN": WORD}}},
        {"runtime_env": {"env_vars": {"SOME": KEY}}},
        {"runtime_env": {"working_dir": f"https://me:{WORD}@h/app.zip"}},
        {"args": {"models": [{**SERVED, "engine_kwargs": {"hf_token": WORD}}]}},
        {"args": {"models": [{**SERVED, "adapters": {"folder": f"s3://A:{WORD}@bucket/adapters"}}]}},
        {"args": {"models": [SERVED], "access": {"keys_file": KEY}}},
        {"import_path": "own:app", "args": {"deep": [{"api_key": WORD}]}},
    ],
)
def test_a_serve_file_with_it_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    application = {
        **{"name": "s1ray", "route_prefix": "/", "import_path": "s1ray.serving.app:build_app"},
        **{"args": {"models": [SERVED]}},
        **change,
    }
    file = tmp_path / "serve.yaml"
    file.write_text(yaml.safe_dump({"applications": [application]}))
    with pytest.raises(ConfigError) as raised:
        serve_warnings(file)
    shown(str(raised.value))


def test_a_configs_own_error_hides_what_it_was_given() -> None:
    from s1ray.evaluation.config import Endpoint

    with pytest.raises(ValueError, match="api_key") as raised:
        Endpoint(api_key=WORD)  # type: ignore[arg-type]
    shown(str(raised.value))
    with pytest.raises(ConfigError) as refused:
        validate_config(Endpoint, {"api_key": WORD, "concurrency": "many"}, "test")
    shown(str(refused.value))
    assert refused.value.__cause__ is None


def refused(command: list[str], folder: Path, caplog: pytest.LogCaptureFixture, but: Path | None = None) -> None:
    with caplog.at_level(logging.DEBUG):
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 2, "it was not refused"
    shown(result.output + result.stderr + caplog.text)
    for file in folder.rglob("*"):
        if file.is_file() and file != but:
            shown(file.read_text(errors="replace"))


def shown(text: str) -> None:
    # No comparison that a failing test would print.
    if any(word.lower() in text.lower() for word in FORBIDDEN):
        pytest.fail("the secret is shown", pytrace=False)
