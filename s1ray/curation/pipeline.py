"""The curation stage, from sources to `questions.parquet`.

    sources -> rows in parts -> features (Ray Data) -> filters -> difficulty (Ray Data, vLLM) -> selection ->
    questions.parquet, dropped/

Texts stay in the parts; of each row the driver knows some numbers. Both results have the order of the sources.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

import numpy as np
from pydantic import JsonValue

from s1ray.benchmarks import is_file
from s1ray.cluster import check_node_labels, connected
from s1ray.config import ConfigError
from s1ray.curation.config import CurationConfig
from s1ray.curation.decontamination import BenchmarkIndex, benchmark_questions, check_meanings
from s1ray.curation.difficulty.config import GivenDifficulty
from s1ray.curation.difficulty.planning import difficulty_inputs, difficulty_plan
from s1ray.curation.difficulty.step import find_difficulty
from s1ray.curation.difficulty.takeover import kept_answers
from s1ray.curation.domains.step import domain_inputs, domain_plan, find_domains
from s1ray.curation.features import Features, part_features
from s1ray.curation.filters import cheap_filters
from s1ray.curation.funnel import Drops, Funnel, Rows
from s1ray.curation.outcome import FEATURES, QUESTIONS, write_conflicts, write_outcome
from s1ray.curation.parts import map_parts, read_rows
from s1ray.curation.quality import check_quality
from s1ray.curation.quarantine import QUARANTINE
from s1ray.curation.report import write_own_report
from s1ray.curation.selection import HOW, Chosen, best_sources, select_rows, without_effect
from s1ray.curation.staging import check_sources, stage
from s1ray.generation.lengths import length_counter
from s1ray.logs import heartbeat
from s1ray.probe import check_seen
from s1ray.ray_data import on_nodes
from s1ray.runs import Run
from s1ray.stages import Stage
from s1ray.storage import Location, location, remove

log = logging.getLogger("s1ray")

WORK = "work"
"""Folder that a finished run does not keep."""


def plan(config: CurationConfig) -> list[str]:
    """What a run would do, one line per step; reads the sources' first rows and starts nothing.

    Raises:
        S1rayError: a source, a benchmark, a model or the tokenizer is not there, or the config does not fit them.
    """
    lines = check_sources(config.sources, check_quality(config.quality))
    for benchmark in config.decontamination.benchmarks:
        next(benchmark_questions(benchmark), None)
        lines.append(f"benchmark {benchmark.path}")
    check_meanings(config.decontamination)
    length_counter(config.length.tokenizer)
    if not config.decontamination.benchmarks:
        lines.append("warning: no benchmark is given, so nothing is decontaminated")
    lines += [*domain_plan(config), *difficulty_plan(config), *without_effect(config.selection)]
    size = "all that is left" if config.selection.method == "all" else f"{config.selection.size:,} questions"
    return [*lines, f"selection: {size} by {config.selection.method}", f"output: {location(config.output) / QUESTIONS}"]


def inputs(config: CurationConfig) -> dict[str, str]:
    """Every local file that decides the result: sources, benchmarks, tokenizers and what models read.

    The labels of sources and benchmarks are among the names: they go into rows, and come from the path where no name is
    given, of which a run counts the content only.
    """
    paths = {
        f"sources.{index}" + (f".{number}" if number else "") + f" ({source.label})": path
        for index, source in enumerate(config.sources)
        for number, path in enumerate(source.inputs())
    }
    benchmarks = config.decontamination.benchmarks
    paths |= {f"benchmarks.{i} ({each.label})": each.path for i, each in enumerate(benchmarks) if is_file(each.path)}
    paths |= difficulty_inputs(config.difficulty)
    if config.length.tokenizer is not None and location(config.length.tokenizer).is_dir():
        paths["length.tokenizer"] = config.length.tokenizer
    if config.decontamination.encoder is not None and location(config.decontamination.encoder).is_dir():
        paths["decontamination.encoder"] = config.decontamination.encoder
    return paths | domain_inputs(config.domains)


def work(config: CurationConfig, run: Run) -> None:
    """Curate, in an open run folder."""
    folder = run.path / WORK
    # Without sources and models, so that workers need not import the classes of other packages.
    given = config.difficulty if isinstance(config.difficulty, GivenDifficulty) else None
    domains = config.domains.without_classifier()
    settings = config.model_copy(update={"sources": [], "difficulty": given, "domains": domains})
    index = BenchmarkIndex.load(config.decontamination)
    with connected(), on_nodes(config.node_labels):
        check_node_labels(config)
        check_seen(run.path)
        log.info("curate: reading %d source(s)", len(config.sources))
        staged = stage(config.sources, folder / "rows", run.path / QUARANTINE, needed=config.needed_metadata)
        parts = staged.parts
        files = map_parts("looking at every row", part_features, parts, folder / FEATURES, config=settings, index=index)
        features = Features(files)
        texts = functools.partial(_texts, parts, features)
        with heartbeat(lambda seconds: f"curate: filtering {len(features):,} rows ({seconds:.0f} s)"):
            funnel = cheap_filters(features, texts, config, folder)
        features = find_domains(config, run, folder, parts, features, funnel)
        if not len(funnel.left):
            raise ConfigError(f"no question is left: loosen the filter that dropped them\n{funnel.table()}")
        log.info("curate: %d of %d rows are left before difficulty", len(funnel.left), len(features))
        write_conflicts(run.path, parts, features, funnel.conflicts)
        measured = find_difficulty(config, run, folder, parts, features, funnel)
        chosen = _select(config, features, funnel)
        log.info("curate: the funnel\n%s", funnel.table())
        run.rows, run.drops = funnel.rows(), funnel.reasons()
        run.figures |= _figures(features, chosen) | {"conflicts": len(funnel.conflicts), "sources": staged.read}
        write_outcome(run.path, folder, parts, features, funnel, chosen, measured)
    remove(folder)


def _texts(parts: Sequence[Location], features: Features, rows: Rows, column: str) -> list[str]:
    texts: list[str] = read_rows(parts, features.starts, rows, [column]).column(0).to_pylist()
    return texts


def _select(config: CurationConfig, features: Features, funnel: Funnel) -> Chosen:
    """Choose among the rows that are left; positions are those of all rows."""
    considered = np.zeros(len(features), np.bool_)
    considered[best_sources(features, funnel.left, config.selection.best_sources)] = True
    try:
        selected = select_rows(features, considered, config.selection, config.seed)
    except ConfigError as error:
        raise ConfigError(f"{error}\n{funnel.table()}") from None
    rows = np.flatnonzero(considered)
    chosen = Chosen(rows[selected.rows], selected.how)
    others = Drops("not of the best sources", np.flatnonzero((funnel.cause == 0) & ~considered))
    funnel.drop("selection", [others, Drops("not selected", np.delete(rows, selected.rows))])
    return chosen


def _figures(features: Features, chosen: Chosen) -> dict[str, JsonValue]:
    """Numbers on the result: what chose how many, rows per domain, lengths."""
    codes, names = features.codes("domain")
    domains = np.bincount(codes[chosen.rows], minlength=len(names)).tolist()
    how = np.bincount(chosen.how, minlength=len(HOW)).tolist()
    return {
        "selected_by": {name: count for name, count in sorted(zip(HOW, how, strict=True)) if count},
        "domains": {name: count for name, count in zip(names, domains, strict=True) if count},
        "mean_length": round(float(features.column("length")[chosen.rows].mean()), 2),
    }


curate = Stage(
    name="curate",
    config=CurationConfig,
    plan=plan,
    inputs=inputs,
    work=work,
    afterwards=write_own_report,
    kept=kept_answers,
    results=(QUESTIONS,),
)
"""The stage. Its run folder gets `questions.parquet` (Question rows), `dropped/` (`DroppedRow`: all others), `review/`
(likenesses to benchmark questions), `report.html`; where there are some, `conflicts.parquet` and `quarantine.jsonl`."""
