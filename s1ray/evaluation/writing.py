"""The results of an eval run, written from its journals some rows at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from s1ray.evaluation.count import ArmCount
from s1ray.evaluation.journal import Journal
from s1ray.evaluation.tasks import Cell, JournalKey
from s1ray.schemas import Evaluation, Timing, arrow_schema, to_table
from s1ray.sinks import RowGroups
from s1ray.storage import Location, writing

PIECE_ROWS = 256
"""Rows that are held at once; some 25 MB of long thoughts."""
GROUP_ROWS = 1024
"""Rows of a row group."""


def write_results(
    results: Location, timings: Location, cells: Iterable[Cell], journals: Mapping[JournalKey, Journal]
) -> list[ArmCount]:
    """Write both files, in the order of the cells and of the places in them; the bytes depend on the rows alone.

    Args:
        results: gets the Evaluation rows.
        timings: gets how long each took.
        cells: what was measured.
        journals: of each cell, with all of its rows.

    Returns:
        What came of each cell.
    """
    counts = []
    with (
        writing(results) as result_file,
        writing(timings) as timing_file,
        RowGroups(result_file, arrow_schema(Evaluation), GROUP_ROWS) as result_rows,
        RowGroups(timing_file, arrow_schema(Timing), GROUP_ROWS) as timing_rows,
    ):
        for cell in cells:
            count = ArmCount(cell)
            rows = journals[cell.key].rows()
            while piece := list(itertools.islice(rows, PIECE_ROWS)):
                for row, _ in piece:
                    count.add(row)
                result_rows.add(to_table((row for row, _ in piece), Evaluation))
                timing_rows.add(to_table((_timing(row, seconds) for row, seconds in piece), Timing))
            counts.append(count)
    return counts


def _timing(row: Evaluation, seconds: float | None) -> Timing:
    return Timing(id=row.id, benchmark=row.benchmark, model=row.model, arm=row.arm, seconds=seconds)
