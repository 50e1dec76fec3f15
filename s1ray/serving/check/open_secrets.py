"""Secrets that stand in a Serve config file, which the dashboard shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from s1ray.secrets import free_fields, refuse_inline
from s1ray.serving.http.keys import SECRET

ADVICE = (
    "the dashboard shows a Serve file to everybody who may look at it; set it in the environment of the cluster's "
    "nodes, or give the path of a file there"
)


def secret_problems(data: Mapping[str, Any]) -> Iterator[str]:
    """One message for each place with a secret; none repeats it."""
    try:
        refuse_inline(data, ADVICE)
    except ValueError as error:
        yield str(error)
        return
    applications = data.get("applications")
    for index, app in enumerate(applications if isinstance(applications, list) else ()):
        for name in ("args", "runtime_env"):
            try:
                free_fields(_without_hashes(app.get(name)) if isinstance(app, dict) else None, ADVICE)
            except ValueError as error:
                yield f"applications.{index}.{name}.{error}"


def _without_hashes(fields: object) -> object:
    """The fields without the text of a key file, from which no key can be found."""
    if not isinstance(fields, dict) or not isinstance(fields.get("env_vars"), dict):
        return fields
    return {**fields, "env_vars": {name: value for name, value in fields["env_vars"].items() if name != SECRET}}
