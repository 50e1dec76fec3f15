"""Writes the table of an ablation: Markdown for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from s1ray.evaluation.ablation import AblationRow, AblationTable, ablation, as_json
from s1ray.evaluation.metrics import Estimate
from s1ray.pipelines.config import AblationConfig, Published
from s1ray.storage import write_json, write_text

MARKDOWN, JSON = "ablation.md", "ablation.json"


def write_ablation(config: AblationConfig, run_dirs: Sequence[Path], output: Path) -> tuple[str, Path]:
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
    published = config.published
    write_json(
        output / JSON,
        {"tables": as_json(tables), "published": None if published is None else published.model_dump(mode="json")},
    )
    text = "\n\n".join([*map(markdown, tables), *([] if published is None else [published_markdown(published)])])
    write_text(output / MARKDOWN, text + "\n")
    return text, output / MARKDOWN


def markdown(table: AblationTable) -> str:
    """One table, a row for each model."""
    seeds = len(table.seeds)
    head = (
        f"**{table.benchmark}, {table.arm}**: {table.questions} questions, {seeds} seed(s) ({_listed(table.seeds)}). "
        f"Differences are to {table.baseline}, paired by question{' and by seed' if seeds > 1 else ''}; intervals are "
        f"95 %, for other questions{' and other seeds' if seeds > 1 else '; one seed says nothing of others'}."
    )
    lines = [
        ["data", "questions", "steps", "accuracy (%)", "each seed (%)", f"minus {table.baseline}", "thinking tokens"],
        ["---"] * 7,
        *(_cells(row) for row in table.rows),
    ]
    return f"{head}\n\n{_markdown(lines)}"


def published_markdown(published: Published) -> str:
    """What was published, as it was printed."""
    columns = list(dict.fromkeys(column for row in published.rows.values() for column in row))
    lines = [
        ["data", *columns],
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
        f"{row.thinking_tokens:,.1f}",
    ]


def _percent(found: Estimate, sign: str = "") -> str:
    return f"{100 * found.value:{sign}.1f} [{100 * found.low:{sign}.1f}, {100 * found.high:{sign}.1f}]"


def _range(values: Sequence[int]) -> str:
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
