"""Checks a whole Serve YAML, unknown keys included.

Serve ignores keys that it does not know, at every level: a `max_ongoing_requests` one level too deep, or a misspelt
`min_replica`, changes nothing and says nothing. `check_serve_config` walks the file beside Serve's own schema and names
every key that would be dropped, validates the values, and validates the arguments of our applications. Nothing is
started.
"""

from __future__ import annotations

import difflib
import os
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from s1ray.cluster import check_accelerator_type
from s1ray.config import ConfigError, UniqueKeyLoader, validate_config
from s1ray.generation.engine import check_engine_kwargs
from s1ray.serving.config import ServingConfig
from s1ray.serving.http.keys import SECRET, KeyStore

IMPORT_PATH = "s1ray.serving.app:build_app"
"""`import_path` of our applications."""


INGRESS = "Ingress"
"""The deployment of the HTTP workers; the others are models."""

OWN_NUMBER = "each HTTP worker grants its part of every key's caps; set `ingress_replicas` in `args`"
OWN_AUTOSCALING = (
    "Serve would drop all of the model's own `autoscaling`, its policy and its target included; set it in `args`, "
    "under the model"
)
"""Why these overrides are none."""

LARGEST_PORT = 65_535
LOOPBACK = ("127.0.0.1", "localhost", "::1")

SERVES_OWN_HOST = "0.0.0.0"
"""Where Serve listens for a file without `http_options.host`."""


def check_serve_config(path: str | os.PathLike[str]) -> dict[str, ServingConfig]:
    """Check a Serve config file.

    Returns:
        The arguments of our applications in it, by application name.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value is wrong; one line for each problem.
    """
    from ray.serve.schema import ServeDeploySchema

    data = _read(Path(path))
    problems = list(_unknown_keys(ServeDeploySchema, data, ""))
    try:
        schema = ServeDeploySchema.model_validate(data)
    except ValidationError as error:
        problems += [_line(problem) for problem in error.errors(include_url=False)]
        raise _error(path, problems) from None
    if schema.http_options is not None and not 0 <= schema.http_options.port <= LARGEST_PORT:
        problems.append(f"http_options.port: must be from 0 to {LARGEST_PORT}, not {schema.http_options.port}")
    found: dict[str, ServingConfig] = {}
    for index, app in enumerate(schema.applications):
        where = f"applications.{index}"
        if app.import_path.replace(":", ".") != IMPORT_PATH.replace(":", "."):
            if app.import_path.startswith("s1ray."):
                problems.append(f"{where}.import_path: there is no {app.import_path}; it is {IMPORT_PATH}")
            continue
        try:
            found[app.name] = config = validate_config(ServingConfig, dict(app.args), f"{where}.args")
        except ConfigError as error:
            problems.append(str(error))
            continue
        problems += [f"{where}.args.{problem}" for problem in model_problems(config)]
        try:
            if config.access.keys_file is not None and Path(config.access.keys_file).is_file():
                KeyStore(config.access.keys_file)
        except ConfigError as error:
            problems.append(f"{where}.args.access: {error}")
        names = deployment_names(config)
        for position, deployment in enumerate(app.deployments):
            if deployment.name not in names:
                problems.append(
                    f"{where}.deployments.{position}.name: the app has no deployment {deployment.name!r}"
                    f"{_meant(deployment.name, names)}; its deployments are {', '.join(names)}"
                )
                continue
            why = OWN_NUMBER if deployment.name == INGRESS else OWN_AUTOSCALING
            problems += [
                f"{where}.deployments.{position}.{key}: {why}"
                for key in ("autoscaling_config", "num_replicas")
                if key in deployment.model_fields_set
            ]
    if problems:
        raise _error(path, problems)
    return found


def model_problems(config: ServingConfig) -> Iterator[str]:
    """What the models ask of vLLM and of Ray, and these do not know."""
    for index, model in enumerate(config.models):
        try:
            check_engine_kwargs(model)
        except ValueError as error:
            yield f"models.{index}.{error}"
        if model.accelerator_type is not None:
            try:
                check_accelerator_type(model.accelerator_type, f"models.{index}.accelerator_type")
            except ConfigError as error:
                yield str(error)


def serve_warnings(path: str | os.PathLike[str]) -> list[str]:
    """What is valid in a Serve config file, but seldom meant for users: who may reach the server, and what it trusts.

    Raises:
        ConfigError: as `check_serve_config`.
    """
    warnings = []
    configs = check_serve_config(path)
    if not configs:
        warnings.append(f"no application of ours is in it (import_path: {IMPORT_PATH}): no `args` were checked")
    options = _read(Path(path)).get("http_options") or {}
    host = options.get("host", SERVES_OWN_HOST)
    for name, config in configs.items():
        if host not in LOOPBACK and config.access.keys_file is None and not config.access.required:
            given = "" if "host" in options else " (Serve's own default: the file gives no http_options.host)"
            warnings.append(
                f"{name}: everybody who reaches {host}{given} may use it: give args.access.keys_file, or keys in the "
                f"cluster's {SECRET} with args.access.required, or put a gateway that checks keys in front"
            )
        keys_file = config.access.keys_file
        if keys_file is not None and not Path(keys_file).is_file():
            warnings.append(
                f"{name}: there is no key file {keys_file} here; the head and every HTTP worker must have it"
            )
        for model in config.models:
            if Path(model.model).is_absolute() and not Path(model.model).is_dir():
                warnings.append(f"{name}: there is no folder {model.model} here; every node that serves must have it")
            if model.engine_kwargs.get("trust_remote_code"):
                warnings.append(f"{name}: {model.name} runs code from its model's folder (trust_remote_code)")
            if model.engine_kwargs.get("enable_log_requests"):
                warnings.append(f"{name}: {model.name} writes every prompt into the logs (enable_log_requests)")
    return warnings


def deployment_names(config: ServingConfig) -> list[str]:
    """The names of the application's deployments, as `deployments[].name` in a Serve YAML overrides them."""
    return [INGRESS, *(f"BudgetForcingServer:{m.name.replace('/', '--').replace('.', '_')}" for m in config.models)]


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: the top level must be a mapping with `applications`, not {type(data).__name__}")
    return data


def _unknown_keys(model: type[BaseModel], data: Any, where: str) -> Iterator[str]:
    """Every key in `data` that `model` does not have, at any depth."""
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


def _inside(annotation: Any, value: Any, where: str) -> Iterator[str]:
    models = list(_models(annotation))
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _inside(annotation, item, f"{where}.{index}")
    elif isinstance(value, dict) and len(models) == 1:
        yield from _unknown_keys(models[0], value, where)
        if dict in _arms(annotation):
            # Serve's schema takes any mapping here and reads it only when it deploys.
            try:
                models[0].model_validate(value)
            except (ValidationError, ImportError) as error:
                found = error.errors(include_url=False) if isinstance(error, ValidationError) else []
                yield from (_line(problem, where) for problem in found)
                if isinstance(error, ImportError):
                    yield f"{where}: {error}"


def _arms(annotation: Any) -> list[Any]:
    return [typing.get_origin(arm) or arm for arm in typing.get_args(annotation)]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def _meant(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _line(problem: Any, where: str = "") -> str:
    field = ".".join([where] * bool(where) + [str(part) for part in problem["loc"]]) or "(whole file)"
    return f"{field}: {problem['msg'].removeprefix('Value error, ')}"


def _error(path: str | os.PathLike[str], problems: list[str]) -> ConfigError:
    lines = "\n".join(f"  {line}" for line in problems)
    return ConfigError(f"{path}: {len(problems)} problem(s) in the Serve config:\n{lines}")
