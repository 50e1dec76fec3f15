"""Whole Serve files: the shipped ones are valid, and every mistake is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from s1ray.config import ConfigError
from s1ray.serving.check import IMPORT_PATH, check_serve_config, deployment_names, serve_warnings
from s1ray.serving.config import ServingConfig

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted(
    path
    for path in [*ROOT.glob("*.yaml"), *ROOT.glob("deploy/**/*.yaml"), *ROOT.glob("s1ray/**/*.yaml")]
    if IMPORT_PATH in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_shipped_serve_config_is_valid(path: Path) -> None:
    assert check_serve_config(path)


def test_serve_config_is_among_the_shipped() -> None:
    assert ROOT / "serve_config.yaml" in SHIPPED


SERVE = """
http_options: {host: 127.0.0.1}
applications:
  - name: app
    import_path: s1ray.serving.app:build_app
    args:
      models: [{name: org/m.1, model: miniature-base}]
    deployments:
      - name: BudgetForcingServer:org--m_1
        autoscaling_config: {min_replicas: 1, max_replicas: 2}
"""


REPLACED = "autoscaling_config: {min_replicas: 1, max_replicas: 2}"
"""Valid for Serve, but it would replace the model's own autoscaling."""


def check_text(tmp_path: Path, text: str) -> dict[str, ServingConfig]:
    path = tmp_path / "serve.yaml"
    path.write_text(text, encoding="utf-8")
    return check_serve_config(path)


def test_a_valid_file_gives_the_arguments_of_its_applications(tmp_path: Path) -> None:
    found = check_text(tmp_path, SERVE.replace(REPLACED, "health_check_period_s: 5"))
    assert [model.name for model in found["app"].models] == ["org/m.1"]
    assert deployment_names(found["app"]) == ["BudgetForcingServer:org--m_1"]
    behind = found["app"].model_copy(update={"http": "worker"})
    assert deployment_names(behind) == ["Ingress", "BudgetForcingServer:org--m_1"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("http_options:", "http_option:", r"http_option: unknown key.*did you mean 'http_options'"),
        ("host:", "hots:", r"http_options.hots: unknown key"),
        ("name: app", "nam: app", r"applications.0.nam: unknown key"),
        ("{min_replicas: 1,", "{min_replica: 1,", r"deployments.0.autoscaling_config.min_replica: unknown key"),
        ("{min_replicas: 1,", "{max_ongoing_requests: 1,", r"autoscaling_config.max_ongoing_requests: unknown key"),
        ("{min_replicas: 1,", "{min_replicas: many,", r"deployments.0.autoscaling_config.min_replicas"),
        ("max_replicas: 2}", "max_replicas: 0}", r"deployments.0.autoscaling_config"),
        ("BudgetForcingServer:org--m_1", "BudgetForcingServer:m", r"has no deployment 'BudgetForcingServer:m'"),
        (
            "model: miniature-base}",
            "model: miniature-base, wait: 1}",
            r"applications.0.args.*\n.*models.0.wait: unknown",
        ),
        ("models: [", "model: [", r"model: unknown field"),
        ("    deployments:", "    name: twice\n    deployments:", r"'name' is given twice"),
        ("applications:", "applications: [", "not readable as YAML"),
    ],
)
def test_every_mistake_in_a_serve_file_is_named(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in SERVE
    with pytest.raises(ConfigError, match=problem):
        check_text(tmp_path, SERVE.replace(old, new, 1))


@pytest.mark.parametrize("option", [REPLACED, "num_replicas: 2"])
def test_options_that_would_replace_a_models_autoscaling_are_refused(tmp_path: Path, option: str) -> None:
    problem = r"deployments.0.(autoscaling_config|num_replicas): Serve would drop .*`autoscaling`"
    with pytest.raises(ConfigError, match=problem):
        check_text(tmp_path, SERVE.replace(REPLACED, option))


def test_the_number_of_http_workers_cannot_be_overridden(tmp_path: Path) -> None:
    text = SERVE.replace("BudgetForcingServer:org--m_1", "Ingress")
    with pytest.raises(ConfigError, match=r"no deployment 'Ingress'"):
        check_text(tmp_path, text)
    text = text.replace("models: [", "http: worker\n      models: [")
    with pytest.raises(ConfigError, match=r"deployments.0.autoscaling_config: .* set `ingress_replicas`"):
        check_text(tmp_path, text)
    assert check_text(tmp_path, text.replace(REPLACED, "max_surge_percent: 100"))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("host: 127.0.0.1", "host: 127.0.0.1, port: 99999", r"http_options.port: must be from 0 to 65535, not 99999"),
        (
            IMPORT_PATH,
            "s1ray.serving.ap:build_app",
            r"import_path: must be s1ray.serving.app:build_app, not s1ray.serving.ap:build_app",
        ),
        ("args:", "args:\n      access: {keys_file: FILE}", r"args.access: .*keys.0.sha256: must be the SHA-256"),
    ],
)
def test_values_that_fail_only_at_run_time_are_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text("keys: [{name: a, sha256: s1ray-secret}]")
    text = SERVE.replace(REPLACED, "health_check_period_s: 5")
    assert old in text
    with pytest.raises(ConfigError, match=f"(?s){problem}") as caught:
        check_text(tmp_path, text.replace(old, new.replace("FILE", str(keys)), 1))
    assert "s1ray-secret" not in str(caught.value)


def test_yaml_merge_keys_work(tmp_path: Path) -> None:
    text = SERVE.replace(REPLACED, "health_check_period_s: 5").replace(
        "models: [{name: org/m.1, model: miniature-base}]",
        "models: [&m {name: org/m.1, model: miniature-base}, {<<: *m, name: other}]",
    )
    assert [model.name for model in check_text(tmp_path, text)["app"].models] == ["org/m.1", "other"]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ("engine_kwargs: {gpu_memory_utilisation: 0.9}", "no such argument; did you mean 'gpu_memory_utilization'"),
        ("engine_kwargs: {disable_log_stats: true}", r"engine_kwargs.disable_log_stats: autoscaling needs"),
        ("accelerator_type: H1000", "models.0.accelerator_type: Ray knows no accelerator 'H1000'; did you mean .*H100"),
        ("max_queued_requests: 0", "max_queued_requests: must be 1 or more"),
    ],
)
@pytest.mark.parametrize("path", [IMPORT_PATH, IMPORT_PATH.replace(":", ".")])
def test_engine_arguments_and_accelerators_are_checked(tmp_path: Path, path: str, fields: str, problem: str) -> None:
    text = SERVE.replace(REPLACED, "health_check_period_s: 5").replace(IMPORT_PATH, path)
    assert check_text(tmp_path, text.replace("miniature-base}", "miniature-base, engine_kwargs: {seed: 1}}"))
    with pytest.raises(ConfigError, match=problem):
        check_text(tmp_path, text.replace("miniature-base}", f"miniature-base, {fields}}}"))


def test_several_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        check_text(tmp_path, SERVE.replace("host:", "hots:").replace("min_replicas", "min_replica"))
    assert "hots" in str(caught.value)
    assert "min_replica:" in str(caught.value)


def test_a_missing_or_empty_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        check_serve_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="top level"):
        check_text(tmp_path, "")


def test_other_applications_are_checked_against_serves_schema_only(tmp_path: Path) -> None:
    text = "applications: [{name: other, import_path: 'a.b:c', args: {anything: 1}}]"
    assert check_text(tmp_path, text) == {}
    (warning,) = serve_warnings(tmp_path / "serve.yaml")
    assert "no `args` were checked" in warning


@pytest.mark.parametrize(
    ("http", "args", "warned"),
    [
        ("{host: 127.0.0.1}", {}, []),
        ("{host: 0.0.0.0}", {}, ["anyone who reaches 0.0.0.0"]),
        ("{port: 8000}", {}, ["Serve's default"]),
        (
            "{host: 0.0.0.0}",
            {"access": {"keys_file": "/nowhere/keys.yaml"}},
            ["key file /nowhere/keys.yaml is not"],
        ),
        ("{host: 0.0.0.0}", {"access": {"required": True}}, ["it starts only where S1RAY_API_KEYS is set"]),
        ("{host: 127.0.0.1}", {"trust_remote_code": True}, ["runs code"]),
        ("{host: 127.0.0.1}", {"enable_log_requests": True}, ["logs every prompt"]),
    ],
)
def test_open_access_trusted_code_and_logged_prompts_give_warnings(
    tmp_path: Path, http: str, args: dict[str, Any], warned: list[str]
) -> None:
    access = {"access": args["access"]} if "access" in args else {}
    model = {
        "name": "m",
        "model": "miniature-base",
        "engine_kwargs": {key: value for key, value in args.items() if key != "access"},
    }
    application = {"name": "a", "import_path": IMPORT_PATH, "args": {"models": [model]} | access}
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump({"http_options": yaml.safe_load(http), "applications": [application]}))
    warnings = serve_warnings(path)
    assert len(warnings) == len(warned)
    assert all(text in warning for text, warning in zip(warned, warnings, strict=True))


def test_the_shipped_serve_config_gives_no_warning() -> None:
    assert serve_warnings(ROOT / "serve_config.yaml") == []


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"applications.0.args.models.0.model: .*empty' holds no model"):
        check_text(
            tmp_path,
            SERVE.replace(REPLACED, "health_check_period_s: 5").replace("miniature-base", str(tmp_path / "empty")),
        )
