"""API keys: read by reference, and kept out of configs, which manifests record."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from s1ray.config import ConfigError

log = logging.getLogger("s1ray")

SECRET_NAME = re.compile(
    r"(api|access|private|secret|subscription)[-_ ]?key|authorization|secret|passw|credential|bearer"
    r"|(access|auth|id|api|session|refresh|hf|hub)[-_ ]?token|^(key|token|auth|x-goog-.*key)$",
    re.IGNORECASE,
)
"""Names of fields that hold a secret. `max_tokens` does not."""
KEY = r"sk-\S{8}|AIza\S{20}|hf_\S{20}|gsk_\S{20}"
SECRET_VALUE = re.compile(rf"\s*(Bearer\s+\S|Basic\s+\S|{KEY})", re.IGNORECASE)
"""How a header's value with a secret, or a key, begins."""
KEY_ALONE = re.compile(rf"\s*({KEY})", re.IGNORECASE)
"""How a key begins; in a text of one's own, "Basic" may be a word."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""An environment variable's name."""
FREE = (("extra_body",), ("engine", "engine_kwargs"))
"""Fields that hold whatever names one gives."""


def read_key(variable: str | None, file: str | None, address: str, field: str = "teacher") -> str | None:
    """The API key, or None where none is configured.

    Args:
        variable: environment variable that holds it.
        file: file that holds it, and nothing else.
        address: what it is for, for messages.
        field: of the config that says so, for messages.

    Raises:
        ConfigError: it is not there, is given twice, or holds what no header can hold.
    """
    if variable is not None and file is not None:
        raise ConfigError(f"{field}: give api_key_variable or api_key_file, not both")
    if variable is not None:
        key, where = os.environ.get(variable, ""), f"the environment variable {variable}"
        if not key.strip():
            raise ConfigError(f"{field}.api_key_variable: {where} is not set; export the key for {address} there")
    elif file is not None:
        where = os.path.expanduser(file)
        try:
            key, mode = Path(where).read_text(encoding="utf-8"), os.stat(where).st_mode
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{field}.api_key_file: {where}: cannot be read: {error}") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            log.warning("%s.api_key_file: others may read %s; run: chmod 600 %s", field, where, where)
        if not key.strip():
            raise ConfigError(f"{field}.api_key_file: {where} is empty; write the key for {address} there")
    else:
        return None
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{field}: {where} does not hold one key: it has spaces, line breaks or other characters")
    return key


ADVICE = "a manifest would keep it; put the key into api_key_variable or api_key_file"


def refuse_secrets(teacher: Mapping[str, object], advice: str = ADVICE) -> None:
    """Look for keys in a teacher's config, or another's with fields of the same names.

    Args:
        teacher: the config's fields.
        advice: what to do instead, for the message.

    Raises:
        ValueError: a field holds one, or the name of one; the message does not repeat it.
    """
    url = teacher.get("base_url")
    if isinstance(url, str):
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if "@" in parts.netloc:
            raise ValueError(f"base_url: must not hold a user or password: {advice}")
        if parts.query or parts.fragment:
            raise ValueError(f"base_url: must end before any ? or #: {advice}, and other fields into extra_body")
    variable = teacher.get("api_key_variable")
    if isinstance(variable, str) and not VARIABLE.fullmatch(variable):
        raise ValueError(
            "api_key_variable: must be the name of an environment variable (letters, digits and _); the key itself "
            "belongs there, not into a config"
        )
    for path, value in _leaves(teacher):
        known = [name for name in path if not KEY_ALONE.match(name)]
        if len(known) < len(path):
            raise ValueError(f"{'.'.join(known) or 'teacher'}: a name in it looks like a secret: {advice}")
        if isinstance(value, str) and _is_secret(path, value):
            raise ValueError(f"{'.'.join(path)}: looks like a secret: {advice}")


def _is_secret(path: tuple[str, ...], value: str) -> bool:
    for start in FREE:
        if path[: len(start)] == start:
            names = path[len(start) :]
            return any(SECRET_NAME.search(name) for name in names) or bool(SECRET_VALUE.match(value))
    if path == ("api_key_file",):
        return bool(SECRET_VALUE.match(value))
    parts = [value]
    if path == ("prompt",):
        parts = re.split(r"[^\w-]+", value)
    elif path == ("base_url",):
        parts = value.split("/")
    return any(KEY_ALONE.match(part) for part in parts)


def _leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Everything within a value that holds nothing itself, with the names on the way to it."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, (*path, str(name)))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, value
