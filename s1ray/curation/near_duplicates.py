"""Questions that only add words to another one.

The rule: leaving words out of one question (two letters or more, and the article "a"; no number, sign or single letter)
gives the other one, and the Jaccard similarity of their word triples reaches a given value. A replaced or a moved word
makes another problem, however similar the rest is: "the sum of 3 and 5" and "of 3 and 7", "Ann is older than Tom" and
"Tom is older than Ann".

So near duplicates have the same numbers, signs and letters in the same order. Each band's key is made of these and of
one MinHash (Broder, 1997) of the word triples; two near-duplicates of similarity s share a key with probability
1 - (1 - s)**BANDS: 0.9999 at 0.9, 0.998 at 0.8. Rows that share no key need not be looked at, and every pair that is
found is checked exactly, so no result depends on a hash alone.

Many rows can share a key (one template with other nouns), and no pair of them may be near-equal. Whatever a row only
adds words to has all of its words, so a row is compared with those rows only that have its rarest word, and with
`MAX_COMPARED` of them at most; a row for which this was not enough is counted. The time is linear in the rows.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress

import numpy as np
import numpy.typing as npt

from s1ray.curation.text.blocks import (
    KIND,
    WORD,
    Hashes,
    Places,
    TokenBlock,
    mixed,
    ngrams,
    sequence_keys,
    token_hash,
)
from s1ray.curation.text.normal import tokens

_ARTICLE_HASH = np.uint64(token_hash("a"))
BANDS = 4
"""Keys of a row."""
SHINGLE = 3
"""Words in a row that the similarity compares."""
MAX_COMPARED = 1000
"""Rows that one row is compared with at most."""
MAX_GROUP = 20_000
"""Rows that are in memory together where they share bands through others only."""
_SEEDS = mixed(np.arange(1, BANDS + 1, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03))


@dataclass(frozen=True)
class NearDuplicates:
    """Rows that are near-equal to an earlier one, directly or through others."""

    kept: dict[int, int] = field(default_factory=dict)
    """Order of each such row -> order of the first row of its group."""
    conflicts: list[tuple[int, int]] = field(default_factory=list)
    """Orders of rows that are near-equal, directly or through others, and have different answers, the earlier first,
    ascending: a word more may change what is asked ("the smallest number"). They are not in one group for that. Each
    later row is there once, with the earliest."""
    bounded: int = 0
    """Rows that have more than `MAX_COMPARED` rows to be compared with."""


def minhash_bands(questions: Sequence[str], block: TokenBlock | None = None) -> npt.NDArray[np.int64]:
    """Keys of questions; near-equal questions share one of them (see the module), and case does not matter.

    Args:
        questions: N texts.
        block: theirs, where it is there.

    Returns:
        Shape (N, BANDS).
    """
    block = block or TokenBlock.of(questions)
    hashes, starts = _padded(block)
    salt = sequence_keys(block.hashes, block.starts, ~_word_places(block))
    triples, _ = ngrams(hashes, starts, SHINGLE)
    counts = np.diff(starts) - SHINGLE + 1
    firsts = np.cumsum(counts) - counts
    bands = np.empty((len(block), BANDS), dtype=np.int64)
    for band, seed in enumerate(_SEEDS):
        if len(block):
            smallest = np.minimum.reduceat(mixed(triples ^ seed), firsts)
            bands[:, band] = mixed(smallest + salt + seed).view(np.int64)
    return bands


def _word_places(block: TokenBlock) -> npt.NDArray[np.bool_]:
    """Which tokens of a block are words; `_words` for many texts at once."""
    words: npt.NDArray[np.bool_] = (block.hashes & KIND) == WORD
    count = len(words)
    articles = np.flatnonzero(block.hashes == _ARTICLE_HASH)
    if len(articles):
        starts = np.zeros(count + 1, dtype=np.bool_)
        starts[block.starts] = True
        before = starts[articles] | words[articles - 1]
        after = ~starts[articles + 1] & words[np.minimum(articles + 1, count - 1)]
        words[articles[before & after]] = True
    return words


def _padded(block: TokenBlock) -> tuple[Hashes, Places]:
    """The block with `SHINGLE` tokens more at each row's end, so that every row has a triple."""
    counts = np.diff(block.starts)
    starts = np.zeros(len(block) + 1, dtype=np.int64)
    np.cumsum(counts + SHINGLE, out=starts[1:])
    hashes = np.zeros(int(starts[-1]), dtype=np.uint64)
    hashes[np.arange(len(block.hashes)) + np.repeat(starts[:-1] - block.starts[:-1], counts)] = block.hashes
    return hashes, starts


def shared_bands(bands: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Groups of rows that share a band with each other, directly or through others.

    Args:
        bands: shape (N, BANDS).

    Returns:
        The first row of each row's group, shape (N,); rows that share nothing are their own group.
    """
    labels = np.arange(len(bands))
    orders = [np.argsort(column, kind="stable") for column in bands.T]
    changed = len(bands) > 1
    while changed:
        before = labels.copy()
        for column, order in zip(bands.T, orders, strict=True):
            ordered = column[order]
            starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
            smallest = np.minimum.reduceat(labels[order], starts)
            labels[order] = np.repeat(smallest, np.diff(np.append(starts, len(order))))
        labels = labels[labels]
        changed = bool((labels != before).any())
    return labels


def near_duplicates(
    orders: npt.NDArray[np.int64],
    questions: Sequence[str],
    bands: npt.NDArray[np.int64],
    jaccard: float,
    answers: Hashes | None = None,
) -> NearDuplicates:
    """Rows that are near-equal to an earlier one. Of a group the row that comes first in the sources stays.

    Args:
        orders: position of each row in the sources, unique; shape (N,).
        questions: their texts. Only those of rows that share a band with another row are read, so the others may be
            left out (see `shared_bands`).
        bands: their `minhash_bands`; shape (N, BANDS).
        jaccard: similarity at which two questions are duplicates.
        answers: keys of the answers, 0 where there is none (`answer_keys`); shape (N,). None: answers do not count.
    """
    said = [0] * len(orders) if answers is None else answers.tolist()
    says = list(range(len(orders)))
    """Of each root, the row whose answer its group has."""
    conflicts: dict[int, int] = {}
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    bounded = 0
    for group in _groups(bands):
        parent |= {row: row for row in group if row not in parent}
        texts, copies = _distinct(_Text.of(row, questions[row]) for row in sorted(group, key=orders.__getitem__))
        pairs, cut = _near_pairs(texts, jaccard)
        bounded += cut
        for one, other in copies + pairs:
            first, second = sorted((root(one), root(other)), key=lambda row: int(orders[row]))
            if said[first] and said[second] and said[first] != said[second]:
                conflicts[second] = min(first, conflicts.get(second, first), key=orders.__getitem__)
            else:
                parent[second] = first
                if not said[first]:
                    said[first], says[first] = said[second], says[second]
    kept = {int(orders[row]): int(orders[root(row)]) for row in parent if root(row) != row}
    named: dict[int, int] = {}
    for pair in conflicts.items():
        earlier, later = sorted(int(orders[says[root(row)]]) for row in pair)
        named[later] = min(earlier, named.get(later, earlier))
    return NearDuplicates(kept, sorted((earlier, later) for later, earlier in named.items()), bounded)


def _groups(bands: npt.NDArray[np.int64]) -> Iterator[list[int]]:
    """Rows to compare with each other: those that share a band, also through others where they are not too many."""
    for group in _equal(shared_bands(bands)):
        if len(group) <= MAX_GROUP:
            yield group.tolist()
        else:
            for band in bands.T:
                yield from (group[places].tolist() for places in _equal(band[group]))


def _equal(values: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """The places of each value that occurs more than once."""
    order = np.argsort(values, kind="stable")
    borders = np.flatnonzero(np.diff(values[order])) + 1
    yield from (places for places in np.split(order, borders) if len(places) > 1)


def near_equal(first: str, second: str, jaccard: float) -> bool:
    """Whether one question only adds words to the other, and their word triples overlap by `jaccard`."""
    shorter, longer = sorted((_Text.of(0, first), _Text.of(1, second)), key=lambda text: len(text.tokens))
    return _near(shorter, longer, jaccard)


@dataclass(frozen=True)
class _Text:
    """What comparing a question needs, made once."""

    row: int
    tokens: list[str]
    words: frozenset[str]
    shingles: frozenset[str]
    capitals: bool

    @classmethod
    def of(cls, row: int, question: str) -> _Text:
        """Of a question."""
        found = tokens(question)
        return cls(
            row, found, frozenset(compress(found, _words(found))), frozenset(shingles(found)), question.isupper()
        )


def _distinct(texts: Iterable[_Text]) -> tuple[list[_Text], list[tuple[int, int]]]:
    """The first text of each token list, and pairs of these with the others."""
    firsts: dict[tuple[str, ...], _Text] = {}
    copies = []
    for text in texts:
        first = firsts.setdefault(tuple(text.tokens), text)
        if first is not text:
            copies.append((first.row, text.row))
    return list(firsts.values()), copies


def shingles(words: Sequence[str]) -> set[str]:
    """The word triples of a token list; a shorter list is one shingle."""
    if len(words) < SHINGLE:
        return {" ".join(words)}
    return {" ".join(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}


def _words(found: Sequence[str]) -> list[bool]:
    """Which tokens are words: two letters or more, or an article, "a" within prose."""
    words = [len(token) > 1 and token.isalpha() for token in found]
    articles = [
        place
        for place, token in enumerate(found[:-1])
        if token in "aA" and words[place + 1] and (not place or words[place - 1])
    ]
    for place in articles:
        words[place] = True
    return words


def _near_pairs(texts: Sequence[_Text], jaccard: float) -> tuple[list[tuple[int, int]], int]:
    """The near-equal pairs of a group, and how many rows were compared with some of their candidates only."""
    frequency = Counter(word for text in texts for word in text.words)
    having: dict[str, list[_Text]] = {}
    rarest = {}
    for text in texts:
        rarest[text.row] = min(text.words, key=lambda word: (frequency[word], word), default="")
    wanted = set(rarest.values())
    for text in sorted(texts, key=lambda text: (len(text.shingles), text.row)):
        for word in wanted.intersection(text.words) | ({""} & wanted):
            having.setdefault(word, []).append(text)
    pairs, bounded = [], 0
    for text in texts:
        candidates = having[rarest[text.row]]
        size = len(text.shingles)
        low = bisect_left(candidates, size * jaccard, key=lambda other: len(other.shingles))
        high = bisect_right(candidates, size / jaccard, key=lambda other: len(other.shingles))
        bounded += high - low > MAX_COMPARED
        for other in candidates[low : min(high, low + MAX_COMPARED)]:
            longer = (len(other.tokens), other.row) > (len(text.tokens), text.row)
            if longer and text.words <= other.words and _near(text, other, jaccard):
                pairs.append((text.row, other.row))
    return pairs, bounded


def _near(shorter: _Text, longer: _Text, jaccard: float) -> bool:
    one, other = shorter.tokens, longer.tokens
    a, b = shorter.shingles, longer.shingles
    if shorter.capitals != longer.capitals:
        # The case of a text in capitals says nothing.
        one, other = [token.lower() for token in one], [token.lower() for token in other]
        a, b = frozenset(shingles(one)), frozenset(shingles(other))
    shared = len(a & b)
    return shared >= jaccard * (len(a) + len(b) - shared) and _only_adds_words(one, other)


def _only_adds_words(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether `other` is `one` with words put in."""
    words, place, only_words = _words(other), 0, True
    for token, is_word in zip(other, words, strict=True):
        if place < len(one) and token == one[place]:
            place += 1
        elif not is_word:
            only_words = False
    if place < len(one) or only_words:
        return place == len(one)
    if not set(one).issuperset(token for token, is_word in zip(other, words, strict=True) if not is_word):
        return False
    # Another way to leave words out may do, so all of them are followed at once: bit `n` of `ends` says that what was
    # read can be the first `n` tokens of `one`. Rare, as it takes memory for each token.
    places: dict[str, int] = {}
    for place, token in enumerate(one):
        places[token] = places.get(token, 0) | 1 << place
    ends = 1
    for token, is_word in zip(other, words, strict=True):
        ends = (ends & places.get(token, 0)) << 1 | (ends if is_word else 0)
        if not ends:
            return False
    return bool(ends >> len(one) & 1)
