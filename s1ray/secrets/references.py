"""The type of a config's field that names a secret: where it is, never what it is."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from s1ray.errors import InputError
from s1ray.secrets.recognition import InlineSecretError
from s1ray.secrets.redaction import remember

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""An environment variable's name."""
MOST_BYTES = 64 * 1024
"""Of a file with a secret; one that is larger is another file."""


class SecretError(InputError):
    """A secret that is not where a config says, or is no secret; the message does not repeat it."""


@dataclass(frozen=True)
class Secret:
    """Where a secret is: `env:NAME`, an environment variable, or `file:/path`, a file with nothing else in it.

    Written to a manifest it is the reference. The value is read by `resolve`, each time, where it is needed: on the
    node that sends the request.
    """

    kind: Literal["env", "file"]
    name: str

    @classmethod
    def parse(cls, text: object) -> Secret:
        """A reference as a config writes it.

        Raises:
            InlineSecretError: it is none; the message does not repeat it.
        """
        kind, colon, name = text.partition(":") if isinstance(text, str) else ("", "", "")
        if colon and kind == "env" and VARIABLE.fullmatch(name):
            return cls("env", name)
        if colon and kind == "file" and name.strip() and "\0" not in name and not name.startswith("//"):
            return cls("file", name)
        raise InlineSecretError(
            "must be a reference: env:NAME (an environment variable) or file:/path (a file that only you can read); "
            "the secret itself belongs there, not into a config"
        )

    def __str__(self) -> str:
        """The reference."""
        return f"{self.kind}:{self.name}"

    def resolve(self, field: str, purpose: str | None = None) -> str:
        """The secret. From then on this process keeps it out of what it shows.

        Args:
            field: of the config, for messages.
            purpose: what the secret is for, for messages ("https://api.example.com/v1").

        Raises:
            SecretError: it is not there, others may read its file, or it is not one word of ASCII.
        """
        wanted = f"the key for {purpose}" if purpose else "the key"
        if self.kind == "env":
            value, where = os.environ.get(self.name, ""), f"the environment variable {self.name}"
            if not value.strip():
                raise SecretError(f"{field}: {where} is not set; export {wanted} there")
        else:
            where = os.path.expanduser(self.name)
            value = _read(where, field)
            if not value.strip():
                raise SecretError(f"{field}: {where} is empty; write {wanted} there")
        value = value.strip()
        remember(value)
        if not value.isascii() or not value.isprintable() or " " in value:
            raise SecretError(f"{field}: {where} does not hold one key: it has spaces, line breaks or other characters")
        return value

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validated from a reference, written as one."""
        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.to_string_ser_schema(when_used="always")
        )

    @classmethod
    def _validated(cls, value: object) -> Secret:
        return value if isinstance(value, cls) else cls.parse(value)


def _read(path: str, field: str) -> str:
    try:
        # What is checked must be what is read; a pipe or a device would wait, or never end.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SecretError(f"{field}: {path} is no file; write the key into a file of its own")
            # A group may read: Kubernetes mounts a secret for a container that is not root in this way.
            if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
                raise SecretError(f"{field}: others may read or change {path}; run: chmod 600 {path}")
            content = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, SecretError):
            raise
        why = error.strerror if isinstance(error, OSError) else error
        raise SecretError(f"{field}: {path}: cannot be read: {why}") from None
    if len(content) > MOST_BYTES:
        raise SecretError(f"{field}: {path} holds more than a key; write the key into a file of its own")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise SecretError(f"{field}: {path} does not hold one key: it is no text in UTF-8") from None
