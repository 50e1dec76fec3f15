"""Removing duplicates of earlier questions.

Three rules, the first always on: equal text; equal normal form (ignoring case, spacing and punctuation); and near
equality: one question only adds words to the other (no number, symbol or single letter), and the Jaccard similarity of
their word triples reaches a given value. A replaced word makes another problem, however similar the rest is: "the sum
of 3 and 5" and "of 3 and 7", "arrange the letters of MADAM" and "of RADII".

Near-equal pairs are found by MinHash (Broder, 1997) with bands and then checked exactly, so no result depends on a hash
alone. Of a group of duplicates, the row that comes first in the sources stays. Groups are connected components, so
neither the order of rows in a batch nor the number of workers matters.

s1's code has one more rule, which the paper does not mention: each accepted source joins the benchmarks for the sources
after it. `cross_source` is that rule, an option; it depends on the order of the sources.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from s1ray.curation.text import normal_form, numbers, tokens

SHINGLE = 3
"""Words in a row that near equality compares."""
BANDS, BAND_ROWS = 16, 4
"""Pairs of similarity s share a band with probability 1 - (1 - s**4)**16: 0.9998 at 0.8, 0.64 at 0.5."""
_PRIME = (1 << 61) - 1
_COEFFICIENTS = np.random.Generator(np.random.PCG64(20250131)).integers(
    1, 1 << 29, size=(2, BANDS * BAND_ROWS), dtype=np.uint64
)

Keys = npt.NDArray[np.int64]
"""63-bit hashes."""


def text_key(question: str, *, normalised: bool) -> int:
    """A 63-bit key that equal questions share."""
    return _hash(normal_form(question) if normalised else question)


def bands(question: str) -> Keys:
    """The MinHash bands of a question, shape (BANDS,). Two questions with an entry in common are candidates.

    The question's numbers enter every band, so questions with different numbers are never candidates.
    """
    words = tokens(question)
    hashes = np.array([_hash(shingle) & 0xFFFFFFFF for shingle in shingles(words)], dtype=np.uint64)
    signature = ((hashes[:, None] * _COEFFICIENTS[0] + _COEFFICIENTS[1]) % np.uint64(_PRIME)).min(axis=0)
    salt = "|".join(numbers(words))
    return np.array(
        [
            _hash(f"{band}|{rows.tobytes().hex()}|{salt}")
            for band, rows in enumerate(signature.reshape(BANDS, BAND_ROWS))
        ],
        dtype=np.int64,
    )


def shingles(words: Sequence[str]) -> set[str]:
    """The word triples of a token list; a shorter list is one shingle."""
    if len(words) < SHINGLE:
        return {" ".join(words)}
    return {" ".join(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}


def near_equal(first: str, second: str, jaccard: float) -> bool:
    """Whether one question only adds words (no number, symbol or letter), and their triples overlap by `jaccard`."""
    one, other = tokens(first), tokens(second)
    added, left_out = Counter(one) - Counter(other), Counter(other) - Counter(one)
    if (added and left_out) or not all(len(token) > 1 and token.isalpha() for token in added + left_out):
        return False
    a, b = shingles(one), shingles(other)
    return len(a & b) >= jaccard * len(a | b)


def same_key(orders: npt.NDArray[np.int64], keys: Keys) -> dict[int, int]:
    """Rows that repeat an earlier row's key.

    Args:
        orders: position of each row in the sources, unique; shape (N,).
        keys: shape (N,).

    Returns:
        Order of each repeated row -> order of the first row with its key.
    """
    by_key = np.lexsort((orders, keys))
    orders, keys = orders[by_key], keys[by_key]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))) if len(keys) else np.array([], dtype=int)
    firsts = np.repeat(orders[starts], np.diff(np.append(starts, len(keys))))
    repeated = orders != firsts
    return dict(zip(orders[repeated].tolist(), firsts[repeated].tolist(), strict=True))


def near_duplicates(
    orders: npt.NDArray[np.int64], questions: Sequence[str], band_rows: Keys, jaccard: float
) -> dict[int, int]:
    """Rows that are near-equal to an earlier one, directly or through others.

    Args:
        orders: position of each row in the sources, unique; shape (N,).
        questions: their texts.
        band_rows: their `bands`; shape (N, BANDS).
        jaccard: similarity at which two questions are duplicates.

    Returns:
        Order of each such row -> order of the first row of its group.
    """
    parent = list(range(len(orders)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    checked: set[tuple[int, int]] = set()
    for first, second in _candidates(band_rows):
        if (first, second) in checked:
            continue
        checked.add((first, second))
        one, other = root(first), root(second)
        if one != other and near_equal(questions[first], questions[second], jaccard):
            parent[other if orders[one] < orders[other] else one] = one if orders[one] < orders[other] else other
    return {int(orders[row]): int(orders[root(row)]) for row in range(len(orders)) if root(row) != row}


def cross_source(orders: npt.NDArray[np.int64], sources: Sequence[int], grams: Sequence[Keys]) -> set[int]:
    """s1's rule: rows that share an n-gram with an accepted row of an earlier source.

    Args:
        orders: position of each row in the sources; shape (N,).
        sources: index of each row's source.
        grams: hashes of each row's n-grams (`gram_hashes`).
    """
    dropped: set[int] = set()
    seen = np.array([], dtype=np.int64)
    for source in sorted(set(sources)):
        accepted = []
        for row in (row for row, its_source in enumerate(sources) if its_source == source):
            if len(seen) and (seen[np.searchsorted(seen, grams[row]).clip(max=len(seen) - 1)] == grams[row]).any():
                dropped.add(int(orders[row]))
            else:
                accepted.append(grams[row])
        seen = np.unique(np.concatenate([seen, *accepted]))
    return dropped


def gram_hashes(grams: Sequence[str]) -> Keys:
    """63-bit hashes of n-grams."""
    return np.array([_hash(gram) for gram in grams], dtype=np.int64)


def _candidates(band_rows: Keys) -> Iterator[tuple[int, int]]:
    """Pairs of rows with a band entry in common."""
    for band in range(band_rows.shape[1] if band_rows.size else 0):
        column = band_rows[:, band]
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        for start, end in zip(starts, np.append(starts[1:], len(ordered)), strict=True):
            group = order[start:end].tolist()
            for i, first in enumerate(group):
                for second in group[i + 1 :]:
                    yield first, second


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
