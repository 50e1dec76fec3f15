"""The report of a curation run: one HTML file that says what the pool was, what became of it and why.

    write_report("runs/miniature/curate", "report.html")

Files are read in batches, and of texts a few rows only, so a pool of millions takes no more memory than a small one.
Which rows are shown depends on the run alone: the first of each reason, and of likenesses those first whose rows are
among the questions.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s1ray.curation.config import CurationConfig
from s1ray.curation.outcome import CONFLICTS, DROPPED, QUESTIONS, REVIEW
from s1ray.curation.quarantine import QUARANTINE
from s1ray.curation.report.composition import compositions
from s1ray.curation.report.examples import (
    BadKind,
    DroppedExample,
    bad_rows,
    conflicts,
    dropped_examples,
    likenesses,
)
from s1ray.curation.report.funnel_drawing import Step, draw, steps
from s1ray.errors import S1rayError
from s1ray.manifests import Manifest, RunError, read_complete
from s1ray.pages import page_environment
from s1ray.runs import Run, check_folder
from s1ray.schemas import visible_files
from s1ray.storage import AnyPath, Location, location, real_place, write_text
from s1ray.targets import check_target

log = logging.getLogger("s1ray")

REPORT = "report.html"
"""In the run folder."""
HOW_WORDS = {"trusted": "taken beforehand", "uniform": "by domain, all alike", "weighted": "by domain, weighted"}
"""What the selection's names mean."""


def write_report(run: AnyPath, out_html: AnyPath | None = None) -> Location:
    """Write the report of a complete run of `s1ray curate`.

    Args:
        run: its folder.
        out_html: the file to write. None: the run's own, `report.html`.

    Returns:
        The report's path.

    Raises:
        MissingError: there is no such run.
        InputError: it is no complete run of this stage, a file of it is damaged, or the report would be written over
            what the run holds or reads.
        RunError: the report cannot be written there.
    """
    folder = location(run)
    manifest = read_complete(folder, "curate")
    target = folder / REPORT if out_html is None else location(out_html)
    if target.is_dir():
        raise RunError(f"{target}: is a folder; give the HTML file to write")
    own = real_place(target) == real_place(folder / REPORT)
    if not own:
        check_target(target, [folder, *(entry["path"] for entry in manifest.get("inputs", {}).values())])
    check_folder(target.absolute().parent)
    page = _render(folder, manifest)
    try:
        write_text(target, page)
    except OSError as error:
        raise RunError(f"{target}: cannot be written: {error.strerror or error}") from error
    return target


def write_own_report(config: CurationConfig, run: Run) -> None:
    """Write the report of a complete run that has none. One that cannot be written is no reason to fail."""
    if (run.path / REPORT).exists():
        return
    try:
        write_report(run.path)
    except S1rayError as error:
        log.warning("curate: the run is complete, but its report cannot be written: %s", error)
        return
    log.info("curate: the report is %s", run.path / REPORT)


@dataclass(frozen=True)
class Reason:
    """Why rows were dropped."""

    text: str
    count: int
    examples: list[DroppedExample]


@dataclass(frozen=True)
class StageDrops:
    """What a stage dropped."""

    step: Step
    reasons: list[Reason]


def _render(folder: Location, manifest: Manifest) -> str:
    import yaml

    chosen, dropped = [folder / QUESTIONS], _parts(folder / DROPPED)
    rows, figures, config = manifest["rows"], manifest["figures"], manifest["config"]
    funnel = steps(rows, manifest["drops"])
    bad = bad_rows(folder / QUARANTINE)
    conflict_files = [path for path in [folder / CONFLICTS] if path.exists()]
    return (
        page_environment("s1ray.curation.report")
        .get_template("report.html.j2")
        .render(
            title=f"{rows['out']:,} questions of {rows['in']:,}",
            manifest=manifest,
            config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120),
            rows=rows,
            tiles=_tiles(manifest, bad),
            drawing=draw(funnel),
            drops=_drops(funnel, dropped_examples(dropped, chosen)),
            compositions=compositions(chosen, dropped, _unit(config)),
            tiers=likenesses(_parts(folder / REVIEW)),
            benchmarks=_benchmarks(config),
            conflicts=conflicts(conflict_files),
            conflict_count=figures.get("conflicts", 0),
            bad=bad,
        )
    )


def _parts(folder: Location) -> list[Location]:
    return visible_files(folder, ".parquet") if folder.is_dir() else []


def _drops(funnel: Sequence[Step], examples: Mapping[tuple[str, str], list[DroppedExample]]) -> list[StageDrops]:
    return [
        StageDrops(step, [Reason(text, count, examples.get((step.stage, text), [])) for text, count in step.reasons])
        for step in funnel
        if step.reasons
    ]


def _tiles(manifest: Manifest, bad: Sequence[BadKind]) -> list[tuple[str, str, str]]:
    """The numbers that most readers open the report for: label, value, and what stands below."""
    rows, drops, figures = manifest["rows"], manifest["drops"], manifest["figures"]
    leaks = sum(count for reason, count in drops.items() if reason.startswith("decontamination: "))
    copies = sum(count for reason, count in drops.items() if reason.startswith("deduplication: "))
    how = ", ".join(f"{count:,} {HOW_WORDS.get(name, name)}" for name, count in figures.get("selected_by", {}).items())
    conflicting, unusable = figures.get("conflicts", 0), sum(kind.count for kind in bad)
    return [
        (
            "rows in the pool",
            f"{rows['in']:,}",
            f"{unusable:,} more could not be used" if unusable else "all are sound",
        ),
        ("questions chosen", f"{rows['out']:,}", how),
        ("benchmark leaks", f"{leaks:,}", "dropped"),
        ("duplicates", f"{copies:,}", f"{conflicting:,} pair{'s' * (conflicting != 1)} with different answers stay"),
    ]


def _unit(config: Mapping[str, Any]) -> str:
    return "words" if config.get("length", {}).get("tokenizer") is None else "tokens"


def _benchmarks(config: Mapping[str, Any]) -> list[str]:
    given = config.get("decontamination", {}).get("benchmarks", [])
    return [each.get("name") or location(each["path"]).stem for each in given]
