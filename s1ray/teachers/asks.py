"""What is to be asked, as it is sent to the actors that ask: each text once, whatever the number of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s1ray.schemas import Question
from s1ray.teachers.base import Ask

if TYPE_CHECKING:
    import pyarrow as pa

ASKED = ("question", "answer", "domain", "metadata")
"""Columns of a question, besides its id, that the teacher and the grader get."""


def asks_of(rows: pa.Table) -> list[Ask]:
    """The asks of a part (`Asks.part`) whose rows are questions."""
    return [
        Ask(Question(id=row["id"], **{name: row[name] for name in ASKED}), sample)
        for row in rows.to_pylist()
        for sample in row["samples"]
    ]


@dataclass(frozen=True)
class Asks:
    """What is to be asked: rows, and which samples of each."""

    rows: pa.Table
    """With the column `id`, of which the first half of an ask's id is, and what `read` reads."""
    samples: Sequence[tuple[int, int]]
    """Row and sample of each ask."""
    read: Callable[[pa.Table], list[Ask]] = asks_of
    """Makes the asks of a part, in the actor that asks; pickled."""

    def ids(self) -> list[str]:
        """Keys of the asks."""
        ids = self.rows.column("id").to_pylist()
        return [f"{ids[row]}-{sample}" for row, sample in self.samples]

    def part(self, places: Sequence[int]) -> pa.Table:
        """Some of the asks, by their places in `samples`: each row once, with its `samples`."""
        import pyarrow as pa

        chosen: dict[int, list[int]] = {}
        for place in places:
            row, sample = self.samples[place]
            chosen.setdefault(row, []).append(sample)
        rows = self.rows.take(pa.array(chosen, type=pa.int64()))
        return rows.append_column("samples", pa.array(chosen.values(), type=pa.list_(pa.int64())))
