"""The main numbers of eval runs as a table, for the terminal or in Markdown: a row for each measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from s1ray.evaluation.arm_result import ArmResult, account
from s1ray.evaluation.loading import load_all_results
from s1ray.evaluation.results import EvalResults
from s1ray.pages import percent
from s1ray.storage import AnyPath

if TYPE_CHECKING:
    from rich.table import Table

SUMMARY_COLUMNS = (
    "model",
    "arm",
    "accuracy (%)",
    "thinking\ntokens",
    "answer\ntokens",
    "answers\ncut (%)",
    "waits",
)


def summary_table(run_dirs: Sequence[AnyPath]) -> Table:
    """The main numbers for the terminal: a row for each measurement, and below them what to be warned of.

    Raises:
        RunError: as `s1ray.evaluation.report.write_report`.
    """
    from rich import box
    from rich.table import Table

    measured = load_all_results(run_dirs)
    controlled, obeying = (sum(getattr(each, name) for each in measured) for name in ("controlled", "obeying"))
    control = f"; Control {percent(obeying / controlled)} % of {controlled:,} responses" if controlled else ""
    table = Table(
        title=f"{sum(len(results.arms[0].questions) for results in measured)} questions; intervals are 95 %{control}",
        title_justify="left",
        caption="\n".join([*_notes(measured), *(f"warning: {warning}" for warning in warnings(measured))]),
        caption_justify="left",
        caption_style="yellow",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    columns = _columns(measured)
    labels = columns.index("accuracy (%)")
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=True, justify="left" if number < labels else "right")
    for results in measured:
        for model in results.models:
            for result in results.of(model):
                table.add_row(*_cells(result, results, measured))
            table.add_section()
    return table


def summary_markdown(run_dirs: Sequence[AnyPath]) -> str:
    """The same table in Markdown, for a README, and below it what became of all responses.

    Raises:
        RunError: as `s1ray.evaluation.report.write_report`.
    """
    measured = load_all_results(run_dirs)
    columns = _columns(measured)
    rows = [
        [column.replace("\n", " ") for column in columns],
        ["---"] * len(columns),
        *(_cells(result, results, measured) for results in measured for result in results.arms),
    ]
    table = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)
    notes = [*_notes(measured), *warnings(measured)]
    return f"{table}\n\n" + "\n".join(f"- {note}" for note in notes)


def warnings(measured: Sequence[EvalResults]) -> list[str]:
    """What to know before arms are compared, of all benchmarks; with several, each line begins with its own."""
    return _told(measured, lambda results: results.warnings)


def _notes(measured: Sequence[EvalResults]) -> list[str]:
    """What became of all samples, and methods against each other at equal tokens."""
    compared = _told(measured, lambda results: [each.sentence for each in results.at_equal_tokens()])
    return [account(_arms(measured)), *compared]


def _told(measured: Sequence[EvalResults], lines: Callable[[EvalResults], list[str]]) -> list[str]:
    return [
        f"{results.benchmark}: {line}" if len(measured) > 1 else line for results in measured for line in lines(results)
    ]


def _arms(measured: Sequence[EvalResults]) -> list[ArmResult]:
    return [result for results in measured for result in results.arms]


def _columns(measured: Sequence[EvalResults]) -> list[str]:
    """The columns: with several benchmarks their names, and requests per answer where some arm makes several."""
    first = ["benchmark"] if len(measured) > 1 else []
    return [*first, *SUMMARY_COLUMNS, *(["requests"] if _several_calls(measured) else [])]


def _several_calls(measured: Sequence[EvalResults]) -> bool:
    return any(row.calls > 1 for result in _arms(measured) for row in result.rows)


def _cells(result: ArmResult, results: EvalResults, measured: Sequence[EvalResults]) -> list[str]:
    """One row, in the order of `_columns`."""
    accuracy = result.accuracy
    cells = [
        *([results.benchmark] if len(measured) > 1 else []),
        result.model,
        result.arm,
        f"{percent(accuracy.value)} ({100 * accuracy.low:.1f}–{100 * accuracy.high:.1f})",
        "unknown" if result.unknown else f"{result.thinking_tokens.value:,.1f}",
        f"{result.answer_tokens.value:,.1f}",
        f"{result.cut} ({percent(result.cut_share)})",
        f"{result.waits:.2f}",
    ]
    return [*cells, f"{result.calls.value:.1f}"] if _several_calls(measured) else cells
