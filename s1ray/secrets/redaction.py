"""Takes secrets out of what is shown: messages, logs, manifests, and the answers of servers that repeat a key.

Two kinds of knowledge: the values that this process has read (`Secret.resolve`, and its environment variables whose
names say that they hold one), which are replaced wherever they stand; and what a secret looks like, for those that it
has not read, such as a password in a URL that a library's error repeats.
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote, quote_plus

from s1ray.secrets.recognition import KEY, NAMED_USER, is_secret_name

SHORTEST = 16
"""Characters of a key that is looked for in whole bodies; a shorter one ("EMPTY", say) can be a word of an answer."""
SHORTEST_KNOWN = 8
"""Characters of a known secret that is looked for in every message, for the same reason."""
MARK = "(key)"
"""In place of the key."""

_known: set[str] = set()

USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(:/{1,3})([^\s/?#\"']+)@")
BARE_USER = re.compile(r"(?<![\w/])[\w.+-]+:[^\s/:@\"']+@(?=[\w\[])")
QUERY = re.compile(r"([?&;#]([\w.-]+)=)([^&;#\s\"'<>]+)")
PAIR = re.compile(r"([\"']?([\w.-]*[\w])[\"']?(?:=|[\"']: ?)[\"']?)([^\s\"',;&}\])]{4,})")


class Redaction:
    """Replaces one key in messages and bodies."""

    def __init__(self, key: str | None) -> None:
        """None: there is no key, and nothing is replaced."""
        self._key = key
        is_long = key is not None and len(key) >= SHORTEST
        self._pattern = re.compile("".join(map(_written, key or "")).encode()) if is_long else None

    def message(self, text: str) -> str:
        """A message without the key."""
        return text.replace(self._key, MARK) if self._key else text

    def body(self, content: bytes) -> bytes:
        """A body without the key, however JSON writes it.

        What is made of a body may be cut, and half a key would not be found in it any more.
        """
        return content if self._pattern is None else self._pattern.sub(MARK.encode(), content)


def remember(value: str) -> None:
    """Keep a secret out of what this process shows from now on."""
    if len(value) >= SHORTEST_KNOWN:
        _known.add(value)


def redact_known(text: str) -> str:
    """A text without the secrets that this process has read, or that its environment holds."""
    values = _known | {
        value.strip()
        for name, value in os.environ.items()
        if len(value.strip()) >= SHORTEST_KNOWN and is_secret_name(name) and not os.path.exists(value)
    }
    # Longer ones first: one secret may begin like another.
    for value in sorted(values, key=len, reverse=True):
        for written in {value, quote(value, safe=""), quote_plus(value)}:
            text = text.replace(written, MARK)
    return text


def redact(text: str) -> str:
    """A message without secrets: those known, and whatever looks like one."""
    text = redact_known(text)
    text = BARE_USER.sub(f"{MARK}@", USER.sub(_without_user, text))
    text = QUERY.sub(_without_value, text)
    return KEY.sub(MARK, PAIR.sub(_without_value, text))


def _without_user(found: re.Match[str]) -> str:
    is_named = found[1].lower() in NAMED_USER and ":" not in found[3]
    return found[0] if is_named else f"{found[1]}{found[2]}{MARK}@"


def _without_value(found: re.Match[str]) -> str:
    name, value = found[2].rpartition(".")[2], found[3]
    is_word = name.lower() in ("key", "token") and found[1][0] not in "?&;#" and len(value) < SHORTEST
    is_shown = is_word or value.startswith(("env:", "file:", MARK[:-1]))
    return found[1] + MARK if is_secret_name(name) and not is_shown else found[0]


def _written(character: str) -> str:
    """A pattern of the ways in which JSON may write a character."""
    if character.isalnum():
        return character
    digits = "".join(f"[{digit}{digit.upper()}]" for digit in f"{ord(character):04x}")
    # The longer one first: a backslash alone would match the beginning of its own escape.
    return rf"(?:\\u{digits}|\\?{re.escape(character)})"
