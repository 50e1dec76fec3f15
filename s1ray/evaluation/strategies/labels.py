"""What arms are called in the results."""

from __future__ import annotations

LABEL_PATTERN = r"^[^\s/\\][^/\\\n\r\t]{0,79}$"
"""Labels name columns, legends and files: one line, no slashes."""


def one_line(text: str, most: int = 40) -> str:
    """A text for a label: one line, no slashes, cut at `most` characters."""
    words = " ".join(text.replace("/", " ").replace("\\", " ").split())
    return words if len(words) <= most else words[: most - 3].rstrip() + "..."
