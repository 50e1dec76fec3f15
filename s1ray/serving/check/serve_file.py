"""Check a whole Serve YAML, unknown keys included.

Serve silently ignores unknown keys at every level: a `max_ongoing_requests` one level too deep, or a misspelt
`min_replica`, has no effect. `check_serve_config` compares the file with Serve's own schema, names every key that Serve
would drop, and validates all values and the arguments of s1ray's applications. It starts nothing.
"""

from __future__ import annotations

import difflib
import os
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from s1ray.cluster import Machine
from s1ray.config import ConfigError, parse_yaml, validate_config, yaml_problem
from s1ray.models import check_model
from s1ray.serving.check.listening import listening_problems, listening_warnings
from s1ray.serving.check.models import machine_problems, machine_warnings, model_problems, model_warnings
from s1ray.serving.check.open_secrets import secret_problems
from s1ray.serving.check.serve_schema import deploy_schema
from s1ray.serving.config import ServingConfig
from s1ray.serving.http.keys import SECRET, KeyStore
from s1ray.serving.reward.config import RewardConfig

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails
    from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

IMPORT_PATH = "s1ray.serving.app:build_app"
"""`import_path` of s1ray's applications."""

REWARD_PATH = "s1ray.serving.reward.app:build_app"
"""`import_path` of reward models."""

INGRESS = "Ingress"
"""The HTTP workers' deployment; the others are models."""

INGRESS_OVERRIDE = "each HTTP worker grants its share of every key's caps; set `ingress_replicas` in `args`"
MODEL_OVERRIDE = (
    "Serve would drop the model's whole `autoscaling`, policy and target included; set it in `args`, under the model"
)
"""Why a deployment's number of replicas may not be overridden."""


@dataclass
class Report:
    """What a check of a Serve config file found."""

    configs: dict[str, ServingConfig] = field(default_factory=dict)
    """The valid arguments of its s1ray applications, by application name."""
    rewards: int = 0
    """Reward models among its applications, whose arguments are valid."""
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check_serve_config(path: str | os.PathLike[str], machine: Machine | None = None) -> dict[str, ServingConfig]:
    """Check a Serve config file.

    Args:
        path: of the file.
        machine: that it is checked on. None: this one.

    Returns:
        The arguments of its s1ray applications, by application name.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value is wrong; one line for each problem.
    """
    return _inspect(path, machine or Machine.here()).configs


def serve_warnings(path: str | os.PathLike[str], machine: Machine | None = None) -> list[str]:
    """Valid settings of a Serve config file that are risky in production (open access, trusted code, logged prompts),
    or that this machine cannot judge or hold.

    Raises:
        ConfigError: as `check_serve_config`.
    """
    return _inspect(path, machine or Machine.here()).warnings


def _inspect(path: str | os.PathLike[str], machine: Machine) -> Report:
    data = _read(Path(path))
    if problems := list(secret_problems(data)):
        # Alone: other messages repeat what they are about.
        raise _error(path, problems)
    deploy = deploy_schema()
    report = Report(problems=list(_unknown_keys(deploy, data, "")))
    try:
        schema = deploy.model_validate(data)
    except ValidationError as error:
        report.problems += [_line(problem) for problem in error.errors(include_url=False)]
        raise _error(path, report.problems) from None
    report.problems += [*listening_problems(schema), *_route_problems(schema)]
    for index, app in enumerate(schema.applications):
        _check_application(app, f"applications.{index}", machine, report)
    if report.problems:
        raise _error(path, report.problems)
    if not report.configs and not report.rewards:
        report.warnings.append(f"no application has import_path {IMPORT_PATH}, so no `args` were checked")
    report.warnings += listening_warnings(data.get("http_options") or {}, report.configs)
    return report


def _check_application(app: ServeApplicationSchema, where: str, machine: Machine, report: Report) -> None:
    if app.import_path.replace(":", ".") == REWARD_PATH.replace(":", "."):
        try:
            check_model(validate_config(RewardConfig, dict(app.args), f"{where}.args").model, f"{where}.args.model")
            report.rewards += 1
        except ConfigError as error:
            report.problems.append(str(error))
        return
    if app.import_path.replace(":", ".") != IMPORT_PATH.replace(":", "."):
        meant = difflib.get_close_matches(app.import_path, [IMPORT_PATH], cutoff=0.8)
        if app.import_path.startswith("s1ray.") or meant:
            report.problems.append(f"{where}.import_path: must be {IMPORT_PATH}, not {app.import_path}")
        return
    try:
        config = validate_config(ServingConfig, dict(app.args), f"{where}.args")
    except ConfigError as error:
        report.problems.append(str(error))
        return
    report.configs[app.name] = config
    report.problems += [f"{where}.{problem}" for problem in _application_problems(app, config, machine)]
    keys_file = config.access.keys_file
    if keys_file is not None and not Path(keys_file).is_file():
        report.warnings.append(
            f"{app.name}: the key file {keys_file} is not on this machine; the head and what answers HTTP need it"
        )
    env = {**os.environ, **((app.runtime_env or {}).get("env_vars") or {})}
    if keys_file is None and config.access.required and SECRET not in env:
        report.warnings.append(
            f"{app.name}: args.access.required: it starts only where {SECRET} is set; it is not in this environment or "
            "under runtime_env.env_vars, so set it on the cluster, or give args.access.keys_file"
        )
    if not report.problems:
        found = (*_runtime_warnings(app), *model_warnings(config), *machine_warnings(config, machine))
        report.warnings += [f"{app.name}: {warning}" for warning in found]


def _runtime_warnings(app: ServeApplicationSchema) -> Iterator[str]:
    from ray.runtime_env import RuntimeEnv

    known = sorted(RuntimeEnv.known_fields)
    for name in sorted((app.runtime_env or {}).keys() - known):
        yield f"runtime_env.{name}: Ray knows no such field{_meant(name, known)}, unless a plugin of yours does"


def _application_problems(app: ServeApplicationSchema, config: ServingConfig, machine: Machine) -> Iterator[str]:
    given = (app.runtime_env or {}).get("env_vars")
    given = given if isinstance(given, dict) else {}
    for name, value in given.items():
        if not isinstance(value, str):
            yield f"runtime_env.env_vars.{name}: must be a text, not {value!r}; write it in quotes"
    env = {**os.environ, **given}
    yield from (f"args.{problem}" for problem in model_problems(config, env))
    yield from (f"args.{problem}" for problem in machine_problems(config, machine))
    try:
        if config.access.keys_file is not None and Path(config.access.keys_file).exists():
            KeyStore(config.access.keys_file)
    except ConfigError as error:
        yield f"args.access: {error}"
    names = deployment_names(config)
    for index, deployment in enumerate(app.deployments):
        where = f"deployments.{index}"
        if deployment.name not in names:
            yield (
                f"{where}.name: the app has no deployment {deployment.name!r}{_meant(deployment.name, names)}; "
                f"its deployments are {', '.join(names)}"
            )
            continue
        why = INGRESS_OVERRIDE if deployment.name == INGRESS else MODEL_OVERRIDE
        for key in ("autoscaling_config", "num_replicas"):
            if key in deployment.model_fields_set:
                yield f"{where}.{key}: {why}"


def _route_problems(schema: ServeDeploySchema) -> Iterator[str]:
    """Routes that Serve refuses only when it deploys, or that lead to two applications."""
    taken: dict[str, int] = {}
    for index, app in enumerate(schema.applications):
        prefix, where = app.route_prefix, f"applications.{index}.route_prefix"
        if prefix is None:
            continue
        if not prefix.startswith("/") or (prefix != "/" and prefix.endswith("/")) or "{" in prefix or " " in prefix:
            plain = "/" + "".join(prefix.split()).strip("/").replace("{", "").replace("}", "")
            yield f"{where}: must begin with '/' and be a plain path, such as {plain!r}, not {prefix!r}"
        first = taken.setdefault(prefix.strip("/"), index)
        if first != index:
            yield f"{where}: applications.{first} has this route, too; give each application its own"


def deployment_names(config: ServingConfig) -> list[str]:
    """The application's deployments, by the names that `deployments[].name` in a Serve YAML refers to."""
    ingress = [] if config.direct else [INGRESS]
    return [*ingress, *(deployment_name(model.name) for model in config.models)]


def deployment_name(model: str) -> str:
    """The name of a model's deployment."""
    return f"BudgetForcingServer:{model.replace('/', '--').replace('.', '_')}"


def _read(path: Path) -> dict[str, Any]:
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not readable as YAML: {yaml_problem(error)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: the top level must be a mapping with `applications`, not {type(data).__name__}")
    return data


def _unknown_keys(model: type[BaseModel], data: object, where: str) -> Iterator[str]:
    """One message for every key in `data`, at any depth, that `model` does not have."""
    if not isinstance(data, dict):
        return
    names = dict(model.model_fields) | {info.alias: info for info in model.model_fields.values() if info.alias}
    for key, value in data.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in names:
            known = [name for name in names if not name.startswith("_")]
            meant = _meant(str(key), known)
            yield f"{path}: unknown key, Serve would drop it{meant}; the keys here are {', '.join(known)}"
            continue
        yield from _inside(names[key].annotation, value, path)


def _inside(annotation: object, value: object, where: str) -> Iterator[str]:
    models = list(_models(annotation))
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _inside(annotation, item, f"{where}.{index}")
    elif isinstance(value, dict) and len(models) == 1:
        yield from _unknown_keys(models[0], value, where)
        if dict in _arms(annotation):
            # Serve's schema accepts any mapping here and validates it only when it deploys.
            try:
                models[0].model_validate(value)
            except ValidationError as error:
                yield from (_line(problem, where) for problem in error.errors(include_url=False))
            except ImportError as error:
                yield f"{where}: {error}"


def _arms(annotation: object) -> list[object]:
    return [typing.get_origin(arm) or arm for arm in typing.get_args(annotation)]


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def _meant(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _line(problem: ErrorDetails, where: str = "") -> str:
    field = ".".join([where] * bool(where) + [str(part) for part in problem["loc"]]) or "(whole file)"
    return f"{field}: {problem['msg'].removeprefix('Value error, ')}"


def _error(path: str | os.PathLike[str], problems: list[str]) -> ConfigError:
    lines = "\n".join(f"  {line}" for line in problems)
    return ConfigError(f"{path}: {len(problems)} problem(s) in the Serve config:\n{lines}")
