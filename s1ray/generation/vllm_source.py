"""What the installed vLLM says about its arguments: their names, types, choices and bounds.

All of it is read from vLLM's source as syntax trees, because importing vLLM takes ten seconds. What cannot be read (a
type that is a class of vLLM's, a bound that is computed) is not checked here.
"""

from __future__ import annotations

import ast
import difflib
import importlib.metadata
import importlib.util
import operator
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ARGUMENT_CLASSES = {
    "vllm.engine.arg_utils": ("EngineArgs", "AsyncEngineArgs"),
    "vllm.entrypoints.launchers.cli_args": ("BaseFrontendArgs", "FrontendArgs"),
}
"""Where vLLM's source lists its arguments: the engine's, and those of the API around it (tool calls, templates)."""

TOOL_PARSERS = ("vllm.tool_parsers", "_TOOL_PARSERS_TO_REGISTER")
"""Module and table of vLLM's own tool parsers."""

PLUGINS = "vllm.general_plugins"
"""Entry points of packages that add to vLLM's load formats, quantization methods and so on."""

FURTHER_BOUNDS = {"seed": {"ge": 0}, "kv_cache_memory_bytes": {"gt": 0}, "max_logprobs": {"ge": -1}}
"""Bounds that vLLM does not check: what is out of them fails when the engine starts."""

BOUNDS = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}
BOUND_WORDS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
"""Pydantic's keywords for a number's bounds."""

SCALARS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a text"}
COLLECTIONS = {"list": "a list", "set": "a list", "tuple": "a list", "dict": "a mapping"}
"""Builtin types that a value in YAML can have, and how messages call them."""

ALIAS_DEPTH = 8
"""Imports and aliases that are followed to find out what a name stands for."""


@dataclass
class Argument:
    """What an argument takes."""

    types: set[str] = field(default_factory=set)
    """Names of builtin types; "None" where it may be null."""
    choices: list[object] = field(default_factory=list)
    """Values that it names."""
    unread: bool = False
    """Whether it takes something else, too, so that only what is named here can be told apart."""
    bounds: dict[str, float] = field(default_factory=dict)
    """Pydantic's keyword -> bound of a number."""

    def problem(self, value: object, *, extensible: bool = False) -> str | None:
        """Why it does not take a value; None where it does, or nothing is known against it.

        Args:
            value: as YAML gives it.
            extensible: whether other packages may have added choices.
        """
        if value in self.choices:
            return None
        if isinstance(value, str) and any(isinstance(choice, str) for choice in self.choices):
            # The name of a class, "module.Class", is no choice.
            if "str" in self.types and (extensible or "." in value):
                return None
            return f"vLLM knows no {value!r}{meant(value, self.choices)}"
        if self.unread or any(_is_a(value, name) for name in self.types):
            return self._out_of_bounds(value)
        if not self.types and not self.choices:
            return None
        words = SCALARS | COLLECTIONS | {"None": "null"}
        wanted = list(dict.fromkeys(words[name] for name in sorted(self.types)))
        wanted += [f"one of {', '.join(map(str, self.choices))}"] if self.choices else []
        unquoted = isinstance(value, str) and {"int", "float"} & self.types and value.replace(".", "", 1).isdigit()
        return f"must be {' or '.join(wanted)}, not {value!r:.80}{' (write it without quotes)' if unquoted else ''}"

    def _out_of_bounds(self, value: object) -> str | None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        if all(BOUNDS[name](value, bound) for name, bound in self.bounds.items()):
            return None
        wanted = " and ".join(f"{BOUND_WORDS[name]} {bound:g}" for name, bound in self.bounds.items())
        return f"must be {wanted}, not {value:g}"


@cache
def known_arguments() -> frozenset[str]:
    """The names of the installed vLLM's arguments; none where it cannot be found."""
    found = [_fields(module, name) for module, classes in ARGUMENT_CLASSES.items() for name in classes]
    engine_args, *_ = found
    return frozenset(name for fields in found for name in fields) if engine_args else frozenset()


@cache
def argument(name: str) -> Argument:
    """What an argument takes; an empty `Argument` for an unknown one."""
    for module, classes in ARGUMENT_CLASSES.items():
        for of in classes:
            node = _fields(module, of).get(name)
            if node is not None:
                read = Argument()
                _read_type(node.annotation, module, read, ALIAS_DEPTH)
                read.bounds |= FURTHER_BOUNDS.get(name, {}) | _bounds(name, node.value, module)
                return read
    return Argument()


def argument_problem(name: str, value: object) -> str | None:
    """Why vLLM's argument `name` does not take a value; None where nothing is known against it."""
    return argument(name).problem(value, extensible=_has_plugins())


@cache
def _has_plugins() -> bool:
    """Whether packages other than vLLM itself are installed that may add choices."""
    plugins = importlib.metadata.entry_points(group=PLUGINS)
    return any(not plugin.value.startswith("vllm.") for plugin in plugins)


@cache
def tool_parsers() -> tuple[str, ...]:
    """The names of vLLM's own tool parsers; none where they cannot be found."""
    module, table = TOOL_PARSERS
    value = _assigned(module, table)
    if not isinstance(value, ast.Dict):
        return ()
    return tuple(str(key.value) for key in value.keys if isinstance(key, ast.Constant))


def meant(name: str, known: Iterable[object]) -> str:
    """The end of a message about an unknown name: what it may have meant, or else all that there is."""
    names = [str(item) for item in known]
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; it knows {', '.join(names)}"


@cache
def _tree(module: str) -> ast.Module:
    """A vLLM module's syntax tree; an empty one where it cannot be found."""
    empty = ast.Module(body=[], type_ignores=[])
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        return empty
    path = Path(spec.origin).parent.joinpath(*module.split(".")[1:])
    source = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
    return empty if source is None else ast.parse(source.read_text(encoding="utf-8"))


@cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    """Name -> the statement of a module that binds it; of those under `if TYPE_CHECKING`, too."""
    found: dict[str, ast.stmt] = {}
    waiting: list[ast.stmt] = list(_tree(module).body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.If):
            waiting += node.body
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: node for alias in node.names}
        elif isinstance(node, ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


def _definition(module: str, name: str) -> tuple[str, ast.stmt | None]:
    """Where a name comes from: the module that defines it, and the statement; imports within vLLM are followed."""
    for _ in range(ALIAS_DEPTH):
        node = _definitions(module).get(name)
        if not isinstance(node, ast.ImportFrom):
            return module, node
        if node.level or not (node.module or "").startswith("vllm"):
            return module, None
        name = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
        module = str(node.module)
    return module, None


def _assigned(module: str, name: str) -> ast.expr | None:
    _, node = _definition(module, name)
    return node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None


def _fields(module: str, name: str) -> dict[str, ast.AnnAssign]:
    """Name -> declaration of a class's annotated fields; none where there is no such class."""
    _, node = _definition(module, name)
    body = node.body if isinstance(node, ast.ClassDef) else []
    declared = [item for item in body if isinstance(item, ast.AnnAssign)]
    return {item.target.id: item for item in declared if isinstance(item.target, ast.Name)}


def _read_type(node: ast.expr, module: str, into: Argument, depth: int) -> None:
    """Add what an annotation names to an argument."""
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            _read_type(left, module, into, depth)
            _read_type(right, module, into, depth)
        case ast.Constant(value=None):
            into.types.add("None")
        case ast.Constant(value=str(text)):
            _read_type(ast.parse(text, mode="eval").body, module, into, depth)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=values):
            for value in values.elts if isinstance(values, ast.Tuple) else [values]:
                if isinstance(value, ast.Constant):
                    into.choices.append(value.value)
                else:
                    # A literal within a literal.
                    _read_type(value, module, into, depth)
        case ast.Subscript(value=ast.Name(id=name)) if name in COLLECTIONS:
            into.types.add(name)
        case ast.Name(id=name) if name in SCALARS or name in COLLECTIONS:
            into.types.add(name)
        case ast.Name(id=name) if depth:
            where, found = _definition(module, name)
            meaning = found.value if isinstance(found, ast.Assign | ast.AnnAssign) else None
            if meaning is None:
                into.unread = True
            else:
                _read_type(meaning, where, into, depth - 1)
        case _:
            into.unread = True


def _bounds(name: str, default: ast.expr | None, module: str) -> dict[str, float]:
    """The bounds of the config field behind an argument: the one that its default is taken from, or of its name."""
    match default:
        case ast.Attribute(value=ast.Name(id=of), attr=attribute):
            return _field_bounds(module, of, attribute)
        case ast.Call(func=ast.Name(id="get_field"), args=[ast.Name(id=of), ast.Constant(value=str(attribute))]):
            return _field_bounds(module, of, attribute)
    for of, found in _definitions(module).items():
        if of.endswith("Config") and isinstance(found, ast.ImportFrom) and found.module == "vllm.config":
            bounds = _field_bounds(module, of, name)
            if bounds:
                return bounds
    return {}


def _field_bounds(module: str, of: str, name: str) -> dict[str, float]:
    where, _ = _definition(module, of)
    declared = _fields(where, of).get(name)
    if declared is None or not isinstance(declared.value, ast.Call):
        return {}
    given = {keyword.arg: keyword.value for keyword in declared.value.keywords if keyword.arg in BOUNDS}
    return {
        str(key): value.value
        for key, value in given.items()
        if isinstance(value, ast.Constant) and isinstance(value.value, int | float)
    }


def _is_a(value: object, name: str) -> bool:
    """Whether a YAML value has a builtin type, by its name; 0 and 1 are truth values, too, but true is no number."""
    match name:
        case "None":
            return value is None
        case "bool":
            return isinstance(value, bool) or value in (0, 1)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "str":
            return isinstance(value, str)
        case "dict":
            return isinstance(value, dict)
        case _:
            return isinstance(value, list | tuple | set)
