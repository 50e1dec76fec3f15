"""The eval stage: every model with every arm on every question, over HTTP, resumable to the single response.

    run = evaluate(load_config(EvalConfig, find_recipe("miniature", "eval")))

Each finished row is appended to a journal at once, so a killed run has lost only what was in flight. Started again with
the same config, the run asks for what is missing and for what had failed. Rows carry no clock and no order of arrival,
so the Parquet file at the end does not depend on how many attempts there were.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from s1ray.benchmarks import Benchmark
from s1ray.config import ConfigError
from s1ray.evaluation.arm_result import ArmResult, account, raw_markers
from s1ray.evaluation.benchmarks import Asked, KeptQuestion, kept, load_benchmarks
from s1ray.evaluation.config import EvalConfig
from s1ray.evaluation.endpoint import api_key, check_endpoint
from s1ray.evaluation.journal import Journal
from s1ray.evaluation.loading import QUESTIONS, RESULTS, TIMINGS
from s1ray.evaluation.measure import Engines, engines_over_http, measure
from s1ray.evaluation.progress import Progress
from s1ray.evaluation.recount import Recount
from s1ray.evaluation.tasks import JournalKey, Task, all_tasks, bound, journal_key
from s1ray.logs import heartbeat
from s1ray.reading.files import input_paths
from s1ray.runs import Run, RunError
from s1ray.schemas import Evaluation, Timing, read_table, to_table, write_table
from s1ray.stages import Stage

log = logging.getLogger("s1ray")

JOURNALS = "journals"


def plan(config: EvalConfig) -> list[str]:
    """What the run would do; reads the questions, and contacts nothing but the Hub where they are there.

    Raises:
        S1rayError: the questions cannot be used, a folder of weights is not there, or the API key is not set.
    """
    api_key(config.endpoint)
    for index, model in enumerate(config.models):
        if model.weights is not None and not os.path.exists(model.weights):
            raise ConfigError(f"models.{index}.weights: {model.weights!r}: no such folder; train the model first")
    benchmarks = load_benchmarks(config.all_benchmarks(), config.limit, config.grader)
    responses = sum(len(each.questions) for each in benchmarks) * config.sampling.samples * config.repeats
    lines = [
        f"{len(each.questions)} questions of {config.benchmark or _origin(each.benchmark)}, "
        f"{config.sampling.samples} sample(s) each" + (f", {config.repeats} times" if config.repeats > 1 else "")
        for each in benchmarks
    ]
    maxima: list[int | None] = []
    for model in config.models:
        arms = config.arms_of(model)
        lines.append(f"{model.label} (served as {model.name}): {', '.join(arm.name for arm in arms)}")
        maxima += [bound(arm) for arm in arms]
    bounded = [most for most in maxima if most is not None]
    thinking = f"at most {responses * sum(bounded):,} thinking tokens"
    if len(bounded) < len(maxima):
        thinking = "thinking tokens up to the context"
    total = responses * len(maxima)
    requests = responses * sum(arm.requests for model in config.models for arm in config.arms_of(model))
    asked = "" if requests == total else f" by at most {requests:,} requests"
    limit = config.sampling.answer_tokens
    lines.append(f"{total:,} responses{asked}, {thinking}, answers of at most {limit:,} tokens")
    lines.append(f"{config.endpoint.concurrency} requests in flight at {config.endpoint.base_url}")
    return lines


def inputs(config: EvalConfig) -> dict[str, str]:
    """The files of the benchmarks, and the weights of the models whose config names them."""
    files: dict[str, str] = {}
    for each in config.all_benchmarks():
        name = "benchmark" if config.benchmark is not None else f"benchmark {each.name}"
        paths = [] if each.path is None else input_paths(each.path)
        files |= {name if len(paths) == 1 else f"{name} {i}": path for i, path in enumerate(paths, start=1)}
    return files | {f"weights of {m.label}": m.weights for m in config.models if m.weights is not None}


def work(config: EvalConfig, run: Run, *, engines: Engines | None = None) -> None:
    """Measure what is missing, and write the results.

    Args:
        config: what to measure.
        run: the open run folder.
        engines: makes the generator that answers for a model. None: the config's endpoint answers.

    Raises:
        RunError: more requests failed than the config allows.
        UnreachableError: the endpoint does not answer, or stopped answering.
        ConfigError: the endpoint does not serve a model, or not as the config says.
    """
    benchmarks = load_benchmarks(config.all_benchmarks(), config.limit, config.grader)
    questions = kept(benchmarks)
    _settle_questions(run.path / QUESTIONS, questions)
    tasks = all_tasks(config, benchmarks)
    with ExitStack() as open_journals:
        paths = _journal_paths(config, benchmarks, run.path)
        journals = {key: open_journals.enter_context(Journal(path)) for key, path in paths.items()}
        _get_missing(config, tasks, journals, engines)
        rows = _rows(tasks, journals)
        timings = [_timing(row, journals[journal_key(row)]) for row in rows]
    _account_for_failures(config, rows)
    write_table(to_table(timings, Timing), run.path / TIMINGS)
    write_table(to_table(rows, Evaluation), run.path / RESULTS)
    run.rows = {"questions": len(questions), "evaluations": len(rows)}
    run.drops = {"failed": sum(row.error is not None for row in rows)}
    run.figures = _figures(config, rows)


def clear_journals(config: EvalConfig, run: Run) -> None:
    """Delete the journals of a complete run: their rows are in its results."""
    shutil.rmtree(run.path / JOURNALS, ignore_errors=True)


def _origin(benchmark: Benchmark) -> str:
    place = benchmark.path or benchmark.hub
    return benchmark.name if place is None else f"{benchmark.name} ({place})"


def _settle_questions(path: Path, questions: list[KeptQuestion]) -> None:
    """Keep the questions with the results; refuse to resume with others than the run began with."""
    table = to_table(questions, KeptQuestion)
    if path.exists():
        if not read_table(path, KeptQuestion).equals(table):
            raise RunError(
                f"{path}: the run began with other questions than the benchmark gives now; "
                "choose another `output`, or pass --force to start again"
            )
        return
    write_table(table, path)


def _journal_paths(config: EvalConfig, benchmarks: list[Asked], folder: Path) -> dict[JournalKey, Path]:
    return {
        (each.benchmark.name, model.label, arm.name): folder / JOURNALS / f"benchmark-{b}-model-{i}-arm-{j}.jsonl"
        for b, each in enumerate(benchmarks)
        for i, model in enumerate(config.models)
        for j, arm in enumerate(config.arms_of(model))
    }


def _get_missing(
    config: EvalConfig, tasks: list[Task], journals: Mapping[JournalKey, Journal], engines: Engines | None
) -> None:
    missing = []
    for task in tasks:
        row = journals[task.key].rows.get(task.id)
        if row is None or row.error is not None:
            missing.append(task)
    if not missing:
        return
    if len(missing) < len(tasks):
        log.info("eval: %d of %d responses are there already", len(tasks) - len(missing), len(tasks))
    with heartbeat(lambda seconds: f"eval: trying the models at {config.endpoint.base_url} ({seconds:.0f} s)"):
        if engines is None:
            check_endpoint(config.endpoint, config.models, plain=_plain(config), sampling=config.sampling)
            engines = engines_over_http(config)
        recounts = {
            model.label: Recount.of_model(model.weights, model.thinking_format)
            for model in config.models
            if model.weights is not None
        }
    with Progress(len(tasks), len(tasks) - len(missing)) as progress:

        def keep(row: Evaluation, seconds: float) -> None:
            journals[journal_key(row)].add(row, seconds)
            progress.finished(row.thinking_tokens + row.answer_tokens, failed=row.error is not None)

        asyncio.run(measure(config, missing, engines, recounts, keep))


def _plain(config: EvalConfig) -> set[str]:
    """Labels of the models whose arms force nothing."""
    return {m.label for m in config.models if not any(arm.forces for arm in config.arms_of(m))}


def _rows(tasks: list[Task], journals: Mapping[JournalKey, Journal]) -> list[Evaluation]:
    """All rows, by benchmark, model and arm in the config's order, then by question, repetition and sample."""
    order = {key: number for number, key in enumerate(journals)}
    tasks = sorted(tasks, key=lambda task: (order[task.key], task.question.id, task.repeat, task.sample))
    return [journals[task.key].rows[task.id] for task in tasks]


def _timing(row: Evaluation, journal: Journal) -> Timing:
    seconds = journal.seconds.get(row.id)
    return Timing(id=row.id, benchmark=row.benchmark, model=row.model, arm=row.arm, seconds=seconds)


def _account_for_failures(config: EvalConfig, rows: list[Evaluation]) -> None:
    failed = [row for row in rows if row.error is not None]
    if not failed:
        return
    share, first = len(failed) / len(rows), failed[0]
    message = (
        f"{len(failed)} of {len(rows)} requests failed for good, for example {first.id} of {first.model!r} "
        f"with {first.arm!r}: {first.error}"
    )
    if share > config.max_failed_share:
        raise RunError(
            f"{config.output}: {message}. The others are kept: run the same command again to ask for the failed ones, "
            f"or allow a share of failures (max_failed_share, now {config.max_failed_share:g})"
        )
    log.warning("eval: %s; they count as wrong", message)


def _figures(config: EvalConfig, rows: list[Evaluation]) -> dict[str, dict[str, float]]:
    """What the manifest says about each arm; its warnings are logged, too."""
    figures: dict[str, dict[str, float]] = {}
    results = []
    names = list(dict.fromkeys(row.benchmark for row in rows))
    for benchmark, model in itertools.product(names, config.models):
        about = f"{benchmark}: " if len(names) > 1 else ""
        for arm in config.arms_of(model):
            key = (benchmark, model.label, arm.name)
            own = [row for row in rows if journal_key(row) == key]
            result = ArmResult(
                model.label, arm, own, config.seed, raw_markers((row.answer for row in own), model.thinking_format)
            )
            results.append(result)
            if not result.answered:
                continue
            for warning in result.warnings:
                log.warning("eval: %s%s", about, warning)
            figures[f"{about}{model.label} {arm.name}"] = _figures_of(result)
    log.info("eval: %s", account(results))
    return figures


def _figures_of(result: ArmResult) -> dict[str, float]:
    answered = len(result.answered)
    return {
        "correct": result.verdicts["correct"],
        "answered": answered,
        "unparsable": result.unparsable,
        "undecided": result.undecided,
        "thinking_tokens": round(result.thinking_tokens.value, 2),
        "answer_tokens": round(result.answer_tokens.value, 2),
        "calls": round(result.calls.value, 2),
        "uncounted_calls": result.uncounted,
        "answers_cut": result.cut,
        "raw_markers": result.raw_markers,
        "outside_limits": answered - result.obeying,
    }


evaluate = Stage(
    name="eval",
    config=EvalConfig,
    plan=plan,
    inputs=inputs,
    work=work,
    afterwards=clear_journals,
    results=(RESULTS,),
)
"""The stage. Its run folder gets `evaluations.parquet` (Evaluation rows by benchmark, model, arm, question, repetition
and sample), `timings.parquet` (how long each of them took) and `questions.parquet`."""
