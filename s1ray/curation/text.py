"""Text in the forms that comparisons need: one definition of "the same text" for all stages."""

from __future__ import annotations

import re
import unicodedata

_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+|[^\w\s]|_")
_LATEX_NOISE = re.compile(r"\\(?:left|right|displaystyle|quad|qquad)(?![a-zA-Z])|\\[,;:! ()\[\]]")
_DROPPED = frozenset(".,;:!?\"'`´’‘“”$()*")
"""Punctuation that carries no meaning in a question; operators and other brackets stay."""


def word_ngrams(text: str, n: int) -> list[str]:
    """All runs of `n` words, in order, in s1's normal form: lower case, and one space between words."""
    words = text.lower().split()
    return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]


def tokens(text: str) -> list[str]:
    """Words, numbers and symbols, ignoring case, spacing, sentence punctuation, LaTeX spacing and formula delimiters.

    "What is  3+4 ?" and "what is 3 + 4" give the same, and so do "(5,3)" and "5, 3"; "5,3" and "53", or "1 23" and
    "12 3", do not.
    """
    text = _LATEX_NOISE.sub(" ", unicodedata.normalize("NFKC", text))
    return [token for token in _TOKEN.findall(text.casefold()) if token not in _DROPPED]


def normal_form(text: str) -> str:
    """`tokens`, joined: equal for texts that differ only in spelling conventions."""
    return " ".join(tokens(text))


def numbers(words: list[str]) -> tuple[str, ...]:
    """The numbers among tokens, in order."""
    return tuple(word for word in words if word[0].isdigit())
