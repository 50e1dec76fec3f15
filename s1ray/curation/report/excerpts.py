"""Texts as the report shows them: cut, and with the part marked that two texts have in common."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SHOWN = 600
"""Characters of a text that the report shows."""
BEFORE = 150
"""Of them before the marked part, where a text does not begin with it."""
SEARCHED = 100_000
"""Characters of a text in which words are looked for."""
LEAST_RUN = 2
"""Tokens in a row that two texts must share to be marked."""
_TOKEN = re.compile(r"(?:\\[A-Za-z]+)|(\d+|[^\W\d_]+)")
"""A number or a word. LaTeX commands are none: the normal form has signs in their place."""

Span = tuple[int, int]
"""Where a part of a text begins and ends, in characters."""


@dataclass(frozen=True)
class Piece:
    """A part of a text."""

    text: str
    marked: bool = False


@dataclass(frozen=True)
class Excerpt:
    """A text, or the part of it that is shown."""

    pieces: list[Piece]
    characters: int
    """Of the whole text."""
    cut: bool

    @property
    def text(self) -> str:
        """What is shown."""
        return "".join(piece.text for piece in self.pieces)


def excerpt(text: str, marks: Sequence[Span] = ()) -> Excerpt:
    """A text, cut to `SHOWN` characters around its first mark.

    Args:
        text: any text.
        marks: ascending, none over another.
    """
    first = marks[0][0] if marks else 0
    begin = 0 if len(text) <= SHOWN or first <= BEFORE else min(first - BEFORE, len(text) - SHOWN)
    end = min(len(text), begin + SHOWN)
    pieces, place = [Piece("… ")] if begin else [], begin
    for start, stop in marks:
        start, stop = max(start, begin), min(stop, end)
        if start < stop:
            pieces += [Piece(text[place:start]), Piece(text[start:stop], marked=True)]
            place = stop
    pieces += [Piece(text[place:end]), Piece(" …" if end < len(text) else "")]
    return Excerpt([piece for piece in pieces if piece.text], len(text), bool(begin) or end < len(text))


def side_by_side(found: str, text: str, other: str) -> tuple[Excerpt, Excerpt]:
    """Two texts, marked where a run of words lies in both; where it does not, what they have in common is marked.

    Args:
        found: the run of words, in whatever spelling; or all of `text`.
        text: the longer text, where it was found.
        other: the one that it is like.
    """
    here, there = find_words(found, text), find_words(found, other)
    if here and there:
        return excerpt(text, [here]), excerpt(other, [there])
    first, second = text[:SHOWN], other[:SHOWN]
    ours, theirs = _common(first, second)
    return excerpt(text, ours), excerpt(other, theirs)


def find_words(words: str, text: str) -> Span | None:
    """Where a text has these words and numbers in a row, whatever lies between them; None where it does not.

    Only the first `SEARCHED` characters are looked at.
    """
    wanted = [token for token, _ in _tokens(words[:SEARCHED])]
    # A cut text ends in half a word, so the last one may be missing.
    if words.endswith("..."):
        wanted = wanted[:-1]
    tokens = list(_tokens(text[:SEARCHED]))
    if not wanted or len(wanted) > len(tokens):
        return None
    names = "\n" + "\n".join(token for token, _ in tokens) + "\n"
    place = names.find("\n" + "\n".join(wanted) + "\n")
    if place < 0:
        return None
    first = names.count("\n", 0, place)
    return tokens[first][1][0], tokens[first + len(wanted) - 1][1][1]


def _tokens(text: str) -> Iterator[tuple[str, Span]]:
    for match in _TOKEN.finditer(text):
        if match[1]:
            yield match[1].casefold(), match.span(1)


def _common(one: str, other: str) -> tuple[list[Span], list[Span]]:
    """The runs of tokens that two short texts share, in order, in each of them."""
    ours, theirs = list(_tokens(one)), list(_tokens(other))
    matcher = difflib.SequenceMatcher(None, [t for t, _ in ours], [t for t, _ in theirs], autojunk=False)
    blocks = [block for block in matcher.get_matching_blocks() if block.size >= LEAST_RUN]
    return _joined(one, ours, [(b.a, b.size) for b in blocks]), _joined(other, theirs, [(b.b, b.size) for b in blocks])


def _joined(text: str, tokens: Sequence[tuple[str, Span]], runs: Sequence[tuple[int, int]]) -> list[Span]:
    """The characters of some runs of tokens; runs that follow one another are one."""
    spans = [(tokens[start][1][0], tokens[start + size - 1][1][1]) for start, size in runs]
    starts = [spans[:1]] if spans else []
    for before, span in itertools.pairwise(spans):
        if text[before[1] : span[0]].isspace():
            starts[-1].append(span)
        else:
            starts.append([span])
    return [(group[0][0], group[-1][1]) for group in starts]
