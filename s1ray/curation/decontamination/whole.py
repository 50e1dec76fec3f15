r"""Whole benchmark questions in a text: the tiers that drop by default.

`whole`: the tokens of a benchmark question, or of one of its parts, stand in the text one after another. `letters`: its
words, letters and digits do, whatever became of the notation between them ("$\\frac{1}{2}$" as "12", "1 2" or "frac 1
2"). Both ignore case, because a text in capitals asks the same; both are long enough that other problems do not have
them by chance.

A match must not end within a formula: "Find $x+y$" does not contain "Find $x$". Short questions ("2 + 2"), which
longer ones may begin with, count where they are a sentence of their own or the whole text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from s1ray.curation.config import Tier
from s1ray.curation.decontamination.hits import Hit, shown
from s1ray.curation.decontamination.letters import LETTERS_OF, NOTATION, is_stripped, letters_of
from s1ray.curation.decontamination.screen import PlainRuns, Screen
from s1ray.curation.text.blocks import TokenBlock, ngrams
from s1ray.curation.text.normal import tokens
from s1ray.curation.text.structure import NOTHING
from s1ray.curation.text.tables import FACTORIAL, FUNCTION_SIGNS, GREEK_WORDS, LINE

SHORT = 12
"""Tokens below which a question has to be a sentence of its own."""
TINY = 3
"""Tokens below which it has to be the whole text."""
LEAST_LETTERS, LETTERS, FEW_LETTERS = 8, 16, 40
"""Letters and digits below which they say too little; below which they have to be those of the whole text, which must
look stripped of its LaTeX; and below which they have to be a sentence of their own."""
_ANCHORS = (8, 3)
"""Lengths of the runs of tokens by which questions are found."""
_PART = re.compile(r"(?:(?<=\s)|^)\(?(?:[a-h]|i{1,3}|iv|v|[1-9])[).]\s+|\bPart \(?[A-H1-9]\)?[:.]?\s+", re.MULTILINE)
_BREAKS = frozenset([".", "?", LINE])
_JOINS = frozenset(["+", "-", "*", "/", "^", "_", "=", "<", ">", "<=", ">=", "\\pm", "\\cdot", ","])
_CONDITION_WORDS = (
    "if when where given assuming such for with in and or but as to of modulo by that which from on at after before "
    "unless whose using over under then so is are has have"
)
_CONDITIONS = frozenset(_CONDITION_WORDS.split())
"""Words that go on with a sentence, and may change what it asks."""
_KEPT_SIGNS = frozenset(["+", "<", ">", FACTORIAL])
_SIGNS = frozenset(FUNCTION_SIGNS | set(GREEK_WORDS.values()) | {"<=", ">=", "\\ne", "\\cup", "\\cap", "%"})
_FREE = frozenset(["(", ")", "[", "]", "\\{", "\\}", "^", "_", ",", NOTHING])
"""Signs that may be more where LaTeX was taken out."""


@dataclass(frozen=True)
class _Asked:
    label: str
    text: str
    tokens: tuple[str, ...]
    letters: str


class WholeQuestions:
    """Finds whole benchmark questions in texts."""

    def __init__(self, questions: Iterable[tuple[str, str]]) -> None:
        """Index (label, question) pairs."""
        self.asked = _distinct([_asked(*each) for pair in questions for each in (pair, *_parts(*pair))])
        self.by_tokens: dict[tuple[str, ...], int] = {}
        self.anchors = {n: Screen() for n in _ANCHORS}
        self.offsets: dict[int, int] = {}
        """Place of each question's anchor in it."""
        self.plain = PlainRuns([asked.text for asked in self.asked])
        self.short = {each.letters: number for number, each in enumerate(self.asked) if len(each.letters) < FEW_LETTERS}
        self.longest_short = max((len(self.asked[number].tokens) for number in self.short.values()), default=0)
        block = TokenBlock.of([asked.text for asked in self.asked])
        frequency = {n: Counter(ngrams(block.hashes, block.starts, n)[0].tolist()) for n in _ANCHORS}
        for number, asked in enumerate(self.asked):
            self.by_tokens.setdefault(asked.tokens, number)
            size = next((n for n in _ANCHORS if len(asked.tokens) >= n), None)
            if size is not None:
                own = block.hashes[block.starts[number] : block.starts[number + 1]]
                grams = ngrams(own, np.array([0, len(own)]), size)[0].tolist()
                self.offsets[number] = min(range(len(grams)), key=lambda place: (frequency[size][grams[place]], place))
                self.anchors[size].add(grams[self.offsets[number]], number)

    def find(self, texts: Sequence[str], block: TokenBlock, place: str = "question") -> dict[int, Hit]:
        """The first benchmark question in each text that has one.

        Args:
            texts: N texts.
            block: theirs.
            place: what the texts are.

        Returns:
            Number of the text -> what is in it; tier "whole" before "letters".
        """
        hits: dict[int, Hit] = {}
        if not self.asked or not texts:
            return hits
        search = _Search(texts, block, place)
        for row in np.flatnonzero(np.diff(block.starts) < TINY).tolist():
            number = self.by_tokens.get(search.words(row))
            if number is not None:
                hits[row] = self._hit("whole", number, texts[row], place)
        for size, screen in self.anchors.items():
            found, places = ngrams(block.hashes, block.starts, size)
            for at, numbers in screen.find(found):
                row = int(np.searchsorted(block.starts, places[at], side="right")) - 1
                for number in numbers:
                    start = int(places[at] - block.starts[row]) - self.offsets[number]
                    wanted = self.asked[number].tokens
                    if row in hits or start < 0 or search.words(row)[start : start + len(wanted)] != wanted:
                        continue
                    if _stands_alone(search.marked(row), start, start + len(wanted)):
                        hits[row] = self._hit("whole", number, " ".join(wanted), place)
        for row, numbers in self.plain.rows(texts).items():
            if row not in hits:
                hit = self._in_letters(search, row, numbers)
                if hit is not None:
                    hits[row] = hit
        for row in np.flatnonzero(np.diff(block.starts) <= 2 * self.longest_short).tolist():
            if row not in hits and (hit := self._stripped(search, row)) is not None:
                hits[row] = hit
        return hits

    def _stripped(self, search: _Search, row: int) -> Hit | None:
        """A short question of which everything but letters and digits was taken out, or may have been."""
        words = search.words(row)
        number = self.short.get(letters_of(words))
        if number is None or not is_stripped(search.texts[row]):
            return None
        asked = self.asked[number].tokens
        own, theirs = Counter(words), Counter(asked)
        more = [each for each in own - theirs if not LETTERS_OF[each] and not each.isalpha() and each not in _FREE]
        if more or not _same_signs(words, asked):
            return None
        return self._hit("letters", number, " ".join(words), search.place)

    def _in_letters(self, search: _Search, row: int, numbers: Iterable[int]) -> Hit | None:
        words = search.words(row)
        letters = letters_of(words)
        for number in numbers:
            asked = self.asked[number]
            start, tried = letters.find(asked.letters) if len(asked.letters) >= LETTERS else -1, 0
            while start >= 0 and tried < _MOST_PLACES:
                for first, end in _token_spans(words, start, start + len(asked.letters)):
                    span, few = words[first:end], len(asked.letters) < FEW_LETTERS
                    if _same_signs(span, asked.tokens) and _stands_alone(search.marked(row), first, end, few=few):
                        return self._hit("letters", number, " ".join(span), search.place)
                start, tried = letters.find(asked.letters, start + 1), tried + 1
        return None

    def _hit(self, tier: Tier, number: int, found: str, place: str) -> Hit:
        asked = self.asked[number]
        return Hit(tier, asked.label, shown(found), shown(asked.text), 1.0, place)


class _Search:
    """Texts that are searched; what only a few of them need is made when they do."""

    def __init__(self, texts: Sequence[str], block: TokenBlock, place: str) -> None:
        self.texts, self.block, self.place = texts, block, place
        self._words: dict[int, tuple[str, ...]] = {}
        self._marked: dict[int, _Marked] = {}

    def words(self, row: int) -> tuple[str, ...]:
        if row not in self._words:
            self._words[row] = tuple(self.block.words(row))
        return self._words[row]

    def marked(self, row: int) -> _Marked:
        if row not in self._marked:
            self._marked[row] = _Marked(self.texts[row])
        return self._marked[row]


class _Marked:
    """The tokens of a text and what stands between them."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        self.breaks: set[int] = {0}
        """Places of tokens before which a sentence or a line begins."""
        for token in tokens(text, breaks=True):
            if token in _BREAKS:
                self.breaks.add(len(self.tokens))
            else:
                self.tokens.append(token)
        self.breaks.add(len(self.tokens))


def _stands_alone(marked: _Marked, start: int, end: int, *, few: bool = False) -> bool:
    """Whether tokens `start` to `end` end with a formula, and are a sentence where they are few.

    Args:
        marked: the text.
        start: first token.
        end: after the last one.
        few: they are few.
    """
    before, after = start in marked.breaks, end in marked.breaks
    if end - start < TINY:
        return start == 0 and end == len(marked.tokens)
    if end - start < SHORT or few:
        return before and after
    following = marked.tokens[end] if end < len(marked.tokens) else ""
    preceding = marked.tokens[start - 1] if start and start <= len(marked.tokens) else ""
    goes_on = following in _CONDITIONS or len(following) < 2 or not following.isalpha()
    return (after or not goes_on) and (before or preceding not in _JOINS)


def _token_spans(words: Sequence[str], start: int, end: int) -> list[tuple[int, int]]:
    """The runs of tokens whose letters are from `start` to `end`; none where a border is within a token.

    Signs and names of notation beside the first and the last letter may belong to them or not.
    """
    place, firsts, lasts = 0, [], []
    for number, word in enumerate(words):
        if place == start:
            firsts.append(number)
        place += len(LETTERS_OF[word])
        if place == end:
            lasts.append(number + 1)
        if place > end:
            break
    return [(first, last) for first in firsts for last in lasts][:_MOST_SPANS]


_MOST_SPANS, _MOST_PLACES = 64, 8
"""Tries of a question in one text, which bound the time of a text that repeats it."""


def _same_signs(words: Sequence[str], asked: Sequence[str]) -> bool:
    """Whether the signs are the same that stay where LaTeX is removed, and none is there that was not asked."""
    own, theirs = Counter(words), Counter(asked)
    # Of "\\not=" there may be left "=", or nothing.
    equal = theirs["="] <= own["="] + own["\\ne"] <= theirs["="] + theirs["\\ne"]
    kept = _minuses(words) == _minuses(asked) and all(own[sign] == theirs[sign] for sign in _KEPT_SIGNS)
    return equal and kept and all(own[each] <= theirs[each] for each in _SIGNS)


def _minuses(words: Sequence[str]) -> int:
    """How many there are, hyphens before a word aside."""
    pairs = zip(words, [*words[1:], ""], strict=True)
    return sum(word == "-" and not _is_prose(after) for word, after in pairs)


def _is_prose(word: str) -> bool:
    return len(word) > 2 and word.isalpha() and word not in NOTATION


def _asked(label: str, text: str) -> _Asked:
    words = tuple(token.lower() for token in tokens(text))
    letters = letters_of(words)
    return _Asked(label, text, words, letters if len(letters) >= LEAST_LETTERS else "")


def _parts(label: str, text: str) -> list[tuple[str, str]]:
    """The parts of a question that has several, long enough to be known by themselves."""
    borders = [match.start() for match in _PART.finditer(text)]
    if len(borders) < 2:
        return []
    pieces = [text[start:end].strip() for start, end in zip([0, *borders], [*borders, len(text)], strict=True)]
    parts = [(f"{label}, part {number}", _PART.sub("", piece, count=1)) for number, piece in enumerate(pieces)]
    return [(name, piece) for name, piece in parts if sum(len(word) > 1 for word in tokens(piece)) >= SHORT + 4]


def _distinct(asked: Sequence[_Asked]) -> list[_Asked]:
    """Without empty ones, repetitions, and parts that several questions have."""
    counts = Counter(each.tokens for each in asked)
    first: dict[tuple[str, ...], _Asked] = {}
    for each in asked:
        if each.tokens and (counts[each.tokens] == 1 or ", part " not in each.label):
            first.setdefault(each.tokens, each)
    return list(first.values())
