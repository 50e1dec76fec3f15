"""Keeps an API key out of what comes back: some servers repeat the key that they were sent."""

from __future__ import annotations

import re

SHORTEST = 16
"""Characters of a key that is looked for in whole bodies; a shorter one ("EMPTY", say) can be a word of an answer."""
MARK = "(key)"
"""In place of the key."""


class Redaction:
    """Replaces a key in messages and bodies."""

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


def _written(character: str) -> str:
    """A pattern of the ways in which JSON may write a character."""
    if character.isalnum():
        return character
    digits = "".join(f"[{digit}{digit.upper()}]" for digit in f"{ord(character):04x}")
    # The longer one first: a backslash alone would match the beginning of its own escape.
    return rf"(?:\\u{digits}|\\?{re.escape(character)})"
