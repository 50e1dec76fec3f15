"""Which hashes of a block are those of a benchmark: a bitmap for nearly all, a table for the few that are left."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from s1ray.curation.text.blocks import Hashes, Places, mixed

_BITS = 20
_LETTERS, _DIGITS = np.zeros((2, 256), dtype=np.bool_)
_LETTERS[list(b"abcdefghijklmnopqrstuvwxyz")] = True
_DIGITS[list(b"0123456789")] = True
_LOWER = np.arange(256, dtype=np.uint8)
_LOWER[ord("A") : ord("Z") + 1] += 32
_RUNS = ((_LETTERS, 16), (_LETTERS, 8), (_DIGITS, 4))
"""Which characters, and how many in a row, a question is known by: the first that it has."""
_NO_PROSE = re.compile(
    r"\$[^$]*\$|\\\(.*?\\\)|\\\[.*?\\\]|\[asy\].*?\[/asy\]|\\[a-zA-Z]+|[^a-zA-Z\s,.;:?!'\"-]", re.DOTALL
)


class Screen:
    """Numbers by hash; several may have the same hash."""

    def __init__(self) -> None:
        self.numbers: dict[int, list[int]] = {}
        self.bitmap = np.zeros(1 << _BITS, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self.numbers)

    def add(self, value: int, number: int) -> None:
        """Enter a number under a hash."""
        self.numbers.setdefault(value, []).append(number)
        self.bitmap[value >> (64 - _BITS)] = True

    def find(self, values: Hashes) -> Iterator[tuple[int, list[int]]]:
        """The places of known hashes, and the numbers under each."""
        if not self.numbers:
            return
        for place in np.flatnonzero(self.bitmap[values >> np.uint64(64 - _BITS)]).tolist():
            numbers = self.numbers.get(int(values[place]))
            if numbers is not None:
                yield place, numbers


def windows(data: npt.NDArray[np.uint8], length: int) -> Hashes:
    """Hashes of all runs of `length` bytes, a power of two."""
    values = data.astype(np.uint64) + np.uint64(1)
    factor, size = 0x9E3779B97F4A7C15, 1
    while size < length:
        values = values[:-size] * np.uint64(factor) + values[size:] if len(values) > size else values[:0]
        factor = factor * factor % (1 << 64)
        size *= 2
    return mixed(mixed(values))


class PlainRuns:
    """Texts that have a run of letters of a question's prose, or else of its digits, whatever was done to its formulas.

    Works on bytes, without tokens, so that long texts cost little.
    """

    def __init__(self, questions: Sequence[str]) -> None:
        """Choose of each question the run that the fewest others have; one without any run is not found."""
        self.screens = [Screen() for _ in _RUNS]
        left = list(range(len(questions)))
        for screen, (characters, length) in zip(self.screens, _RUNS, strict=True):
            pieces = [_NO_PROSE.split(each) if characters is _LETTERS else [each] for each in questions]
            runs = [
                [
                    value
                    for piece in each
                    for value in windows(_chosen(*_bytes([piece]), characters)[0], length).tolist()
                ]
                for each in pieces
            ]
            frequency = Counter(value for each in runs for value in set(each))
            for number in left:
                if runs[number]:
                    screen.add(min(runs[number], key=lambda value: (frequency[value], value)), number)
            left = [number for number in left if not runs[number]]

    def rows(self, texts: Sequence[str], *, long: bool = False) -> dict[int, list[int]]:
        """The texts that may have a question, and which.

        Args:
            texts: N texts.
            long: only questions known by their longest runs; in long texts the others say too little.
        """
        found: dict[int, list[int]] = {}
        raw, borders = _bytes(texts)
        for screen, (characters, length) in zip(self.screens, _RUNS[:1] if long else _RUNS, strict=not long):
            if not len(screen):
                continue
            data, starts = _chosen(raw, borders, characters)
            for place, numbers in screen.find(windows(data, length)):
                row = int(np.searchsorted(starts, place, side="right")) - 1
                known = found.setdefault(row, [])
                known += [number for number in numbers if number not in known]
        return found


def _bytes(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint8], Places]:
    """Texts in lower case (of ASCII letters), one after another, and where each begins."""
    raw = [text.encode("utf-8", "replace") for text in texts]
    starts = np.zeros(len(raw) + 1, dtype=np.int64)
    np.cumsum([len(each) for each in raw], out=starts[1:])
    return _LOWER[np.frombuffer(b"".join(raw), dtype=np.uint8)], starts


def _chosen(
    data: npt.NDArray[np.uint8], starts: Places, characters: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.uint8], Places]:
    """Some of the characters of texts, and where each text begins among them."""
    kept = characters[data]
    before = np.zeros(len(data) + 1, dtype=np.int64)
    np.cumsum(kept, out=before[1:])
    return data[kept], before[starts]
