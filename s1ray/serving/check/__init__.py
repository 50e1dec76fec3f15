"""Checks a whole Serve YAML, before anything is started: its keys, its values, and the models and adapters it names."""

from s1ray.serving.check.models import model_problems
from s1ray.serving.check.serve_file import (
    IMPORT_PATH,
    INGRESS,
    check_serve_config,
    deployment_name,
    deployment_names,
    serve_warnings,
)

__all__ = [
    "IMPORT_PATH",
    "INGRESS",
    "check_serve_config",
    "deployment_name",
    "deployment_names",
    "model_problems",
    "serve_warnings",
]
