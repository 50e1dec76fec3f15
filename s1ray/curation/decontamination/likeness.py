r"""Likeness to benchmark questions: what a person may look at, or what a careful config drops as well.

- `s1_ngrams`: s1's rule to the letter (section 2 of the paper, `decontaminate_util.py` in its code): lower case, one
  space between words, punctuation stays on its word, and eight words in a row are shared.
- `ngrams`: words, letters and numbers in a row in normal form, without any sign between them.
- `template`: the whole question with other numbers.
- `overlap`: tokens and pairs of tokens in any order, weighted by how few benchmark questions have them (inverse
  document frequency): the share of the benchmark question's weight that the row has, or the reverse where the row is a
  part of the benchmark question; and whole rows that a benchmark question begins with.

Boilerplate ("where $m$ and $n$ are relatively prime positive integers. Find $m+n$") is no likeness: n-grams that
several benchmark questions share, and those that lie in a short list of phrases.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from s1ray.curation.decontamination.hits import Hit, shown
from s1ray.curation.decontamination.screen import Screen
from s1ray.curation.text.blocks import (
    KIND,
    NUMBER,
    SIGN,
    Hashes,
    Places,
    TokenBlock,
    TokenHashes,
    WordBlock,
    masked,
    mixed,
    ngrams,
    only,
    rows_of,
    sequence_keys,
)
from s1ray.curation.text.normal import tokens

Questions = Sequence[tuple[str, str]]
"""(label, question) pairs."""
PHRASES = (
    "where m and n are relatively prime positive integers. Find m + n.",
    "can be written in the form m/n where m and n are relatively prime positive integers. Find m + n.",
    "can be expressed as m/n where m and n are relatively prime positive integers. Find m + n.",
    "where a, b, and c are positive integers, and c is not divisible by the square of any prime. Find a + b + c.",
    "Find the remainder when N is divided by 1000.",
    "Express your answer as a common fraction in simplest radical form.",
    "Express your answer in interval notation. Express your answer in terms of x.",
    "Round your answer to the nearest whole number. Round to the nearest hundredth. to the nearest tenth",
    "Enter all the solutions, separated by commas. Give your answer as a decimal.",
    "Please reason step by step, and put your final answer within boxed.",
)
_PHRASE_RUN = 4


class WordRuns:
    """s1's rule: runs of words as they stand."""

    def __init__(self, questions: Questions, n: int, boilerplate: int | None) -> None:
        """Index runs of `n` words; those of `boilerplate` questions or more do not count."""
        self.n, self.questions = n, questions
        words = WordBlock.of([question for _, question in questions])
        self.screen, self.texts = Screen(), dict[int, str]()
        for value, number, text in _countable(words.lists, words.hashes, words.starts, n, boilerplate):
            self.screen.add(value, number)
            self.texts[value] = text

    def find(self, words: WordBlock) -> dict[int, Hit]:
        """The first shared run of each text."""
        values, places = words.ngrams(self.n)
        hits: dict[int, Hit] = {}
        for at, numbers in self.screen.find(values):
            row = int(np.searchsorted(words.starts, places[at], side="right")) - 1
            start = int(places[at] - words.starts[row])
            run = " ".join(words.lists[row][start : start + self.n])
            if row not in hits and run == self.texts[int(values[at])]:
                label, asked = self.questions[numbers[0]]
                hits[row] = Hit("s1_ngrams", label, run, shown(asked))
        return hits


class NormalRuns:
    """Runs of words, letters and numbers in normal form."""

    def __init__(self, questions: Questions, block: TokenBlock, n: int, boilerplate: int | None) -> None:
        """Index runs of `n`; those of `boilerplate` questions or more, and those in phrases, do not count."""
        self.n, self.questions = n, questions
        flat, starts, _ = only(block.hashes, block.starts, (block.hashes & KIND) != SIGN)
        lists = [[word for word in block.words(row) if _counts(word)] for row in range(len(block))]
        self.screen, self.texts = Screen(), dict[int, str]()
        for value, number, text in _countable(lists, flat, starts, n, boilerplate):
            if boilerplate is None or not _is_phrase(text.split()):
                self.screen.add(value, number)
                self.texts[value] = text

    def find(self, block: TokenBlock) -> dict[int, Hit]:
        """The first shared run of each text."""
        flat, starts, _ = only(block.hashes, block.starts, (block.hashes & KIND) != SIGN)
        values, places = ngrams(flat, starts, self.n)
        hits: dict[int, Hit] = {}
        for at, numbers in self.screen.find(values):
            row = int(np.searchsorted(starts, places[at], side="right")) - 1
            if row not in hits:
                label, asked = self.questions[numbers[0]]
                hits[row] = Hit("ngrams", label, self.texts[int(values[at])], shown(asked))
        return hits


class Templates:
    """Whole questions whose numbers are others."""

    LEAST = 8
    """Tokens that a template has at least, some of them words."""

    def __init__(self, questions: Questions, block: TokenBlock) -> None:
        """Index the questions."""
        self.questions = questions
        self.screen = Screen()
        self.hashes = masked(block.hashes, NUMBER)
        self.starts = block.starts
        for number in range(len(block)):
            own = self.hashes[block.starts[number] : block.starts[number + 1]]
            if len(own) >= self.LEAST:
                first = ngrams(own, np.array([0, len(own)]), self.LEAST)[0]
                self.screen.add(int(first[0]), number)

    def find(self, texts: Sequence[str], block: TokenBlock) -> dict[int, Hit]:
        """The first template that each text holds."""
        hashes = masked(block.hashes, NUMBER)
        values, places = ngrams(hashes, block.starts, self.LEAST)
        hits: dict[int, Hit] = {}
        for at, numbers in self.screen.find(values):
            row = int(np.searchsorted(block.starts, places[at], side="right")) - 1
            for number in numbers:
                wanted = self.hashes[self.starts[number] : self.starts[number + 1]]
                end = int(places[at]) + len(wanted)
                if row in hits or end > block.starts[row + 1]:
                    continue
                if (hashes[places[at] : end] == wanted).all():
                    label, asked = self.questions[number]
                    hits[row] = Hit("template", label, shown(texts[row]), shown(asked))
        return hits


class Overlap:
    """Tokens and pairs of tokens in any order, weighted."""

    RARE = 12
    """A feature of more benchmark questions does not make a candidate."""
    LIKELY = 0.8
    """Share of the least weight that candidates have in their rare features."""
    CELLS = 1 << 22
    """Numbers of the table of rows and questions that is made at once."""

    def __init__(self, questions: Questions, block: TokenBlock, least: float) -> None:
        """Index the questions; hits share `least` of the weight."""
        self.questions, self.least = questions, least
        self.prefixes = Screen()
        self._enter_prefixes(block)
        features = [_features(block.words(row)) for row in range(len(block))]
        frequency = Counter(feature for each in features for feature in each)
        self.most = math.log(len(questions) + 1)
        self.weights = {feature: math.log((len(questions) + 1) / count) for feature, count in frequency.items()}
        self.features = features
        self.totals = [self._weight(each) for each in features]
        rare = [(feature, number) for number, each in enumerate(features) for feature in sorted(each)
                if frequency[feature] <= self.RARE]  # fmt: skip
        hashed = np.array([_feature_hash(feature) for feature, _ in rare], dtype=np.uint64)
        self.vocabulary = np.zeros(1 << 20, dtype=np.bool_)
        for feature in frequency:
            self.vocabulary[_feature_hash(feature) >> 44] = True
        order = np.argsort(hashed, kind="stable")
        self.known, first = np.unique(hashed[order], return_index=True)
        self.first = np.append(first, len(order))
        self.numbers = np.array([number for _, number in rare], dtype=np.int64)[order]
        self.rare_weights = np.array([self.weights[feature] for feature, _ in rare])[order]
        self.bitmap = Screen()
        self.rare_totals = np.bincount(self.numbers, self.rare_weights, minlength=len(questions))
        for value in self.known.tolist():
            self.bitmap.bitmap[value >> 44] = True

    def _enter_prefixes(self, block: TokenBlock) -> None:
        for number in range(len(block)):
            own = block.hashes[block.starts[number] : block.starts[number + 1]]
            sizes = range(SHORTEST_PREFIX, min(len(own), SHORTEST_PART))
            starts = np.zeros(len(sizes) + 1, dtype=np.int64)
            np.cumsum(list(sizes), out=starts[1:])
            heads = np.concatenate([own[:size] for size in sizes]) if len(sizes) else own[:0]
            for key in sequence_keys(heads, starts).tolist():
                self.prefixes.add(key, number)

    def _weight(self, features: Iterable[str]) -> float:
        return sum(self.weights.get(feature, self.most) for feature in features)

    def find(self, texts: Sequence[str], block: TokenBlock) -> dict[int, Hit]:
        """The likest benchmark question of each text that has one."""
        hits: dict[int, Hit] = {}
        count = len(self.questions)
        if not count or not len(self.known):
            return hits
        for row, numbers in self.prefixes.find(sequence_keys(block.hashes, block.starts)):
            label, asked = self.questions[numbers[0]]
            hits[row] = Hit("overlap", label, shown(texts[row]), shown(asked))
        rows, ids, unknown = self._rare_features(block)
        step = max(1, self.CELLS // count)
        for begin in range(0, len(block), step):
            size = min(step, len(block) - begin)
            low, high = np.searchsorted(rows, [begin, begin + size])
            for row, number in self._likely(rows[low:high] - begin, ids[low:high], unknown[begin : begin + size]):
                self._judge(row + begin, number, texts, block, hits)
        return hits

    def _rare_features(self, block: TokenBlock) -> tuple[Places, Places, Places]:
        """(row, feature) of the known rare features, sorted, and how many features of each row no question has."""
        pairs, places = ngrams(block.hashes, block.starts, 2)
        rows = rows_of(block.starts)
        values = np.concatenate([mixed(block.hashes), pairs])
        rows = np.concatenate([rows, rows[places]])
        heads = (values >> np.uint64(44)).astype(np.int64)
        unknown = np.bincount(rows[~self.vocabulary[heads]], minlength=len(block))
        maybe = self.bitmap.bitmap[heads]
        values, rows = values[maybe], rows[maybe]
        ids = np.searchsorted(self.known, values).clip(max=len(self.known) - 1)
        hit = self.known[ids] == values
        keys = np.unique(rows[hit] * len(self.known) + ids[hit])
        return keys // len(self.known), keys % len(self.known), unknown

    def _likely(self, rows: Places, ids: Places, unknown: Places) -> Iterator[tuple[int, int]]:
        """Rows and questions whose shared rare features weigh enough for a closer look."""
        count = len(self.questions)
        sizes = self.first[ids + 1] - self.first[ids]
        begins = np.repeat(self.first[ids] - np.cumsum(sizes) + sizes, sizes)
        postings = begins + np.arange(int(sizes.sum()))
        cells = np.repeat(rows, sizes) * count + self.numbers[postings]
        table = np.bincount(cells, self.rare_weights[postings], minlength=1)
        own = np.bincount(rows, self.rare_weights[self.first[ids]], minlength=len(unknown)) + self.most * unknown
        found = np.flatnonzero(table)
        least = self.LIKELY * self.least * np.minimum(self.rare_totals[found % count], own[found // count])
        found = found[table[found] >= least]
        return zip((found // count).tolist(), (found % count).tolist(), strict=True)

    def _judge(self, row: int, number: int, texts: Sequence[str], block: TokenBlock, hits: dict[int, Hit]) -> None:
        words = block.words(row)
        features = _features(words)
        shared = self._weight(features & self.features[number])
        score = shared / max(self.totals[number], 1e-9)
        if len(words) >= SHORTEST_PART:
            score = max(score, shared / max(self._weight(features), 1e-9))
        if score >= self.least and (row not in hits or score > hits[row].score):
            label, asked = self.questions[number]
            hits[row] = Hit("overlap", label, shown(texts[row]), shown(asked), round(score, 3))


SHORTEST_PREFIX, SHORTEST_PART = 4, 12
"""Tokens of a row that may be the beginning of a benchmark question, and any part of it."""


def _features(words: Sequence[str]) -> frozenset[str]:
    return frozenset(words) | {f"{one} {other}" for one, other in pairwise(words)}


def _feature_hash(feature: str) -> int:
    hashes = np.array([_TOKENS[word] for word in feature.split(" ")], dtype=np.uint64)
    if len(hashes) == 1:
        return int(mixed(hashes)[0])
    return int(ngrams(hashes, np.array([0, 2]), 2)[0][0])


_TOKENS = TokenHashes()


def _counts(word: str) -> bool:
    return word.isalpha() or word[0].isdigit()


def _countable(
    lists: Sequence[Sequence[str]], flat: Hashes, starts: Places, n: int, boilerplate: int | None
) -> Iterator[tuple[int, int, str]]:
    """(hash, number of the question, text) of the runs that count; the first question that has a run names it."""
    values, places = ngrams(flat, starts, n)
    rows = np.searchsorted(starts, places, side="right") - 1
    asked_by = Counter(value for value, _ in set(zip(values.tolist(), rows.tolist(), strict=True)))
    seen: set[int] = set()
    for value, row, place in zip(values.tolist(), rows.tolist(), places.tolist(), strict=True):
        if value not in seen and (boilerplate is None or asked_by[value] < boilerplate):
            seen.add(value)
            start = place - int(starts[row])
            yield value, row, " ".join(lists[row][start : start + n])


def _blurred(words: Iterable[str]) -> list[str]:
    return ["?" if len(word) == 1 or word[0].isdigit() else word for word in words if _counts(word)]


def _runs(words: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + _PHRASE_RUN]) for i in range(len(words) - _PHRASE_RUN + 1)]


_PHRASE_RUNS = frozenset(run for phrase in PHRASES for run in _runs(_blurred(tokens(phrase.lower()))))


def _is_phrase(words: Sequence[str]) -> bool:
    """Whether half of a run or more is boilerplate."""
    runs = _runs(_blurred(words))
    return sum(run in _PHRASE_RUNS for run in runs) * 2 >= len(runs) if runs else False
