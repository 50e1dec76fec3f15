r"""s1's text patterns, and text that was decoded with the wrong encoding."""

from __future__ import annotations

import re
from collections.abc import Callable


def _finds(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.search(text) is not None


FILTERS: tuple[tuple[str, Callable[[str], bool], str], ...] = (
    ("asymptote_figure", _finds(r"\[asy\]"), r"\[asy\]"),
    ("image_placeholder", _finds(r"!\[Image\]"), r"!\[Image\]"),
    ("inconsistent_numbering", _finds(r"p[1-9][0-9]{0,2}\."), "p[1-9]"),
    ("bold_number", _finds(r"\*\*(?=.*\d)[^\s\]]*\*\*"), r"\*\*"),
    # What UTF-8 looks like when it was read as Windows-1252; not among s1's patterns.
    (
        "misdecoded_text",
        _finds("\u00e2\u20ac[\u0080-\u2122]|[\u00c2\u00c3][\u0080-\u00bf]|\ufffd"),
        "\u00e2\u20ac|[\u00c2\u00c3\ufffd]",
    ),
)
"""Name, exact test, and a pattern of RE2 that finds whatever the test finds."""
