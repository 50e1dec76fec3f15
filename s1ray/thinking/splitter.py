"""Splits a stream of text into thinking and answer, whatever the chunks.

Pure and incremental: text goes in piece by piece, what is certain comes out at once, and what may still turn out to be
a delimiter (or the line breaks around one) is held back. Feeding one character at a time and feeding everything at once
give the same two texts.
"""

from __future__ import annotations

from enum import Enum


class _State(Enum):
    BEFORE = "before"
    """Nothing but white space seen; the start delimiter may come."""
    THINKING = "thinking"
    ENDED = "ended"
    """The end delimiter was read; the answer's first character was not."""
    ANSWER = "answer"


class ThinkingSplitter:
    """Reads one response.

    Args:
        start: the delimiter that opens thinking.
        end: the delimiter that closes it.
        opened: True where the prompt ended inside thinking, so that the output has no start delimiter (one is accepted
            all the same).
    """

    def __init__(self, start: str, end: str, *, opened: bool) -> None:
        self._start = start
        self._end = end
        self._opened = opened
        self._state = _State.BEFORE
        self._held = ""
        self._thinking_begun = False

    @property
    def answering(self) -> bool:
        """True once the answer's first character has been given out: from there, text needs no splitting."""
        return self._state is _State.ANSWER

    def feed(self, text: str) -> tuple[str, str]:
        """Take the next piece; give the thinking and the answer that are now certain (either may be empty)."""
        self._held += text
        thinking = answer = ""
        if self._state is _State.BEFORE:
            self._leave_before()
        if self._state is _State.THINKING:
            thinking = self._take_thinking()
        if self._state is _State.ENDED:
            self._held = self._held.lstrip("\n")
            if self._held:
                self._state = _State.ANSWER
        if self._state is _State.ANSWER:
            answer, self._held = self._held, ""
        return thinking, answer

    def finish(self) -> tuple[str, str]:
        """The text has ended: give what was held back."""
        held, self._held = self._held, ""
        if self._state is _State.THINKING or (self._state is _State.BEFORE and self._opened):
            return (held if self._thinking_begun else held.lstrip("\n")), ""
        if self._state is _State.ENDED:
            return "", ""
        return "", held

    def _leave_before(self) -> None:
        seen = self._held.lstrip()
        if seen.startswith(self._start):
            self._held = seen[len(self._start) :]
            self._state = _State.THINKING
        elif not self._start.startswith(seen):
            self._state = _State.THINKING if self._opened else _State.ANSWER

    def _take_thinking(self) -> str:
        if not self._thinking_begun:
            self._held = self._held.lstrip("\n")
            self._thinking_begun = bool(self._held)
        thinking, found, rest = self._held.partition(self._end)
        if found:
            self._held = rest
            self._state = _State.ENDED
            return thinking.rstrip("\n")
        keep = len(self._held) - _undecided(self._held, self._end)
        taken, self._held = self._held[:keep], self._held[keep:]
        return taken


def _undecided(text: str, delimiter: str) -> int:
    """Length of the tail of `text` that may be line breaks and a begun `delimiter`."""
    for length in range(min(len(delimiter) - 1, len(text)), -1, -1):
        if text.endswith(delimiter[:length]):
            body = text[: len(text) - length]
            return length + len(body) - len(body.rstrip("\n"))
    raise AssertionError("the empty prefix always matches")
