"""Texts of a block as arrays of hashes, so that what is said of every row costs no Python loop over its tokens.

A token's hash is 64 bits of BLAKE2b of the token in lower case. Its two lowest bits say what kind of token it is, so
that numbers and words can be told apart in arrays: `NUMBER`, `WORD` (two letters or more), `LETTER` (one), or a sign.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from s1ray.curation.text.normal import tokens

if TYPE_CHECKING:
    import pyarrow as pa

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

KIND, SIGN, WORD, NUMBER, LETTER = np.uint64(3), np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)
_CACHE_SIZE = 1 << 19
_LAST_ASCII = 127
_SPACES = np.array([chr(byte).isspace() and byte <= _LAST_ASCII for byte in range(256)])


def text_hash(text: str) -> int:
    """64 bits of BLAKE2b; lone surrogates have bytes of their own."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class TokenHashes(dict[str, int]):
    """Hashes of tokens, kept; bounded in memory."""

    def __missing__(self, token: str) -> int:
        value = text_hash(token.lower()) & ~3 | int(_kind(token))
        if len(self) >= _CACHE_SIZE:
            self.clear()
        self[token] = value
        return value


def _kind(token: str) -> np.uint64:
    if token.isalpha():
        return WORD if len(token) > 1 else LETTER
    return NUMBER if token[0].isdigit() else SIGN


_HASHES = TokenHashes()


def token_hash(token: str) -> int:
    """The hash that a token has in blocks."""
    return _HASHES[token]


@dataclass(frozen=True)
class TokenBlock:
    """The tokens of texts, one text after another."""

    hashes: Hashes
    """Of all tokens, case ignored; shape (T,)."""
    starts: Places
    """Where each text begins, and the end; shape (N + 1,)."""
    forms: Sequence[str]
    """The texts in normal form, case kept; N of them."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> TokenBlock:
        """The block of some texts."""
        lists = [tokens(text) for text in texts]
        return cls(*flat_hashes(lists, _HASHES), [" ".join(each) for each in lists])

    def __len__(self) -> int:
        return len(self.forms)

    def words(self, row: int) -> list[str]:
        """The tokens of a text, in lower case."""
        return self.forms[row].lower().split()


@dataclass(frozen=True)
class WordBlock:
    """The words of texts as s1 takes them: lower case, cut at white space, punctuation stays."""

    hashes: Hashes
    """Of all words; shape (T,)."""
    starts: Places
    """Where each text begins, and the end; shape (N + 1,)."""
    lists: Sequence[Sequence[str]]
    """The words of each text."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> WordBlock:
        """The block of some texts."""
        lists = [text.lower().split() for text in texts]
        return cls(*flat_hashes(lists, _HASHES), lists)

    def ngrams(self, n: int) -> tuple[Hashes, Places]:
        """Hashes of the runs of `n` words, and where each begins, as in `ngrams`."""
        return ngrams(self.hashes, self.starts, n)

    def ngram_starts(self, n: int) -> Places:
        """Where the runs of each text begin among those of all, and the end; shape (N + 1,)."""
        starts = np.zeros(len(self.starts), dtype=np.int64)
        np.cumsum(np.maximum(np.diff(self.starts) - n + 1, 0), out=starts[1:])
        return starts


def flat_hashes(lists: Sequence[Sequence[str]], hashes: dict[str, int]) -> tuple[Hashes, Places]:
    """The hashes of the words of several texts, one after another, and where each text begins, with the end."""
    starts = np.zeros(len(lists) + 1, dtype=np.int64)
    np.cumsum([len(each) for each in lists], out=starts[1:])
    flat = np.fromiter(map(hashes.__getitem__, chain.from_iterable(lists)), dtype=np.uint64, count=int(starts[-1]))
    return flat, starts


def rows_of(starts: Places) -> Places:
    """The row of each token."""
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def masked(hashes: Hashes, kind: np.uint64) -> Hashes:
    """The same hashes with one for all tokens of a kind."""
    return np.where((hashes & KIND) == kind, kind, hashes)


def only(hashes: Hashes, starts: Places, chosen: npt.NDArray[np.bool_]) -> tuple[Hashes, Places, Places]:
    """The chosen tokens, where each row begins among them, and their places in the block."""
    before = np.zeros(len(hashes) + 1, dtype=np.int64)
    np.cumsum(chosen, out=before[1:])
    return hashes[chosen], before[starts], np.flatnonzero(chosen)


def ngrams(hashes: Hashes, starts: Places, n: int) -> tuple[Hashes, Places]:
    """Hashes of all runs of `n` tokens within a row, and the place of each run's first token."""
    count = len(hashes) - n + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    rows = rows_of(starts)
    places = np.flatnonzero(rows[:count] == rows[n - 1 :])
    total = hashes[:count].copy()
    for offset in range(1, n):
        total *= _FACTOR
        total += hashes[offset : offset + count]
    return mixed(total[places]), places


def mixed(values: Hashes) -> Hashes:
    """The same values with their bits spread (a multiplication keeps low bits low)."""
    values = values ^ (values >> _SHIFT)
    values = values * _FACTOR
    return values ^ (values >> _SHIFT)


def row_sums(values: Hashes, starts: Places) -> Hashes:
    """The sum of each row's values, modulo 2**64."""
    sums = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(values, out=sums[1:])
    return sums[starts[1:]] - sums[starts[:-1]]


def sequence_keys(hashes: Hashes, starts: Places, chosen: npt.NDArray[np.bool_] | None = None) -> Hashes:
    """A key of the tokens of each row, in order.

    Args:
        hashes: of tokens; shape (T,).
        starts: of rows; shape (N + 1,).
        chosen: which tokens count; shape (T,). None: all.
    """
    if chosen is None:
        chosen = np.ones(len(hashes), dtype=np.bool_)
    before = np.zeros(len(hashes) + 1, dtype=np.uint64)
    np.cumsum(chosen, out=before[1:])
    number = before[:-1] - np.repeat(before[starts[:-1]], np.diff(starts))
    return mixed(row_sums(np.where(chosen, mixed(hashes + number * _FACTOR), np.uint64(0)), starts))


def text_keys(texts: Sequence[str]) -> Hashes:
    """Keys of texts to the letter; shape (N,)."""
    return np.fromiter(map(text_hash, texts), dtype=np.uint64, count=len(texts))


def answer_keys(answers: Sequence[str | None]) -> Hashes:
    """Keys of answers in normal form, shape (N,); 0 where there is none."""
    keys: dict[str | None, int] = {}
    for answer in {*answers}:
        form = " ".join(tokens(answer)) if answer else ""
        keys[answer] = text_hash(form) if form else 0
    return np.fromiter(map(keys.__getitem__, answers), dtype=np.uint64, count=len(answers))


def word_counts(texts: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Words of each text, cut at white space as `str.split` does; 0 where there is none; shape (N,)."""
    counts = [_word_counts(chunk) for chunk in texts.fill_null("").chunks if len(chunk)]
    return np.concatenate([np.empty(0, np.int64), *counts])


def _word_counts(texts: pa.Array) -> npt.NDArray[np.int64]:
    import pyarrow as pa

    texts = texts.cast(pa.large_string())
    _, borders, text = texts.buffers()
    starts = np.frombuffer(borders, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(text or b"", np.uint8)[starts[0] : starts[-1]]
    starts = starts - starts[0]
    inside = ~_SPACES[data]
    begins = inside.copy()
    begins[1:] &= ~inside[:-1]
    firsts = starts[:-1][starts[:-1] < len(data)]
    begins[firsts] = inside[firsts]
    counts = _between(begins, starts)
    # White space beyond ASCII has several bytes.
    for row in np.flatnonzero(_between(data > _LAST_ASCII, starts)).tolist():
        counts[row] = len(str(texts[row]).split())
    return counts


def _between(values: npt.NDArray[np.bool_], starts: Places) -> npt.NDArray[np.int64]:
    """How many are true between each start and the next."""
    counts: npt.NDArray[np.int64] = np.diff(np.searchsorted(np.flatnonzero(values), starts))
    return counts
