"""What a secret looks like, by its value, by the URL that it stands in, or by the name of its field.

Values and URLs are looked for in every text of every config (`s1ray.config.Config` does so); names count only where a
config takes whatever names one gives (`FreeFields`), because elsewhere each field has a meaning of its own. Messages
name the field and never repeat the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import BeforeValidator, JsonValue

from s1ray.errors import InputError

NAME = re.compile(
    r"(api|access|account|private|secret|subscription|signing|encryption|master|shared[-_ ]?access)[-_ ]?key"
    r"|authorization|secret|passw|\bpwd\b|credential|bearer"
    r"|(access|auth|id|api|session|security|refresh|hf|hub|github|gitlab|slack|bot)[-_ ]?token"
    r"|^(key|token|auth|cookie|set-cookie|sig|signature|x-goog-.*key)$"
    r"|[-_. ](key|token)$",
    re.IGNORECASE,
)
"""Names of fields that hold a secret. `max_tokens` does not."""
PLAIN_NAME = re.compile(
    r"(^|[-_. ])((cache|sort|primary|foreign|partition|group|routing|dict|json|idempotency|safety)[-_]?key"
    r"|(bos|eos|pad|unk|sep|cls|mask|stop|start|end|image|audio|video|special|first|last|next|think)[-_]?token)$",
    re.IGNORECASE,
)
"""Names that end like one, and are not."""

KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    # OpenAI's, Anthropic's, DeepSeek's and many others'. A model's name has no 16 letters and digits in a row.
    r"sk-[\w-]{0,60}?(?=[A-Za-z]*\d)[A-Za-z0-9]{16}"
    r"|AIza[\w-]{20}|ya29\.[\w-]{20}"  # Google
    r"|(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}"  # AWS
    r"|hf_[A-Za-z0-9]{20}|gsk_[A-Za-z0-9]{20}|xai-[A-Za-z0-9]{20}|nvapi-[\w-]{20}|r8_[A-Za-z0-9]{20}"
    r"|gh[pousr]_[A-Za-z0-9]{20}|github_pat_\w{20}|glpat-[\w-]{16}"
    r"|xox[a-z]-[\w-]{10}|xapp-[\w-]{10}"  # Slack
    r"|s1ray-[\w-]{43}(?![\w-])"  # our server's
    r"|eyJ[\w-]{6,}\.eyJ[\w-]{6,}"  # JSON web tokens
    r")[\w.~+/=-]*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\bBearer\s+(?=\S*\d)[\w.~+/=-]{16,}"
    r"|\b(?:AccountKey|SharedAccessSignature|SharedAccessKey)=\S{8,}"  # Azure's connection strings
)
"""Values that are secrets wherever they stand."""
FREE_VALUE = re.compile(r"\s*(Bearer\s+\S|Basic\s+\S|Token\s+\S|(sk-\S{8}|gsk_\S{8}|hf_\S{20}))", re.IGNORECASE)
"""How such a value begins where a config takes whatever one gives; in a text of one's own, "Basic" may be a word."""

URL = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*:/{1,3}[^\s\"'<>]*")
NAMED_USER = ("abfs", "abfss", "wasb", "wasbs", "hdfs", "ssh", "sftp", "git+ssh")
"""Schemes in which something that is no secret stands before the @: a container, or who asks."""

ADVICE = "a config is recorded and shown; name the key by reference (api_key: env:NAME or file:/path)"
REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:\S+")


class InlineSecretError(InputError):
    """A secret stands where it would be recorded. The message names the field and does not repeat it."""


def refuse_inline(data: object, advice: str = ADVICE) -> None:
    """Look through everything in a config for texts that are secrets or URLs with one.

    Args:
        data: the config as it was read.
        advice: what to do instead, for the message.

    Raises:
        InlineSecretError: one is there.
    """
    for path, value in _leaves(data):
        if any(KEY.search(name) for name in path):
            raise InlineSecretError(f"{_shown(path)}a name in it looks like a secret: {advice}")
        if isinstance(value, str) and (problem := _problem_of_text(value)):
            raise InlineSecretError(f"{_shown(path)}{problem}: {advice}")


def refuse_in_text(text: str, field: str, advice: str = ADVICE) -> None:
    """Look whether a text is a secret, or holds a URL with one.

    Args:
        text: of a config or of the command line.
        field: for the message.
        advice: what to do instead, for the message.

    Raises:
        InlineSecretError: it is, or does.
    """
    if problem := _problem_of_text(text):
        raise InlineSecretError(f"{field}: {problem}: {advice}")


def free_fields(data: object, advice: str = ADVICE) -> object:
    """Look through fields of free names (a request's further fields, headers, an environment) for secrets.

    Returns:
        The fields as they are.

    Raises:
        InlineSecretError: one is there, by its name or by its value.
    """
    refuse_inline(data, advice)
    for path, value in _leaves(data):
        if any(re.match(r"\s*(sk-\S{8}|gsk_\S{8})", name) for name in path):
            raise InlineSecretError(f"{_shown(path)}a name in it looks like a secret: {advice}")
        named = any(NAME.search(name) and not PLAIN_NAME.search(name) for name in path)
        if isinstance(value, str) and value.strip() and (named or FREE_VALUE.match(value)):
            raise InlineSecretError(f"{_shown(path)}looks like a secret: {advice}")
    return data


FreeFields = Annotated[dict[str, JsonValue], BeforeValidator(free_fields)]
"""For a config's field that takes whatever names one gives."""


def is_secret_name(name: str) -> bool:
    """Whether a field, a header or an environment variable of this name holds a secret."""
    return bool(NAME.search(name)) and not PLAIN_NAME.search(name)


def _problem_of_text(text: str) -> str | None:
    problems = filter(None, (_problem_of_url(found[0]) for found in URL.finditer(text)))
    return next(problems, "looks like a secret" if KEY.search(text) else None)


def _problem_of_url(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        query += parse_qsl(parts.fragment, keep_blank_values=True)
    except ValueError:
        return None
    # With one slash or three, the host is part of the path.
    authority = parts.netloc or parts.path.lstrip("/").split("/")[0]
    user, at, _ = authority.rpartition("@")
    if at and (":" in user or parts.scheme.lower() not in NAMED_USER):
        return "must not hold a user or password"
    if any(_is_signed(name) for name, value in query if value):
        return "must not hold a key or signature after its ? or #"
    return None


def _is_signed(name: str) -> bool:
    return is_secret_name(name) or name.lower() in ("code", "awsaccesskeyid", "x-amz-credential", "x-amz-signature")


def _shown(path: tuple[str, ...]) -> str:
    """The way to a field; names of it that look like secrets are left out."""
    shown = [name for name in path if not KEY.search(name) and not re.match(r"\s*(sk-\S{8}|gsk_\S{8})", name)]
    return f"{'.'.join(shown)}: " if shown else ""


def _leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Everything within a value that holds nothing itself, with the names on the way to it."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, (*path, str(name)))
        if not value and path:
            yield path, None
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, value
