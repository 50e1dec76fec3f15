"""Finds thinking that loops: one passage written over and over."""

from __future__ import annotations

NGRAM = 8
"""Ids in a row that must come again before a repetition is looked at."""

MAX_PASSAGE = 1024
"""Longest passage whose repetition is seen, in tokens."""

MIN_LOOP = 32
"""Tokens that a loop has at least, however short its passage: a row of dots is none yet."""


class LoopDetector:
    """Says when the ids end in many copies of one passage.

    A repetition begins where the last `NGRAM` ids stood once before, `period` ids ago; it goes on as long as each id
    equals the one `period` ids before it. The passage may be any rotation of what a reader would call it. One id costs
    one dictionary look-up at most, however long the history.

    Args:
        copies: how many copies make a loop.

    Attributes:
        found: whether the ids end in a loop.
    """

    def __init__(self, copies: int) -> None:
        self._copies = copies
        self._ids: list[int] = []
        self._seen: dict[tuple[int, ...], int] = {}
        self._period = 0
        self._matched = 0
        self.found = False

    def observe(self, token_id: int) -> None:
        """Take the next id."""
        ids = self._ids
        ids.append(token_id)
        at = len(ids) - 1
        if at + 1 < NGRAM:
            return
        key = tuple(ids[-NGRAM:])
        if self._period and ids[at - self._period] == token_id:
            self._matched += 1
        else:
            before = self._seen.get(key)
            self._period = at - before if before is not None and at - before <= MAX_PASSAGE else 0
            self._matched = NGRAM
        self._seen[key] = at
        gone = at - MAX_PASSAGE
        if gone >= NGRAM - 1:
            old = tuple(ids[gone - NGRAM + 1 : gone + 1])
            if self._seen.get(old) == gone:
                del self._seen[old]
        stretch = self._matched + self._period
        self.found = self._period > 0 and stretch >= max(self._copies * self._period, MIN_LOOP)
