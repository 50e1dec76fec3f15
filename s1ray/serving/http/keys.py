"""API keys: who may use the server, which models, and how much.

A key file is YAML and contains only hashes, so that reading it gives away no key:

    keys:
      - {name: alice, sha256: '9f86d0...', maximum_thinking_tokens: 4096, requests_per_minute: 60}
      - {name: batch, sha256: '60303a...', concurrent_requests: 32, models: [s1.1-32B]}

`s1ray serve key NAME` makes a key and its line. A key has 256 random bits, so its plain SHA-256 cannot be searched. Do
not hash passwords of your own.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import Field, ValidationError, field_validator

from s1ray.config import Config, ConfigError, parse_yaml, validate_config

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

logger = logging.getLogger("ray.serve")

PREFIX = "s1ray-"
"""Prefix of every key, so that scanners for leaked secrets recognize it."""

KEY_BYTES = 32

RELOAD_S = 5.0
"""Seconds between checks of the key file: how long a key works after its line was removed."""


class ApiKey(Config):
    """One key's hash and permissions. Caps are per key; None: only the server's own limits."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")
    """The owner: the label in metrics, and all that logs show of the key."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    """SHA-256 of the key, in hex."""
    models: list[str] | None = None
    """Models that the key may use. None: all."""
    maximum_thinking_tokens: int | None = Field(default=None, ge=0)
    """Largest thinking budget of a request."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Most requests in any 60 seconds."""
    concurrent_requests: int | None = Field(default=None, ge=1)
    """Most requests at the same time."""
    outstanding_thinking_tokens: int | None = Field(default=None, ge=1)
    """Most thinking tokens that the key's concurrent requests may ask for together."""
    metrics: bool = False
    """The key may read `/metrics`, which shows the usage of every key."""

    def allows(self, *models: str) -> bool:
        """Whether the key may use a model, given all of the model's names."""
        return self.models is None or any(model in self.models for model in models)


class KeyRing(Config):
    """All keys of a server."""

    keys: list[ApiKey] = Field(min_length=1)
    """The keys; names are unique."""

    @field_validator("keys")
    @classmethod
    def _check_unique(cls, keys: list[ApiKey]) -> list[ApiKey]:
        for what, values in (("name", [key.name for key in keys]), ("sha256", [key.sha256 for key in keys])):
            for value in sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"the {what} {value[:12]!r} is given twice")
        return keys

    def find(self, secret: str) -> ApiKey | None:
        """The key with this secret, in constant time: which key it is, and whether there is one, cannot be timed."""
        digest = hash_key(secret)
        found = None
        for key in self.keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found


SECRET = "S1RAY_API_KEYS"
"""The environment variable with the text of a key file."""


def hash_key(secret: str) -> str:
    """The hash by which a key file names a key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def new_key(name: str) -> tuple[str, str]:
    """Make a key.

    Returns:
        The secret, and the line for the key file, from which the secret cannot be recovered.

    Raises:
        ConfigError: the name is invalid.
    """
    secret = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    key = validate_config(ApiKey, {"name": name, "sha256": hash_key(secret)}, "key")
    return secret, f"  - {{name: '{key.name}', sha256: '{key.sha256}'}}"


def read_keys(text: str, origin: str) -> KeyRing:
    """Parse the text of a key file; error messages begin with `origin`.

    Raises:
        ConfigError: the text is not YAML, or a field is unknown, missing or wrong. The message shows no hash.
    """
    try:
        data = parse_yaml(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        raise ConfigError(f"{origin}: not valid YAML{f', line {where.line + 1}' if where else ''}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{origin}: must be a mapping with a list `keys`; `s1ray serve key NAME` makes its lines")
    try:
        return KeyRing.model_validate(data)
    except ValidationError as error:
        # Without the values: the file may contain a key where its hash belongs.
        problems = [_problem(problem) for problem in error.errors(include_url=False, include_input=False)]
    raise ConfigError("\n  ".join([f"{origin}: {len(problems)} problem(s) in the API keys:", *problems]))


def _problem(problem: ErrorDetails) -> str:
    if problem["type"] == "extra_forbidden":
        *where, name = map(str, problem["loc"])
        # The file may contain a key where a field's name belongs.
        shown = name if re.fullmatch("[a-z_]{1,32}", name) else "(not shown)"
        return f"{'.'.join([*where, shown])}: unknown field; a key has {', '.join(ApiKey.model_fields)}"
    field = ".".join(map(str, problem["loc"]))
    if problem["loc"][-1:] == ("sha256",) and problem["type"] != "missing":
        return f"{field}: must be the SHA-256 of a key, 64 hex digits in quotes; `s1ray serve key NAME` makes one"
    return f"{field}: {problem['msg'].removeprefix('Value error, ')}"


class KeyStore:
    """The keys of a running server, from the environment or from a file that is reloaded when it changes.

    Args:
        path: the key file. None: `text` has the keys.
        text: the text of a key file. None, and no path: there are no keys and the server is open.
        clock: seconds, for tests.

    Raises:
        ConfigError: the keys cannot be read, so that a server with a broken key file does not start.
    """

    def __init__(
        self, path: str | None = None, text: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._clock = Path(path) if path else None, clock
        self._checked_at, self._loaded = clock(), self._stamp()
        self._ring: KeyRing | None = None
        if self._path is not None:
            self._ring = _read_file(self._path)
        elif text is not None:
            self._ring = read_keys(text, SECRET)

    @property
    def required(self) -> bool:
        """Whether a request needs a key."""
        return self._ring is not None

    def find(self, secret: str) -> ApiKey | None:
        """The key with this secret."""
        self._reload()
        return self._ring.find(secret) if self._ring is not None else None

    def _reload(self) -> None:
        """Reload the file if it has changed. If it cannot be read, log that and keep the keys."""
        if self._path is None or self._clock() - self._checked_at < RELOAD_S:
            return
        self._checked_at = self._clock()
        stamp = self._stamp()
        if stamp == self._loaded:
            return
        self._loaded = stamp
        try:
            self._ring = _read_file(self._path)
        except ConfigError as error:
            logger.error("keeping the previous API keys: %s", error)
        else:
            logger.info("reloaded %d API keys from %s", len(self._ring.keys), self._path)

    def _stamp(self) -> tuple[int, int, int] | None:
        # The inode too, because a secret that is mounted into a pod is replaced, not overwritten.
        try:
            status = os.stat(self._path) if self._path else None
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size, status.st_ino) if status else None


def _read_file(path: Path) -> KeyRing:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"access.keys_file: {path} cannot be read: {error}") from None
    return read_keys(text, str(path))


def presented_key(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """The key in a request's headers: OpenAI's clients send a bearer token, Anthropic's send `x-api-key`."""
    for name, value in headers:
        if name.lower() == b"x-api-key" and value:
            return value.decode("latin-1").strip()
    for name, value in headers:
        kind, _, token = value.strip().partition(b" ")
        if name.lower() == b"authorization" and kind.lower() == b"bearer" and token.strip():
            return token.decode("latin-1").strip()
    return None
