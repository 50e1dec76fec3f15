"""How a stage is configured: one pydantic model a stage, a YAML file, and dotted overrides on the command line.

    config = load_config(CurationConfig, "s1ray/recipes/curate/miniature.yaml", ["selection.size=500"])

Each room keeps its own model in its `config.py`; this module holds what they share. Nothing here imports torch, ray or
vllm, so a config can be checked in a fraction of a second before anything is started. A mistake is reported with the
file, the field and what it should be.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, ClassVar, TypeVar, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from s1ray.errors import InputError
from s1ray.secrets import InlineSecretError, redact, refuse_inline
from s1ray.storage import is_address, location


class ConfigError(InputError):
    """A configuration that cannot be used; the message names the file and the field and says what to do."""


class Config(BaseModel):
    """Base of every config model: unknown keys are errors, fields are documented in place, instances are frozen."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    incidental: ClassVar[frozenset[str]] = frozenset()
    """Fields that cannot change the result (paths, addresses, concurrency): a run is found again whatever they are.
    Dotted names are of fields within fields; `*` stands for any one name."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_secrets(cls, data: object) -> object:
        # Before the fields are validated, as an error about a field shows its value. The outermost config sees all.
        if isinstance(data, Mapping):
            refuse_inline(data)
        return data

    @model_validator(mode="before")
    @classmethod
    def _refuse_truth_for_numbers(cls, data: object) -> object:
        # Python, and so pydantic, takes YAML's `yes` and `true` for 1.
        for name, value in data.items() if isinstance(data, dict) else ():
            field = cls.model_fields.get(name) if isinstance(value, bool) else None
            if field is not None and set(get_args(field.annotation) or (field.annotation,)) <= {int, float, NoneType}:
                raise ValueError(f"{name}: must be a number, not {str(value).lower()}")
        return data

    def incidental_fields(self) -> frozenset[str]:
        """The incidental fields of this config and, by dotted names, of the configs that its fields hold."""
        held = [(name, value) for name, value in self if isinstance(value, Config)]
        for name, values in self:
            if isinstance(values, dict):
                held += [(f"{name}.{key}", value) for key, value in values.items() if isinstance(value, Config)]
        return self.incidental | {f"{name}.{inner}" for name, value in held for inner in value.incidental_fields()}


def run_folder(value: str) -> str:
    """A folder to write to: a path, with ~ expanded, or an address in an object store.

    Raises:
        ValueError: it is an address that cannot be used.
    """
    return str(location(value)) if is_address(value) else os.path.expanduser(value)


RunFolder = Annotated[str, Field(min_length=1), AfterValidator(run_folder)]
"""A folder that results are written to."""


class StageConfig(Config):
    """What every stage has: where its run folder is, and its seed."""

    incidental: ClassVar[frozenset[str]] = frozenset({"output"})

    output: RunFolder
    """Run folder: the stage writes its Parquet files and `manifest.json` here."""
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """Seed of everything random in the stage."""


def _http_address(value: str) -> str:
    import httpx

    try:
        parts = urlsplit(value)
        _ = parts.port  # raises where it is no port
    except ValueError as error:
        raise ValueError(f"not an address: {error}") from None
    if parts.query or parts.fragment or "?" in value or "#" in value:
        raise ValueError("must end before any ? or #; what a request needs besides goes into other fields")
    if parts.scheme not in ("http", "https") or not parts.hostname or not re.fullmatch(r"[^\s\\]+", value):
        raise ValueError("must begin with http:// or https:// and a host, for example http://127.0.0.1:8000/v1")
    try:
        httpx.URL(value)
        parts.hostname.encode("idna")
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ValueError(f"not an address: {error}") from None
    return value.rstrip("/")


def _plain_text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    if "\0" in value:
        raise ValueError("must not hold the character NUL")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("must not hold half of a surrogate pair, which UTF-8 cannot write")
    return value


PlainText = Annotated[str, AfterValidator(_plain_text)]
"""A text that says something, and that a file and a request can hold."""

LABEL_PATTERN = r"^[^\s\x00-\x1f\x7f-\x9f/\\][^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069/\\]{0,79}$"
"""Labels name columns, legends and files: one line, no slashes, and nothing that cannot be seen or turns the text
around."""

HTTPAddress = Annotated[str, AfterValidator(_http_address)]
"""For a config's field: where an API is."""

_LABEL_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_LABEL_DOMAIN = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = re.compile(rf"(?:(?=[^/]{{1,253}}/){_LABEL_DOMAIN}(?:\.{_LABEL_DOMAIN})*/)?{_LABEL_NAME}")
_LABEL_WANTED = re.compile(rf"!?(?:{_LABEL_NAME}|in\({_LABEL_NAME}(?:, ?{_LABEL_NAME})*\))")


def _node_labels(labels: dict[str, str]) -> dict[str, str]:
    for label, wanted in labels.items():
        if not _LABEL_KEY.fullmatch(label):
            raise ValueError(
                f"{label!r} is no label; write a name of letters, digits, '.', '_' and '-', or a domain, '/' and a name"
            )
        if not _LABEL_WANTED.fullmatch(wanted):
            raise ValueError(
                f"{label}: {wanted!r} is no value of a label: write VALUE, '!VALUE', in(A, B) or '!in(A, B)'"
            )
    # Ray takes a space behind a comma for a part of the value.
    return {label: wanted.replace(", ", ",") for label, wanted in labels.items()}


NodeLabels = Annotated[dict[str, str], Field(min_length=1), AfterValidator(_node_labels)]
"""Labels that a node of the Ray cluster must have, as in {"s1ray/role": train}; Ray's label selector: the value that
a label has, in(A, B) for one of several, and with `!` before it any other."""

ConfigT = TypeVar("ConfigT", bound=Config)


def load_config(
    model: type[ConfigT],
    path: str | os.PathLike[str] | None,
    overrides: Sequence[str] = (),
    *,
    fields: Mapping[str, object] | None = None,
) -> ConfigT:
    """Read a YAML file, apply `a.b=value` overrides (values are YAML) and validate.

    Args:
        model: the stage's config class.
        path: the YAML file. None: start from nothing, so the overrides must give the required fields.
        overrides: "dotted.field=value" strings; list elements are named by index ("arms.0.waits=2").
        fields: dotted field -> value as it is, applied before the overrides.

    Raises:
        ConfigError: the file is missing or not a YAML mapping, an override is malformed, or a field is unknown or
            wrong.
    """
    origin = str(path) if path is not None else "command line"
    data = _read_yaml(Path(path)) if path is not None else {}
    for field, value in (fields or {}).items():
        _put(data, field, value, field)
    for override in overrides:
        _apply(data, override)
    return validate_config(model, data, origin)


def validate_config(model: type[ConfigT], data: Mapping[str, object], origin: str) -> ConfigT:
    """Validate a mapping; `origin` (a file name, say) begins the error message.

    Raises:
        ConfigError: a field is unknown, missing or wrong.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [f"{origin}: {error.error_count()} problem(s) in the {model.__name__}:"]
        for problem in error.errors(include_url=False):
            field = ".".join(redact(str(part)) for part in problem["loc"]) or "(whole file)"
            if problem["type"] == "extra_forbidden":
                lines.append(f"  {field}: unknown field{_known_fields(model, problem['loc'])}")
            elif problem["type"] == "missing":
                lines.append(f"  {field}: required, but not given")
            else:
                lines.append(f"  {field}: {problem['msg'].removeprefix('Value error, ')}{_given(problem)}")
    # Outside the block: a chained error would hold the values.
    raise ConfigError(redact("\n".join(lines)))


def _given(problem: ErrorDetails) -> str:
    value = problem["input"]
    # What stands in place of fields of free names, or of a reference, may be a secret.
    is_secret = isinstance(problem.get("ctx", {}).get("error"), InlineSecretError)
    if isinstance(value, dict | list) or problem["type"] == "dict_type" or is_secret:
        return ""
    shown = redact(value) if isinstance(value, str) else value
    return f" (got {shown!r:.200})"


def to_yaml(config: Config) -> str:
    """The resolved config as YAML, nulls kept: what `--dry-run` prints and what the manifest records."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML takes the last of two equal keys, and the first is lost without a word; here it is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        """A mapping whose keys are all different; what `<<` merges in may be replaced."""
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if key_node.tag == "tag:yaml.org,2002:str" else None
            if key is not None and key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is given twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        """A value. PyYAML checks only its form: what Python then refuses (a 13th month) is an error with its place."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            problem = f"{node.value!r:.80} is no valid {node.tag.rpartition(':')[2]} ({error})"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error


def parse_yaml(text: str) -> object:
    """What a YAML text says.

    Raises:
        yaml.YAMLError: it is not valid, or gives a key twice.
    """
    try:
        return yaml.load(text, Loader=UniqueKeyLoader)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None


def yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong, and where. The line itself is not repeated: it may hold a secret."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return redact(str(error))
    where = [
        f"{words}{f' in line {mark.line + 1}, column {mark.column + 1}' if mark is not None else ''}"
        for words, mark in ((error.context, error.context_mark), (error.problem, error.problem_mark))
        if words
    ]
    return redact(", ".join(where))


def _read_yaml(path: Path) -> dict[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file (give the stage's YAML with --config)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        data = parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {yaml_problem(error)}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: the top level must be a mapping of fields, not a {type(data).__name__}")
    return data


def _apply(data: dict[str, object], override: str) -> None:
    dotted, separator, text = override.partition("=")
    override = redact(override)
    if not separator:
        raise ConfigError(f"override {override!r}: write it as field=value or section.field=value")
    try:
        value = parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not valid YAML: {yaml_problem(error)}") from None
    if isinstance(value, str):
        value = _scientific(value)
    _put(data, dotted, value, override)


def _put(data: dict[str, object], dotted: str, value: object, override: str) -> None:
    keys = dotted.strip().split(".")
    if not all(keys):
        raise ConfigError(f"override {override!r}: write it as field=value or section.field=value")
    node: object = data
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(node, list):
            if not (key.isascii() and key.isdigit()) or int(key) >= len(node):
                raise ConfigError(
                    f"override {override!r}: {'.'.join(keys[:depth])} has {len(node)} elements; {key!r} is no index"
                )
            if last:
                node[int(key)] = value
            else:
                node = node[int(key)]
        elif isinstance(node, dict):
            if last:
                node[key] = value
            else:
                if node.get(key) is None:
                    node[key] = {}
                node = node[key]
        else:
            raise ConfigError(
                f"override {override!r}: {'.'.join(keys[:depth])} holds a single value, it has no field {key!r}"
            )


def _scientific(text: str) -> str | float:
    # YAML 1.1 reads "1e-5" as a string; people mean the number.
    try:
        return float(text) if "e" in text.lower() and text[:1] in "+-.0123456789" else text
    except ValueError:
        return text


def _known_fields(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    node: object = model
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        field = node.model_fields.get(part) if isinstance(node, type) and issubclass(node, BaseModel) else None
        node = _inner_model(field.annotation) if field is not None else None
    if not (isinstance(node, type) and issubclass(node, BaseModel)):
        return ""
    return f"; the fields here are {', '.join(node.model_fields)}"


def _inner_model(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = [m for m in map(_inner_model, getattr(annotation, "__args__", ())) if m is not None]
    return models[0] if len(models) == 1 else None
