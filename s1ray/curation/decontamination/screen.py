"""Which hashes of a block are those of a benchmark: a bitmap for nearly all, a table for the few that are left."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from s1ray.curation.text.blocks import Hashes, mixed

_BITS = 20
WINDOWS = (16, 8, 4)
"""Letters in a row by which a question's prose is known; the fewer where there are no more."""
_LETTER = np.zeros(256, dtype=np.bool_)
_LETTER[list(b"abcdefghijklmnopqrstuvwxyz")] = True
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


class ProseRuns:
    """Texts that have a run of letters of a question's prose, whatever was done to its formulas.

    Works on bytes, without tokens, so that long texts cost little.
    """

    def __init__(self, questions: Sequence[str]) -> None:
        """Choose of each question the run that the fewest others have; one without any prose is not found."""
        self.screens = {length: Screen() for length in WINDOWS}
        prose = [[_letters([piece])[0] for piece in _NO_PROSE.split(question)] for question in questions]
        left = list(range(len(questions)))
        for length, screen in self.screens.items():
            runs = [[value for piece in each for value in windows(piece, length).tolist()] for each in prose]
            frequency = Counter(value for each in runs for value in set(each))
            for number in left:
                if runs[number]:
                    screen.add(min(runs[number], key=lambda value: (frequency[value], value)), number)
            left = [number for number in left if not runs[number]]

    def rows(self, texts: Sequence[str], least: int = 0) -> dict[int, list[int]]:
        """The texts that may have a question, and which.

        Args:
            texts: N texts.
            least: letters by which a question has to be known; in long texts few say too little.
        """
        found: dict[int, list[int]] = {}
        data, starts = _letters(texts)
        for length, screen in self.screens.items():
            if not len(screen) or length < least:
                continue
            for place, numbers in screen.find(windows(data, length)):
                row = int(np.searchsorted(starts, place, side="right")) - 1
                known = found.setdefault(row, [])
                known += [number for number in numbers if number not in known]
        return found


def _letters(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The letters a to z of texts, one text after another, and where each begins."""
    raw = [text.lower().encode("utf-8", "replace") for text in texts]
    data = np.frombuffer(b"".join(raw), dtype=np.uint8)
    kept = _LETTER[data]
    before = np.zeros(len(data) + 1, dtype=np.int64)
    np.cumsum(kept, out=before[1:])
    starts = np.zeros(len(raw) + 1, dtype=np.int64)
    np.cumsum([len(each) for each in raw], out=starts[1:])
    return data[kept], before[starts]
