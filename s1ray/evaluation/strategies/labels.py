"""What arms are called in the results."""

from __future__ import annotations


def one_line(text: str, most: int = 40) -> str:
    """A text for a label: one line, no slashes, cut at `most` characters."""
    words = " ".join(text.replace("/", " ").replace("\\", " ").split())
    return words if len(words) <= most else words[: most - 3].rstrip() + "..."
