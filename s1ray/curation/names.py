"""Counts of rows by name (of a source, of a domain), in bounded memory however many different names there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

MOST_NAMES = 50_000
"""Different names that are kept apart."""
MANY = f"(more than {MOST_NAMES:,} different ones)"
Name = str | None


class NameCounts:
    """Rows by name. Where there are too many names, those count together whose part before the first "/" is the same.

    Attributes:
        level: 0: names are whole; 1: their first parts; 2: all of them are one.
    """

    def __init__(self) -> None:
        """Start without rows."""
        self.level, self._counts = 0, Counter[Name]()

    def add(self, counts: Iterable[tuple[Name, int]]) -> None:
        """Count some rows."""
        for name, count in counts:
            self._counts[_folded(name, self.level)] += count
        while len(self._counts) > MOST_NAMES and self.level < 2:
            self.level += 1
            self._counts = self.at(self.level)

    def at(self, level: int) -> Counter[Name]:
        """The counts at a level that is not below `level` of these."""
        counts = Counter[Name]()
        for name, count in self._counts.items():
            counts[_folded(name, level)] += count
        return counts


def _folded(name: Name, level: int) -> Name:
    if level == 0 or name is None:
        return name
    first, slash, _ = name.partition("/")
    return MANY if level == 2 else first + slash + "…" * bool(slash)
