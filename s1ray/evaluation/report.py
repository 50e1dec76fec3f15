"""The report of eval runs: one self-contained HTML file, a picture of its main curve, and a table for the terminal.

    write_report(["runs/miniature/eval"], "report.html")

Every number is measured in the given runs and stands with its interval and its n; the paper's numbers are labelled as
the paper's.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.evaluation.arm_result import ArmResult, account, by_question
from s1ray.evaluation.loading import QUESTIONS, load_results
from s1ray.evaluation.metrics import Estimate, majority, pass_at_k
from s1ray.evaluation.results import Comparison, EvalResults
from s1ray.grading import vote_classes
from s1ray.pages import page_environment, percent
from s1ray.runs import RunError, check_folder
from s1ray.storage import write_text
from s1ray.targets import check_target

if TYPE_CHECKING:
    from rich.table import Table


def write_report(run_dirs: Sequence[str | os.PathLike[str]], out_html: str | os.PathLike[str]) -> Path:
    """Write the report of finished eval runs, and next to it the main curve as PNG and SVG, in two views.

    The curve's files are named after the report: report.html gets report.accuracy.png and .svg (against thinking
    tokens), and report.accuracy-total.png and .svg (against the tokens of thinking and answer).

    Args:
        run_dirs: run folders of `s1ray eval` on the same questions.
        out_html: the file to write.

    Returns:
        The report's path.

    Raises:
        RunError: no folder was given, one holds no finished eval run, the runs do not fit together, or the report
            cannot be written there.
    """
    from s1ray.evaluation import plots

    out_html = Path(out_html)
    if out_html.is_dir():
        raise RunError(f"{out_html}: is a folder; give the HTML file to write")
    check_folder(out_html.absolute().parent)
    for run in run_dirs:
        check_target(out_html, [path for path in Path(run).glob("*") if path.suffix != out_html.suffix], in_runs=True)
    results = load_results(run_dirs)
    write_text(out_html, _render(results, _questions(run_dirs)))
    curves = {
        ".accuracy": plots.accuracy_curve(results),
        ".accuracy-total": plots.accuracy_curve(results, tokens="total"),
    }
    for name, curve in curves.items():
        for kind in (".png", ".svg"):
            plots.save(curve, out_html.with_suffix(name + kind))
    return out_html


def summary_table(run_dirs: Sequence[str | os.PathLike[str]]) -> Table:
    """The main numbers for the terminal: a row for each model and arm, and below them what to be warned of.

    Raises:
        RunError: as `write_report`.
    """
    from rich import box
    from rich.table import Table

    results = load_results(run_dirs)
    table = Table(
        title=f"{len(results.arms[0].questions)} questions; intervals are 95 %; "
        f"Control {percent(results.obeying / results.answered)} % of {results.answered:,} responses",
        title_justify="left",
        caption="\n".join([account(results.arms), *(f"warning: {warning}" for warning in results.warnings)]),
        caption_justify="left",
        caption_style="yellow",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in SUMMARY_COLUMNS[:2]:
        table.add_column(column, no_wrap=True)
    for column in summary_columns(results)[2:]:
        table.add_column(column, justify="right", no_wrap=True)
    for model in results.models:
        for result in results.of(model):
            table.add_row(*_summary(result, results))
        table.add_section()
    return table


def summary_markdown(run_dirs: Sequence[str | os.PathLike[str]]) -> str:
    """The same table in Markdown, for a README, and below it what became of all responses.

    Raises:
        RunError: as `write_report`.
    """
    results = load_results(run_dirs)
    columns = summary_columns(results)
    rows = [
        [column.replace("\n", " ") for column in columns],
        ["---"] * len(columns),
        *(_summary(result, results) for result in results.arms),
    ]
    table = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)
    notes = [account(results.arms), *results.warnings]
    return f"{table}\n\n" + "\n".join(f"- {note}" for note in notes)


SUMMARY_COLUMNS = (
    "model",
    "arm",
    "accuracy (%)",
    "thinking\ntokens",
    "answer\ntokens",
    "answers\ncut (%)",
    "waits",
)


def summary_columns(results: EvalResults) -> list[str]:
    """The summary's columns; requests per answer are one where some arm makes several."""
    return [*SUMMARY_COLUMNS, *(["requests"] if _several_calls(results) else [])]


def _several_calls(results: EvalResults) -> bool:
    return any(row.calls > 1 for result in results.arms for row in result.rows)


def _summary(result: ArmResult, results: EvalResults) -> list[str]:
    """One row of the summary, in the order of `summary_columns`."""
    accuracy = result.accuracy
    cells = [
        result.model,
        result.arm,
        f"{percent(accuracy.value)} ({100 * accuracy.low:.1f}–{100 * accuracy.high:.1f})",
        "unknown" if result.unknown else f"{result.thinking_tokens.value:,.1f}",
        f"{result.answer_tokens.value:,.1f}",
        f"{result.cut} ({percent(result.cut_share)})",
        f"{result.waits:.2f}",
    ]
    return [*cells, f"{result.calls.value:.1f}"] if _several_calls(results) else cells


def interval(estimate: Estimate) -> str:
    """A share's interval in percent."""
    return f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}"


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def points_interval(estimate: Estimate) -> str:
    """A difference's interval in percentage points."""
    return f"{points(estimate.low)} to {points(estimate.high)}"


def _questions(run_dirs: Sequence[str | os.PathLike[str]]) -> dict[str, str]:
    from s1ray.schemas import Question, read_table

    texts: dict[str, str] = {}
    for run_dir in run_dirs:
        file = Path(run_dir) / QUESTIONS
        if file.is_file():
            table = read_table(file, Question)
            texts |= dict(zip(table["id"].to_pylist(), table["question"].to_pylist(), strict=True))
    return texts


def _render(results: EvalResults, questions: dict[str, str]) -> str:
    from s1ray.config import to_yaml
    from s1ray.evaluation import plots
    from s1ray.evaluation.samples import choose_samples

    environment = page_environment("s1ray.evaluation")
    environment.filters |= {
        "interval": interval,
        "points": points,
        "points_interval": points_interval,
    }
    waits = plots.waits_plot(results, plots.THEMED)
    between_models, between_waits = results.between_models(), results.between_waits()
    return environment.get_template("report.html.j2").render(
        title=f"Test-time scaling: {' and '.join(results.models)}",
        results=results,
        n=len(results.arms[0].questions),
        account=account(results.arms),
        samples_a_question=max(result.samples for result in results.arms),
        headlines=_headlines(results, between_models, between_waits),
        accuracy_svg=plots.to_svg(plots.accuracy_curve(results, plots.THEMED), "plot-accuracy"),
        total_svg=plots.to_svg(plots.accuracy_curve(results, plots.THEMED, tokens="total"), "plot-total"),
        waits_svg=plots.to_svg(waits, "plot-waits") if waits else None,
        methods=results.methods(),
        between_models=between_models,
        between_waits=between_waits,
        domains=_domains(results),
        repeated=_repeated(results),
        samples=choose_samples(results, questions),
        configs=[to_yaml(config) for config in results.configs],
        manifests=results.manifests,
        recounted=[m.label for config in results.configs for m in config.models if m.weights is not None],
        ends=sorted({reason for result in results.arms for reason in result.ends}, key=lambda r: (r != "own", r)),
        finishes=sorted({reason for result in results.arms for reason in result.finishes}, reverse=True),
        errors=sum(result.errors for result in results.arms),
        unparsable=sum(result.unparsable for result in results.arms),
        undecided=sum(result.undecided for result in results.arms),
        graders=sorted({grader for result in results.arms for grader in result.graders}),
    )


def _headlines(
    results: EvalResults, between_models: list[Comparison], between_waits: list[Comparison]
) -> list[dict[str, str]]:
    """The few numbers that most readers open the report for."""
    tiles = []
    last = results.models[-1]
    for comparison in results.between_extremes():
        if comparison.after.model == last:
            tiles.append(_tile(f"{last}: {comparison.before.arm} to {comparison.after.arm}", comparison))
    maxima = [c for c in between_models if c.after.model == last and not c.after.setting.budget.waits]
    if maxima:
        widest = max(maxima, key=lambda c: c.after.thinking_tokens.value)
        tiles.append(_tile(f"{results.models[0]} to {last}, both at {widest.after.arm}", widest))
    waits = [c for c in between_waits if c.after.model == last]
    if waits:
        tiles.append(_tile(f"{last}: {waits[-1].after.setting.budget.waits} waits against none", waits[-1]))
    tiles.append(
        {
            "label": "Control: thinking within its limits",
            "value": f"{percent(results.obeying / results.answered)} %",
            "detail": f"{results.obeying:,} of {results.answered:,} samples, counted from token ids",
        }
    )
    return tiles


def _tile(label: str, comparison: Comparison) -> dict[str, str]:
    difference = comparison.difference
    before, after = percent(comparison.before.accuracy.value), percent(comparison.after.accuracy.value)
    return {
        "label": label,
        "value": f"{points(difference.value)} points",
        "detail": f"{before} % to {after} %; interval {points_interval(difference)}, n = {difference.n}",
    }


@dataclasses.dataclass(frozen=True)
class Domains:
    """Accuracy by domain."""

    columns: list[ArmResult]
    rows: list[tuple[str, list[Estimate | None]]]
    """A domain, and its accuracy in each column."""


@dataclasses.dataclass(frozen=True)
class Share:
    """A share of questions."""

    value: float
    n: int
    """Questions that count: those that have enough decided samples."""


@dataclasses.dataclass(frozen=True)
class Repeated:
    """pass@k and majority vote of one measurement with several samples per question."""

    result: ArmResult
    pass_at: list[tuple[int, Share]]
    majority: Share | None
    """None: no question's most common answer is decided."""


def _domains(results: EvalResults) -> Domains:
    """Each model at its smallest and largest maximum."""
    columns: list[ArmResult] = []
    for model in results.models:
        arms = results.maxima(model) or results.of(model)
        columns += [arms[0], arms[-1]] if len(arms) > 1 else arms
    rows = [
        (domain or "(none)", [result.accuracy_of_domain(domain) for result in columns]) for domain in results.domains
    ]
    return Domains(columns, rows)


def _repeated(results: EvalResults) -> list[Repeated]:
    return [
        Repeated(
            result,
            [(k, share) for k in (1, 2, 4, 8, 16, 32, 64, 128, 256) if (share := _pass_at(result, k)) is not None],
            _share(_votes(result)),
        )
        for result in results.arms
        if result.samples > 1
    ]


def _pass_at(result: ArmResult, k: int) -> Share | None:
    """Over the questions with k decided samples; None where there are none."""
    return _share(pass_at_k(len(v), sum(v), k) for v in result.correct.values() if len(v) >= k)


def _votes(result: ArmResult) -> Iterator[bool]:
    """For each question, whether the most common answer is right; questions where that is undecided are left out."""
    for samples in by_question(result.rows, lambda row: row).values():
        classes = vote_classes([row.extracted for row in samples])
        winner = majority(classes)
        if winner is None:
            # No sample has an answer: wrong, like each of them.
            yield False
            continue
        alike = [row.correct for row, vote in zip(samples, classes, strict=True) if vote == classes[winner]]
        decided = [correct for correct in alike if correct is not None]
        if decided:
            yield decided[0]


def _share(values: Iterable[float]) -> Share | None:
    counted = list(values)
    return Share(sum(counted) / len(counted), len(counted)) if counted else None
