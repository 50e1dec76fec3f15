"""Writes what a recipe compares, laid out as in the paper: Markdown for people, JSON for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from s1ray.evaluation.ablation import AblationRow, AblationTable, ablation, as_json
from s1ray.evaluation.loading import load_all_results
from s1ray.evaluation.method_table import MethodRow, method_rows
from s1ray.evaluation.metrics import Estimate
from s1ray.evaluation.results import EvalResults
from s1ray.pipelines.config import AblationConfig, MethodsConfig, Published
from s1ray.storage import Location, write_json, write_text

OTHER_SEEDS = {
    1: "; one seed says nothing of others",
    2: " and other seeds; two that differ much are too few, and such intervals hold in 90 % of cases",
}
"""What so few seeds are worth (`s1ray.evaluation.crossed`)."""
ABLATION, METHODS = "ablation", "methods"
"""Files, without their suffix."""


def write_ablation(config: AblationConfig, run_dirs: Sequence[Location], output: Location) -> tuple[str, Location]:
    """Compare all models of a run's evaluations with the baseline.

    Args:
        config: the baseline, and what was published.
        run_dirs: of the evaluations.
        output: the folder to write to.

    Returns:
        The table in Markdown, and its file.

    Raises:
        InputError: as `ablation`.
    """
    tables = ablation(run_dirs, config.baseline)
    return _write(output, ABLATION, as_json(tables), [ablation_markdown(table) for table in tables], config.published)


def measures(run_dir: Location, model: str) -> bool:
    """Whether an eval run measured a model of this label."""
    return any(results.of(model) for results in load_all_results([run_dir]))


def write_methods(config: MethodsConfig, run_dirs: Sequence[Location], output: Location) -> tuple[str, Location]:
    """Control, Scaling and Performance of all methods that a run's evaluations measured.

    Args:
        config: what was published.
        run_dirs: of the evaluations.
        output: the folder to write to.

    Returns:
        The table in Markdown, and its file.

    Raises:
        RunError: as `load_all_results`.
    """
    values, texts = [], []
    for results in load_all_results(run_dirs):
        rows = method_rows(results)
        values.append({"benchmark": results.benchmark, "rows": [_values(row) for row in rows]})
        texts.append(methods_markdown(results, rows))
    return _write(output, METHODS, values, texts, config.published)


def _write(
    output: Location, name: str, values: Sequence[Mapping[str, Any]], texts: Sequence[str], published: Published | None
) -> tuple[str, Location]:
    told = None if published is None else published.model_dump(mode="json")
    write_json(output / f"{name}.json", {"tables": values, "published": told})
    text = "\n\n".join([*texts, *([] if published is None else [published_markdown(published)])])
    write_text(output / f"{name}.md", text + "\n")
    return text, output / f"{name}.md"


def ablation_markdown(table: AblationTable) -> str:
    """One table, a row for each model."""
    seeds = len(table.seeds)
    head = (
        f"**{table.benchmark}, {table.arm}**: {table.questions} questions, {seeds} seed(s) ({_listed(table.seeds)}). "
        f"Differences are to {table.baseline}, paired by question{' and by seed' if seeds > 1 else ''}; intervals are "
        f"95 %, for other questions{OTHER_SEEDS.get(seeds, ' and other seeds')}."
    )
    lines = [
        ["data", "questions", "steps", "accuracy (%)", "each seed (%)", f"minus {table.baseline}", "thinking tokens"],
        ["---"] * 7,
        *(_cells(row) for row in table.rows),
    ]
    return f"{head}\n\n{_markdown(lines)}"


def methods_markdown(results: EvalResults, rows: Sequence[MethodRow]) -> str:
    """The methods of one benchmark, a row for each, and what compares at equal tokens."""
    questions = rows[0].performance.n if rows else 0
    head = (
        f"**{results.benchmark}**: {questions} questions. Control: share of arms within their limits, of those "
        "that have one. Scaling: points per doubling of the thinking tokens. Performance: the best arm. Intervals are "
        "95 %, questions resampled."
    )
    lines = [
        ["model", "method", "Control (%)", "of single answers (%)", "Scaling", "Performance (%)", "arms"],
        ["---"] * 7,
        *(_method_cells(row) for row in rows),
    ]
    notes = [
        f"- {row.method.model}, {row.method.series}: Scaling leaves out {len(row.level)} pair(s) of arms that think "
        f"equally long, as far as these questions tell: {', '.join(f'{a} and {b}' for a, b in row.level[:3])}"
        f"{', ...' if len(row.level) > 3 else ''}"
        for row in rows
        if row.level
    ]
    notes += [
        f"- {row.method.model}, {row.method.series}: tokens are those of the responses that were kept, as in the paper"
        for row in rows
        if row.method.kept
    ]
    notes += [f"- {each.sentence}" for each in results.at_equal_tokens()]
    return "\n\n".join([head, _markdown(lines), *(["\n".join(notes)] if notes else [])])


def _method_cells(row: MethodRow) -> list[str]:
    method = row.method
    return [
        method.model,
        method.series,
        "" if row.control is None else _percent(row.control),
        "" if method.control_samples is None else f"{100 * method.control_samples:.1f}",
        "" if row.scaling is None else _interval(row.scaling, "+"),
        _percent(row.performance),
        str(len(method.arms)),
    ]


def _values(row: MethodRow) -> dict[str, Any]:
    method = row.method
    return {
        "model": method.model,
        "method": method.series,
        "arms": [arm.arm for arm in method.arms],
        "kept_tokens": method.kept,
        "control_samples": method.control_samples,
        "level": row.level,
        **{name: _plain(getattr(row, name)) for name in ("control", "scaling", "performance")},
    }


def _plain(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else dataclasses.asdict(found)


def published_markdown(published: Published) -> str:
    """What was published, as it was printed."""
    columns = list(dict.fromkeys(column for row in published.rows.values() for column in row))
    lines = [
        ["", *columns],
        ["---"] * (len(columns) + 1),
        *([label, *(row.get(column, "") for column in columns)] for label, row in published.rows.items()),
    ]
    return f"**Published, not measured here**: {published.source}\n\n{_markdown(lines)}"


def _cells(row: AblationRow) -> list[str]:
    return [
        row.model,
        _range(row.examples),
        _range(row.steps),
        _percent(row.accuracy),
        ", ".join(f"{100 * share:.1f}" for share in row.by_seed.values()),
        "" if row.difference is None else _percent(row.difference, sign="+"),
        "unknown" if row.thinking_tokens is None else f"{row.thinking_tokens:,.1f}",
    ]


def _percent(found: Estimate, sign: str = "") -> str:
    return _interval(Estimate(100 * found.value, 100 * found.low, 100 * found.high, found.n), sign)


def _interval(found: Estimate, sign: str = "") -> str:
    return f"{found.value:{sign}.1f} [{found.low:{sign}.1f}, {found.high:{sign}.1f}]"


def _range(values: Sequence[int]) -> str:
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
