"""A recipe in a terminal: which run of how many, the time left, and at the end what was measured."""

from __future__ import annotations

import contextlib
import signal
from collections import defaultdict
from collections.abc import Iterator
from statistics import fmean
from typing import TYPE_CHECKING

from s1ray.manifests import read_manifest
from s1ray.pipelines.matrix import Cell
from s1ray.pipelines.pipeline import Pipeline
from s1ray.runs import Run
from s1ray.storage import Location

if TYPE_CHECKING:
    from rich.console import Console


def run_pipeline(pipeline: Pipeline, *, force: bool = False) -> None:
    """Run a pipeline in a terminal: a heading for each run, and at the end the tables and the times.

    SIGTERM is treated like Ctrl-C, so that whatever was started is stopped in order. The files of an ablation are
    written after each evaluation, so that a job that is stopped leaves those of what it has measured.

    Args:
        pipeline: what to run.
        force: run complete stages again.

    Raises:
        S1rayError: as the stages do.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console()
    times = Table("stage", "seconds", "folder", title="stages", title_justify="left")
    pace, measured = Pace(pipeline.cells), list[Location]()
    with _stopped_by_sigterm():
        for cell, finish in pipeline.steps(force=force):
            console.rule(f"[bold]{cell.title}{pace.where(cell)}")
            run, seconds = finish()
            pace.finished(cell, _seconds_before(run) if seconds is None else seconds)
            if cell.step.stage == "eval":
                measured.append(run.path)
                _write_so_far(pipeline, measured)
            times.add_row(cell.title, "complete before" if seconds is None else f"{seconds:.0f}", str(run.path))
    if pipeline.config.report is not None:
        _report(pipeline, console)
    _tables(pipeline, console)
    console.print(times)


class Pace:
    """How far a series of runs is, and how long the rest will take, from what earlier runs took.

    A run takes as long as the mean of those of its stage at the same values of the axes but the first, which tells
    repetitions apart; else as those of its stage.
    """

    def __init__(self, cells: list[Cell]) -> None:
        self._cells = cells
        self._took: dict[tuple[str, ...], list[float]] = defaultdict(list)

    def finished(self, cell: Cell, seconds: float | None) -> None:
        """Note what a run took (None: nobody knows)."""
        if seconds is None:
            return
        for key in _kinds(cell):
            self._took[key].append(seconds)

    def where(self, cell: Cell) -> str:
        """Which run of how many, and the time left from here; empty where there is no matrix."""
        if not any(each.at for each in self._cells):
            return ""
        number = self._cells.index(cell)
        seconds, unknown = self.left(self._cells[number:])
        told = f", {'more than ' if unknown else 'about '}{seconds / 60:.0f} min left" if seconds else ""
        return f" ({number + 1} of {len(self._cells)}{told})"

    def left(self, cells: list[Cell]) -> tuple[float, int]:
        """Seconds that some runs will take, and how many of them nobody can say that of yet."""
        seconds, unknown = 0.0, 0
        for cell in cells:
            known = next((self._took[kind] for kind in _kinds(cell) if kind in self._took), None)
            seconds += fmean(known) if known else 0.0
            unknown += known is None
        return seconds, unknown


def _kinds(cell: Cell) -> list[tuple[str, ...]]:
    """What a run is like, the closest first."""
    label = cell.step.label
    return [(label, *list(cell.at.values())[1:]), (label, "*")]


def _seconds_before(run: Run) -> float | None:
    """What a run took that was complete before."""
    return (read_manifest(run.path) or {}).get("seconds")


def _write_so_far(pipeline: Pipeline, measured: list[Location]) -> None:
    from s1ray.pipelines.tables import measures, write_ablation

    ablation = pipeline.config.ablation
    if ablation is not None and any(measures(folder, ablation.baseline) for folder in measured):
        write_ablation(ablation, measured, pipeline.output)


def _report(pipeline: Pipeline, console: Console) -> None:
    from s1ray.evaluation.report import write_report
    from s1ray.evaluation.summary import summary_table

    assert pipeline.config.report is not None, "the caller asks"
    folders = pipeline.evaluations
    report = write_report(folders, pipeline.output / pipeline.config.report)
    console.rule("[bold]report")
    console.print(summary_table(folders))
    console.print(f"\n[bold]report:[/bold] {report}")


def _tables(pipeline: Pipeline, console: Console) -> None:
    from s1ray.pipelines.tables import write_ablation, write_methods

    config, folders = pipeline.config, pipeline.evaluations
    written = [
        *([write_ablation(config.ablation, folders, pipeline.output)] if config.ablation is not None else []),
        *([write_methods(config.methods, folders, pipeline.output)] if config.methods is not None else []),
    ]
    for text, file in written:
        console.rule(f"[bold]{file.stem}")
        console.print(text, highlight=False, markup=False, soft_wrap=True)
        console.print(f"\n[bold]table:[/bold] {file}")


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
