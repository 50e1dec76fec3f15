"""Which rows each stage of a curation run dropped, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Drop:
    """Why a row is not in the result."""

    stage: str
    reason: str
    detail: str = ""
    """The evidence: the benchmark question, the row that was kept instead, ..."""


@dataclass(frozen=True)
class StageCount:
    """Rows into and out of a stage."""

    stage: str
    rows_in: int
    rows_out: int
    reasons: Mapping[str, int]


class Funnel:
    """The rows that are left after each stage. The first stage that drops a row decides."""

    def __init__(self, rows: Iterable[int]):
        """Start with all rows, by their position in the sources."""
        self._alive = dict.fromkeys(rows)
        self.drops: dict[int, Drop] = {}
        self.counts: list[StageCount] = []

    @property
    def alive(self) -> list[int]:
        """Rows that no stage has dropped, in the order they came."""
        return list(self._alive)

    def __contains__(self, row: int) -> bool:
        return row in self._alive

    def drop(self, stage: str, drops: Mapping[int, tuple[str, str]]) -> None:
        """Record a stage.

        Args:
            stage: its name.
            drops: row -> (reason, detail); rows that are gone already are ignored.
        """
        rows_in, reasons = len(self._alive), Counter[str]()
        for row, (reason, detail) in drops.items():
            if row in self._alive:
                del self._alive[row]
                self.drops[row] = Drop(stage, reason, detail)
                reasons[reason] += 1
        self.counts.append(StageCount(stage, rows_in, len(self._alive), dict(sorted(reasons.items()))))

    def rows(self) -> dict[str, int]:
        """Row counts for the manifest: "in", "after <stage>" ..., "out"."""
        counts = {"in": self.counts[0].rows_in if self.counts else len(self._alive)}
        counts |= {f"after {count.stage}": count.rows_out for count in self.counts}
        return counts | {"out": len(self._alive)}

    def reasons(self) -> dict[str, int]:
        """Drops by "stage: reason" for the manifest."""
        return {f"{count.stage}: {reason}": number for count in self.counts for reason, number in count.reasons.items()}

    def table(self) -> str:
        """The funnel as lines of text."""
        lines = [f"{'stage':<18}{'in':>10}{'out':>10}   dropped"]
        for count in self.counts:
            why = ", ".join(f"{number} {reason}" for reason, number in count.reasons.items()) or "-"
            lines.append(f"{count.stage:<18}{count.rows_in:>10,}{count.rows_out:>10,}   {why}")
        return "\n".join(lines)
