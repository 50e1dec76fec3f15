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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from s1ray.cluster import check_accelerator_type
from s1ray.config import ConfigError, parse_yaml, validate_config
from s1ray.errors import InputError
from s1ray.generation.engine import check_engine_kwargs
from s1ray.models import check_model
from s1ray.serving.config import ServingConfig
from s1ray.serving.http.keys import SECRET, KeyStore

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails
    from ray.serve.schema import ServeApplicationSchema

IMPORT_PATH = "s1ray.serving.app:build_app"
"""`import_path` of s1ray's applications."""

INGRESS = "Ingress"
"""The HTTP workers' deployment; the others are models."""

INGRESS_OVERRIDE = "each HTTP worker grants its share of every key's caps; set `ingress_replicas` in `args`"
MODEL_OVERRIDE = (
    "Serve would drop the model's whole `autoscaling`, policy and target included; set it in `args`, under the model"
)
"""Why a deployment's number of replicas may not be overridden."""

MAX_PORT = 65_535
LOOPBACK = ("127.0.0.1", "localhost", "::1")

DEFAULT_HOST = "0.0.0.0"
"""Where Serve listens if a file gives no `http_options.host`."""


def check_serve_config(path: str | os.PathLike[str]) -> dict[str, ServingConfig]:
    """Check a Serve config file.

    Returns:
        The arguments of its s1ray applications, by application name.

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
    if schema.http_options is not None and not 0 <= schema.http_options.port <= MAX_PORT:
        problems.append(f"http_options.port: must be from 0 to {MAX_PORT}, not {schema.http_options.port}")
    found: dict[str, ServingConfig] = {}
    for index, app in enumerate(schema.applications):
        where = f"applications.{index}"
        if app.import_path.replace(":", ".") != IMPORT_PATH.replace(":", "."):
            if app.import_path.startswith("s1ray."):
                problems.append(f"{where}.import_path: must be {IMPORT_PATH}, not {app.import_path}")
            continue
        try:
            found[app.name] = config = validate_config(ServingConfig, dict(app.args), f"{where}.args")
        except ConfigError as error:
            problems.append(str(error))
            continue
        problems += [f"{where}.{problem}" for problem in _application_problems(app, config)]
    if problems:
        raise _error(path, problems)
    return found


def _application_problems(app: ServeApplicationSchema, config: ServingConfig) -> Iterator[str]:
    yield from (f"args.{problem}" for problem in model_problems(config))
    try:
        if config.access.keys_file is not None and Path(config.access.keys_file).is_file():
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


def model_problems(config: ServingConfig) -> Iterator[str]:
    """Folders of models that hold none, and engine arguments and accelerator types that vLLM and Ray do not know; one
    message each.
    """
    for index, model in enumerate(config.models):
        if model.folder is not None:
            try:
                check_model(model.model, f"models.{index}.model")
            except ConfigError as error:
                yield str(error)
        try:
            check_engine_kwargs(model)
        except InputError as error:
            yield f"models.{index}.{error}"
        if model.accelerator_type is not None:
            try:
                check_accelerator_type(model.accelerator_type, f"models.{index}.accelerator_type")
            except ConfigError as error:
                yield str(error)


def serve_warnings(path: str | os.PathLike[str]) -> list[str]:
    """Valid settings of a Serve config file that are risky in production: open access, trusted code, logged prompts.

    Raises:
        ConfigError: as `check_serve_config`.
    """
    warnings = []
    configs = check_serve_config(path)
    if not configs:
        warnings.append(f"no application has import_path {IMPORT_PATH}, so no `args` were checked")
    options = _read(Path(path)).get("http_options") or {}
    host = options.get("host", DEFAULT_HOST)
    for name, config in configs.items():
        if host not in LOOPBACK and config.access.keys_file is None and not config.access.required:
            given = "" if "host" in options else " (Serve's default, because the file gives no http_options.host)"
            warnings.append(
                f"{name}: anyone who reaches {host}{given} may use it: give args.access.keys_file, or set {SECRET} on "
                "the cluster and args.access.required, or put a gateway that checks keys in front"
            )
        keys_file = config.access.keys_file
        if keys_file is not None and not Path(keys_file).is_file():
            warnings.append(
                f"{name}: the key file {keys_file} is not on this machine; the head and every HTTP worker need it"
            )
        for model in config.models:
            if Path(model.model).is_absolute() and not Path(model.model).is_dir():
                warnings.append(f"{name}: no folder {model.model} on this machine; every serving node needs it")
            if model.engine_kwargs.get("trust_remote_code"):
                warnings.append(f"{name}: {model.name} runs code from its model folder (trust_remote_code)")
            if model.engine_kwargs.get("enable_log_requests"):
                warnings.append(f"{name}: {model.name} logs every prompt (enable_log_requests)")
    return warnings


def deployment_names(config: ServingConfig) -> list[str]:
    """The application's deployments, by the names that `deployments[].name` in a Serve YAML refers to."""
    return [INGRESS, *(f"BudgetForcingServer:{m.name.replace('/', '--').replace('.', '_')}" for m in config.models)]


def _read(path: Path) -> dict[str, Any]:
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
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
