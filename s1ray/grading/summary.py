"""What came of a graded file: rows by verdict and rule, and what to know before they are used."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

SHOWN_RULES = 100
"""Rules in the table at most: a grader of somebody's own may write what it likes."""


@dataclasses.dataclass
class Summary:
    """What came of the rows."""

    rows: int = 0
    lines: int = 0
    """Of the source, blank and quarantined ones among them; of Parquet the rows."""
    verdicts: Counter[str] = dataclasses.field(default_factory=Counter)
    rules: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    """Rows by rule and verdict."""
    quarantined: int = 0
    delimited: int = 0
    """Rows whose answer text has a delimiter of thinking in it."""
    problems: list[str] = dataclasses.field(default_factory=list)
    """The first few rows that were quarantined, with their places."""

    def add(self, other: Summary, source: Path) -> None:
        """Put what came of the next part to it."""
        self.problems += [
            f"{source}: line {self.lines + int(p.partition(':')[0])}:{p.partition(':')[2]}"
            for p in other.problems[: 3 - len(self.problems)]
        ]
        self.rows += other.rows
        self.lines += other.lines
        self.verdicts += other.verdicts
        self.rules += other.rules
        self.quarantined += other.quarantined
        self.delimited += other.delimited

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return vars(self) | {"rules": [[*key, count] for key, count in self.rules.items()]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Summary:
        """Back from `to_json`."""
        rules = Counter({(rule, verdict): count for rule, verdict, count in data["rules"]})
        return cls(**data | {"rules": rules, "verdicts": Counter(data["verdicts"])})


def summary_table(summary: Summary) -> Table:
    """Rows by verdict and rule, for the terminal."""
    from rich import box
    from rich.table import Table

    table = Table("verdict", "by rule", box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.title = f"{summary.rows:,} rows, {summary.quarantined:,} quarantined"
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")
    for verdict, count in summary.verdicts.most_common():
        table.add_row(verdict, "", f"{count:,}", f"{count / summary.rows:.2%}", style="bold")
        for (rule, of), part in summary.rules.most_common(SHOWN_RULES):
            if of == verdict:
                table.add_row("", rule, f"{part:,}", f"{part / summary.rows:.2%}")
    return table


def warnings(summary: Summary, quarantine: Path) -> list[str]:
    """What to know before the verdicts are used."""
    found = []
    if summary.quarantined:
        first = "; ".join(summary.problems)
        found.append(f"{summary.quarantined:,} rows could not be graded ({quarantine}): {first}")
    if summary.delimited:
        found.append(
            f"{summary.delimited:,} responses have a delimiter of thinking in the text that was graded, and an answer "
            "in their thinking counts; --thinking-format splits it off"
        )
    return found
