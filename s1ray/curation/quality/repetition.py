"""Text that says the same again and again, as broken extraction and looping models leave it.

What repeats in sound questions stays: numbers of a list or a table, terms of a sum, drawn lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

COPY_WORDS = 6
"""Words of the shortest passage whose repetition makes up a whole text."""
PHRASE_WORDS, TIMES = 8, 8
"""Words of the longest phrase that is looked for, and how often it stands in a row."""
LINE_WORDS, LINES = 4, 4
"""Words of the shortest line that counts, and how often it stands in the text."""
_CHARACTER = re.compile(r"([^\W_])\1{29}|([!?,;:@\u00a0-\uffff])\2{29}")
_DRAWING = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]{3}")


def repeats_itself(text: str) -> bool:
    """Whether a text is one passage several times, or has a line, a phrase or a character far too often."""
    text = _DRAWING.sub(" ", text)
    words = text.split()
    counts = Counter(words)
    if _is_copies(words, counts) or _CHARACTER.search(text):
        return True
    if max(counts.values(), default=0) < LINES:
        return False
    return _has_lines(text) or _has_phrase(words, counts)


def _is_copies(words: Sequence[str], counts: Counter[str]) -> bool:
    """Whether all words are one passage at least twice."""
    copies = counts[words[0]] if words else 0
    return any(
        len(words) % times == 0
        and len(words) // times >= COPY_WORDS
        and words[len(words) // times :] == words[: -len(words) // times]
        for times in range(2, copies + 1)
    )


def _has_lines(text: str) -> bool:
    lines = Counter(line.strip() for line in text.splitlines())
    return any(count >= LINES and _says(line.split(), LINE_WORDS) for line, count in lines.items())


def _has_phrase(words: Sequence[str], counts: Counter[str]) -> bool:
    if max(counts.values()) < TIMES:
        return False
    for size in range(1, PHRASE_WORDS + 1):
        run = 0
        for place in range(size, len(words)):
            run = run + 1 if words[place] == words[place - size] else 0
            if run >= size * (TIMES - 1) and _says(words[place - size + 1 : place + 1], 1):
                return True
    return False


def _says(words: Sequence[str], least: int) -> bool:
    """Whether these are at least so many words, and one of them is one of letters."""
    return len(words) >= least and any(_WORD.match(word) for word in words)
