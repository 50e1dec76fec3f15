"""The curation stage, from sources to `questions.parquet`.

    sources -> staged parts -> features (Ray Data) -> filters -> difficulty (Ray Data, vLLM) -> selection ->
    questions.parquet, dropped.parquet

Both outputs are sorted (the questions by id, the dropped rows as the sources have them), so the same config and input
give the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from s1ray.benchmarks import is_file
from s1ray.cluster import connected
from s1ray.config import ConfigError
from s1ray.curation.config import CurationConfig, ModelDifficulty
from s1ray.curation.decontamination import BenchmarkIndex, benchmark_questions
from s1ray.curation.difficulty import measure, solvers
from s1ray.curation.features import compute_features
from s1ray.curation.filters import cheap_filters, difficulty_filter
from s1ray.curation.funnel import Funnel
from s1ray.curation.records import SourceRow
from s1ray.curation.selection import Candidate, select, unmatched
from s1ray.curation.staging import check_sources, stage
from s1ray.generation.engine import check_engine
from s1ray.generation.lengths import length_counter
from s1ray.logs import heartbeat
from s1ray.runs import Run
from s1ray.schemas import Question, arrow_schema, to_table, write_table
from s1ray.stages import Stage
from s1ray.storage import writing

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("s1ray")

QUESTIONS = "questions.parquet"
DROPPED = "dropped.parquet"
DIFFICULTY = "difficulty.parquet"
WORK, ANSWERS = "work", "answers"
"""Folders that a finished run does not keep."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DroppedRow(SourceRow):
    """A row that is not in the result: which stage dropped it, and why."""

    stage: str
    reason: str
    detail: str


def plan(config: CurationConfig) -> list[str]:
    """What a run would do, one line per step; reads the sources' first rows and starts nothing.

    Raises:
        S1rayError: a source, a benchmark, a model or the tokenizer is not there, or the config does not fit them.
    """
    lines = check_sources(config.sources, config.quality.require)
    for benchmark in config.decontamination.benchmarks:
        next(benchmark_questions(benchmark), None)
        lines.append(f"benchmark {benchmark.path}")
    length_counter(config.length.tokenizer)
    if not config.decontamination.benchmarks:
        lines.append("warning: no benchmark is given, so nothing is decontaminated")
    if config.domains.otherwise is None:
        lines.append("domains: a row that has none, and that no rule matches, is dropped")
    if isinstance(config.difficulty, ModelDifficulty):
        rows = "every row left" if config.cap_per_domain is None else f"{config.cap_per_domain} rows per domain"
        for engine in config.difficulty.models.values():
            check_engine(engine)
        samples, tokens = config.difficulty.samples, config.difficulty.max_tokens
        lines += [
            f"difficulty: {label} ({engine.model}) answers {rows}, {samples} sample(s) each, at most {tokens:,} tokens"
            for label, engine in config.difficulty.models.items()
        ]
    elif config.difficulty is not None:
        lines.append("difficulty: from the sources' labels")
    size = "all that is left" if config.selection.method == "all" else f"{config.selection.size:,} questions"
    return [*lines, f"selection: {size} by {config.selection.method}", f"output: {Path(config.output) / QUESTIONS}"]


def inputs(config: CurationConfig) -> dict[str, str]:
    """Every local file that decides the result: sources, benchmarks, tokenizers and the difficulty models' weights.

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
    if isinstance(config.difficulty, ModelDifficulty):
        for label, engine in config.difficulty.models.items():
            paths |= engine.inputs(f"difficulty.{label}")
    if config.length.tokenizer is not None and Path(config.length.tokenizer).is_dir():
        paths["length.tokenizer"] = config.length.tokenizer
    return paths


def work(config: CurationConfig, run: Run) -> None:
    """Curate, in an open run folder."""
    staged = run.path / WORK
    shutil.rmtree(staged, ignore_errors=True)
    log.info("curate: reading %d source(s)", len(config.sources))
    parts = stage(config.sources, staged)
    index = BenchmarkIndex.load(config.decontamination)
    with connected():
        log.info("curate: looking at every row: quality, leaks, duplicates, length")
        features = compute_features(parts, config, index)
        with heartbeat(lambda seconds: f"curate: filtering {len(features):,} rows ({seconds:.0f} s)"):
            funnel = cheap_filters(features, config, config.seed)
        if not funnel.alive:
            raise ConfigError(f"no question is left: loosen the filter that dropped them\n{funnel.table()}")
        log.info("curate: %d of %d rows are left before difficulty", len(funnel.alive), len(features))
        solved_by = _difficulty(config, run, features, funnel)
    chosen = _select(config, features, funnel)
    log.info("curate: the funnel\n%s", funnel.table())
    run.rows, run.drops = funnel.rows(), funnel.reasons()
    run.figures = _figures(features, chosen)
    _write(run.path, parts, features, funnel, chosen, solved_by)
    for folder in (staged, run.path / ANSWERS):
        shutil.rmtree(folder, ignore_errors=True)


def _difficulty(config: CurationConfig, run: Run, features: pa.Table, funnel: Funnel) -> Mapping[int, list[str] | None]:
    """Measure or read difficulty and drop what is too easy; row -> models that solved it."""
    given = dict(enumerate(features.column("solved_by").to_pylist()))
    if config.difficulty is None:
        return given
    if not isinstance(config.difficulty, ModelDifficulty):
        difficulty_filter(funnel, given)
        return given
    rows = funnel.alive
    questions = features.take(rows).select(["id", "question", "answer", "metadata"])
    answers = measure(questions, config.difficulty, run.path / ANSWERS, seed=config.seed)
    write_table(answers, run.path / DIFFICULTY)
    labels = solvers(answers)
    solved_by = {row: labels[question] for row, question in zip(rows, questions.column("id").to_pylist(), strict=True)}
    difficulty_filter(funnel, solved_by)
    return solved_by


def _select(config: CurationConfig, features: pa.Table, funnel: Funnel) -> dict[int, str]:
    """Choose among the rows that are left; row -> what chose it."""
    import pyarrow as pa

    row_of: dict[str, int] = {}
    candidates = []
    columns = ["order", "id", "domain", "length", "source", "metadata"]
    for row in features.select(columns).take(pa.array(funnel.alive, pa.int64())).to_pylist():
        row_of[row["id"]] = row["order"]
        metadata = json.loads(row["metadata"])
        candidates.append(Candidate(row["id"], row["domain"], row["length"], row["source"], metadata))
    for line in unmatched(candidates, config.selection):
        log.warning("curate: %s", line)
    try:
        selected = select(candidates, config.selection, config.seed)
    except ConfigError as error:
        raise ConfigError(f"{error}\n{funnel.table()}") from None
    chosen = {row_of[question]: how for question, how in selected.items()}
    funnel.drop("selection", {row: ("not selected", "") for row in funnel.alive if row not in chosen})
    return chosen


def _figures(features: pa.Table, chosen: Mapping[int, str]) -> dict[str, JsonValue]:
    """Numbers on the result: what chose how many, rows per domain, lengths."""
    table = features.select(["domain", "length"]).take(sorted(chosen))
    domains, lengths = table.column("domain").to_pylist(), table.column("length").to_pylist()
    return {
        "selected_by": dict(sorted(Counter(chosen.values()).items())),
        "domains": dict(sorted(Counter(domains).items())),
        "mean_length": round(sum(lengths) / len(lengths), 2),
    }


def _write(
    folder: Path,
    parts: Sequence[Path],
    features: pa.Table,
    funnel: Funnel,
    chosen: Mapping[int, str],
    solved_by: Mapping[int, list[str] | None],
) -> None:
    """Write both outputs from the staged parts, one part in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = arrow_schema(DroppedRow)
    kept: list[dict[str, object]] = []
    with writing(folder / DROPPED) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for part in parts:
            rows = pq.read_table(part).to_pylist()
            annotations = features.select(["domain", "length"]).slice(rows[0]["order"], len(rows)).to_pylist()
            dropped: list[dict[str, object]] = []
            for row, annotation in zip(rows, annotations, strict=True):
                order = row["order"]
                row |= annotation | {"solved_by": solved_by.get(order), "selected_by": chosen.get(order)}
                if order in chosen:
                    kept.append(row)
                else:
                    dropped.append(row | vars(funnel.drops[order]))
            writer.write_table(pa.Table.from_pylist(dropped, schema=schema))
    kept.sort(key=lambda row: str(row["id"]))
    write_table(to_table(kept, Question), folder / QUESTIONS)


curate = Stage(name="curate", config=CurationConfig, plan=plan, inputs=inputs, work=work)
"""The stage. Its run folder gets `questions.parquet` (Question rows, sorted by id) and `dropped.parquet` (`DroppedRow`:
all others)."""
