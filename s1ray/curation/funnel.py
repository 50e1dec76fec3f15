"""Which rows each stage of a curation run dropped, and why: six bytes a row, for millions of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
"""Positions of rows in all sources together; shape (M,)."""
Flags = npt.NDArray[np.bool_]
"""One for each row of all sources; shape (N,)."""
NOBODY = -1


@dataclass(frozen=True)
class Drops:
    """Rows that go for one reason."""

    reason: str
    rows: Rows
    because_of: Rows | None = None
    """The row that each repeats or contradicts. None: no row is to blame."""


@dataclass(frozen=True)
class StageCount:
    """Rows into and out of a stage."""

    stage: str
    rows_in: int
    rows_out: int
    reasons: Mapping[str, int]


class Funnel:
    """The rows that are left after each stage. The first stage, and in it the first reason, that takes a row decides.

    Attributes:
        causes: (stage, reason) of every group of drops, in their order.
        cause: for each row the position in `causes`, plus 1; 0: the row is left. Shape (N,).
        because_of: for each row the row that it repeats or contradicts, or `NOBODY`. Shape (N,).
        counts: what each stage did.
        conflicts: rows that look equal and have different answers; shape (C, 2). They stay.
    """

    def __init__(self, rows: int) -> None:
        """Start with `rows` rows."""
        self.causes: list[tuple[str, str]] = []
        self.cause = np.zeros(rows, np.uint16)
        self.because_of = np.full(rows, NOBODY, np.int32)
        self.counts: list[StageCount] = []
        self.conflicts: Rows = np.empty((0, 2), np.int64)

    @property
    def left(self) -> Rows:
        """Rows that no stage has dropped, in their order."""
        return np.flatnonzero(self.cause == 0)

    def drop(self, stage: str, drops: Iterable[Drops]) -> None:
        """Record a stage.

        Args:
            stage: its name.
            drops: rows that are gone already are ignored.
        """
        rows_in, reasons = int((self.cause == 0).sum()), dict[str, int]()
        for group in drops:
            still_there = self.cause[group.rows] == 0
            rows = group.rows[still_there]
            if not len(rows):
                continue
            self.causes.append((stage, group.reason))
            self.cause[rows] = len(self.causes)
            if group.because_of is not None:
                self.because_of[rows] = group.because_of[still_there]
            reasons[group.reason] = reasons.get(group.reason, 0) + len(rows)
        self.counts.append(StageCount(stage, rows_in, rows_in - sum(reasons.values()), dict(sorted(reasons.items()))))

    def rows(self) -> dict[str, int]:
        """Row counts for the manifest: "in", "after <stage>" ..., "out"."""
        counts = {"in": len(self.cause)}
        counts |= {f"after {count.stage}": count.rows_out for count in self.counts}
        return counts | {"out": int((self.cause == 0).sum())}

    def reasons(self) -> dict[str, int]:
        """Drops by "stage: reason" for the manifest."""
        return {f"{count.stage}: {reason}": number for count in self.counts for reason, number in count.reasons.items()}

    def table(self) -> str:
        """The funnel as lines of text."""
        lines = [f"{'stage':<18}{'in':>12}{'out':>12}   dropped"]
        for count in self.counts:
            why = ", ".join(f"{number:,} {reason}" for reason, number in count.reasons.items()) or "-"
            lines.append(f"{count.stage:<18}{count.rows_in:>12,}{count.rows_out:>12,}   {why}")
        return "\n".join(lines)
