"""The Markdown files of the repository: their links, anchors and code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    [*ROOT.glob("*.md"), *(f for folder in ("docs", "examples", "deploy") for f in ROOT.glob(f"{folder}/**/*.md"))]
)

_FENCE = re.compile(r"^( *)(```|~~~)[^\n]*\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_LINK = re.compile(r"\]\(([^()\s]+)\)")


def name(file: Path) -> str:
    """A file's path in the repository, as a test's id."""
    return file.relative_to(ROOT).as_posix()


def links(file: Path) -> list[str]:
    """The targets of all links and pictures."""
    return _LINK.findall(_INLINE.sub("", _FENCE.sub("", file.read_text(encoding="utf-8"))))


def anchors(file: Path) -> set[str]:
    """The anchors of all headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *$", _FENCE.sub("", file.read_text(encoding="utf-8")), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        number = next(n for n in range(100) if (f"{slug}-{n}" if n else slug) not in found)
        found.add(f"{slug}-{number}" if number else slug)
    return found


def code(file: Path) -> Iterator[str]:
    """Everything that is set as code, line by line; a line that ends in a backslash includes the next one."""
    text = file.read_text(encoding="utf-8")
    for _, _, block in _FENCE.findall(text):
        yield from re.sub(r"\\\n\s*", " ", block).splitlines()
    for _, span in _INLINE.findall(_FENCE.sub("", text)):
        yield " ".join(span.split())
