"""Cutting an answer in canonical notation at separators and signs outside its brackets."""

from __future__ import annotations

import re

OPENING, CLOSING = "([{", ")]}"


def items_of(text: str, separators: str = ",;") -> list[str]:
    """Split at separators outside brackets."""
    parts, depth, begin = [], 0, 0
    for index, character in enumerate(text):
        if character in OPENING:
            depth += 1
        elif character in CLOSING:
            depth -= 1
        elif depth <= 0 and character in separators:
            parts.append(text[begin:index])
            begin = index + 1
    return [part.strip() for part in [*parts, text[begin:]]]


def spaces_free(text: str) -> str:
    """A formula without spaces, but between letters and between digits."""
    return re.sub(r"(?<![A-Za-z\d]) +|(?<=[A-Za-z]) +(?![A-Za-z])|(?<=\d) +(?!\d)", "", text)


def spelling(text: str) -> str:
    """What two answers in words share, whatever their case, spaces and final full stop; the brackets of a list are not
    said.
    """
    bare = re.sub(r"\s+", "", text).casefold().rstrip(".")
    return bare[1:-1] if bare.startswith("[") and bare.endswith("]") and "[" not in bare[1:] else bare


def trivial(text: str) -> bool:
    """Whether an answer only says that something is itself ("0 = 0"), which is true of every answer."""
    sides = [spaces_free(side) for side in text.split("=")]
    return len(sides) > 1 and len(set(sides)) == 1


def peeled(text: str) -> str:
    """Without braces and brackets around one value: "(12)", "{5}"."""
    text = text.strip().removeprefix("\\approx ").removeprefix("\\approx").strip()
    while len(text) > 2 and (
        text[0] + text[-1] == "{}" or (text[0] + text[-1] == "()" and len(items_of(text[1:-1])) == 1)
    ):
        if not encloses(text):
            break
        text = text[1:-1].strip()
    return text


def encloses(text: str) -> bool:
    """Whether the first bracket is closed by the last."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character in OPENING) - (character in CLOSING)
        if depth == 0:
            return index == len(text) - 1
    return False


def outside(text: str, pattern: re.Pattern[str]) -> list[re.Match[str]]:
    """Matches outside brackets."""
    depths, depth = [], 0
    for character in text:
        depth += (character in OPENING) - (character in CLOSING)
        depths.append(depth)
    return [match for match in pattern.finditer(text) if depths[match.start()] <= 0]


def cut(text: str, matches: list[re.Match[str]]) -> list[str]:
    """What stands before, between and behind matches."""
    begins = [0, *(match.end() for match in matches)]
    ends = [*(match.start() for match in matches), len(text)]
    return [text[begin:end].strip() for begin, end in zip(begins, ends, strict=True)]


def split_command(text: str, pattern: str) -> list[str]:
    """Split where a pattern matches outside brackets."""
    return cut(text, outside(text, re.compile(pattern)))
