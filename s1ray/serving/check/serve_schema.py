"""Serve's own schema of a config file, without the rest of Serve.

`import ray.serve.schema` imports all of Serve, and with it pandas and FastAPI, which takes seconds; the schema needs
none of them. Here only those statements of Serve's source are executed that define the schema's classes and what these
refer to: as they are, and in their order. What they import from outside Serve is imported as usual.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from ray.serve.schema import ServeDeploySchema

SERVE = "ray.serve"
MODULE = "ray.serve.schema"
CLASS = "ServeDeploySchema"


@cache
def deploy_schema() -> type[ServeDeploySchema]:
    """`ray.serve.schema.ServeDeploySchema`; where Serve is not imported yet, a class of the same source.

    If the installed Ray's source does not allow that, Serve is imported.
    """
    if MODULE not in sys.modules:
        with contextlib.suppress(Exception):
            return schema_from_source()
    from ray.serve import schema

    whole: type[ServeDeploySchema] = schema.ServeDeploySchema
    return whole


def schema_from_source() -> type[ServeDeploySchema]:
    """`ServeDeploySchema`, made of the statements of Serve's source that it needs.

    Raises:
        Exception: of any kind: there is no source, or it defines a name in a way that is not followed here.
    """
    schema: type[ServeDeploySchema] = execute(MODULE, needed_statements(MODULE, CLASS), {})[CLASS]
    if not schema.__pydantic_complete__:
        raise NameError(f"{CLASS} refers to a class that was not found")
    return schema


def needed_statements(module: str, name: str) -> dict[str, set[int]]:
    """The statements that a definition needs, its own included.

    Args:
        module: of Serve.
        name: that it defines.

    Returns:
        Module of Serve -> indices of its statements.

    Raises:
        FileNotFoundError: a module has no source.
    """
    needed: dict[str, set[int]] = defaultdict(set)
    waiting = [(module, name)]
    while waiting:
        module, name = waiting.pop()
        new = _definitions(module).get(name, set()) - needed[module]
        needed[module] |= new
        for statement in (_statements(module)[index] for index in new):
            if _is_from_serve(statement):
                waiting.append((str(statement.module), statement.names[0].name))
            else:
                waiting += [(module, node.id) for node in ast.walk(statement) if isinstance(node, ast.Name)]
    return needed


def execute(module: str, needed: Mapping[str, set[int]], done: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Execute a module's needed statements, and before them those of the modules that it imports from.

    Args:
        module: of Serve.
        needed: of `needed_statements`.
        done: module -> its names, of modules that were executed already; those that are executed now are added.

    Returns:
        The module's names.

    Raises:
        Exception: whatever a statement raises.
    """
    if module in done:
        return done[module]
    names = done[module] = {"__name__": module}
    body = []
    for index, statement in enumerate(_statements(module)):
        if index in needed[module] and _is_from_serve(statement):
            imported = statement.names[0]
            names[imported.asname or imported.name] = execute(str(statement.module), needed, done)[imported.name]
        elif index in needed[module] or (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
            body.append(statement)
    exec(compile(ast.Module(body, type_ignores=[]), _file(module), "exec", dont_inherit=True), names)
    return names


def _is_from_serve(statement: ast.stmt) -> TypeGuard[ast.ImportFrom]:
    return isinstance(statement, ast.ImportFrom) and f"{statement.module}.".startswith(f"{SERVE}.")


def _file(module: str) -> Path:
    spec = importlib.util.find_spec(SERVE)
    folders = (spec.submodule_search_locations if spec is not None else None) or []
    parts = module.removeprefix(SERVE).split(".")
    for path in (Path(folder, *parts) for folder in folders):
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    raise FileNotFoundError(f"no source of {module}")


@cache
def _statements(module: str) -> list[ast.stmt]:
    """A module's statements; an import of several names is one statement for each."""
    statements: list[ast.stmt] = []
    for node in ast.parse(_file(module).read_bytes()).body:
        if isinstance(node, ast.ImportFrom):
            one_each = (ast.ImportFrom(node.module, [alias], node.level) for alias in node.names)
            statements += [ast.copy_location(single, node) for single in one_each]
        else:
            statements.append(node)
    return statements


@cache
def _definitions(module: str) -> dict[str, set[int]]:
    """Name -> indices of the statements that may define it."""
    found: dict[str, set[int]] = defaultdict(set)
    for index, statement in enumerate(_statements(module)):
        for name in _defined(statement):
            found[name].add(index)
    return found


def _defined(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        match node:
            case ast.alias(name=name, asname=asname):
                yield asname or name.partition(".")[0]
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
