"""The eval stage: every model with every arm on every question, over HTTP, resumable to the single response.

    run = evaluate(load_config(EvalConfig, find_recipe("miniature", "eval")))

Each finished row is appended to a journal at once, so a killed run has lost only what was in flight. Started again with
the same config, the run asks for what is missing and for what had failed. Rows carry no clock and no order of arrival,
so the Parquet file at the end does not depend on how many attempts there were.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from s1ray.benchmarks import Benchmark
from s1ray.config import ConfigError
from s1ray.errors import S1rayError
from s1ray.evaluation.arm_result import account, warnings_of
from s1ray.evaluation.benchmarks import Asked, KeptQuestion, kept, load_benchmarks
from s1ray.evaluation.config import Endpoint, EvalConfig
from s1ray.evaluation.count import ArmCount
from s1ray.evaluation.endpoint import api_key, check_endpoint
from s1ray.evaluation.journal import Journal
from s1ray.evaluation.loading import QUESTIONS, RESULTS, TIMINGS
from s1ray.evaluation.measure import Engines, engines_over_http, measure
from s1ray.evaluation.progress import Progress
from s1ray.evaluation.recount import Recount
from s1ray.evaluation.strategies.rebase import Rebase
from s1ray.evaluation.strategies.rewards import try_rewards
from s1ray.evaluation.tasks import Cell, JournalKey, Task, all_cells, bound, graded_row, journal_key, missing_tasks
from s1ray.evaluation.traffic import Record, Traffic
from s1ray.evaluation.wired import check_requests, try_arms
from s1ray.evaluation.writing import write_results
from s1ray.logs import heartbeat
from s1ray.manifests import RunError
from s1ray.models import check_model
from s1ray.reading.files import input_paths
from s1ray.runs import Run
from s1ray.schemas import Evaluation, read_table, to_table, write_table
from s1ray.stages import Stage
from s1ray.storage import Location, exists, remove

log = logging.getLogger("s1ray")

JOURNALS = "journals"
MOST_RESPONSES = 10_000_000
"""Of one arm on one benchmark; each has a place in memory while the run lasts."""
CALLS = "calls.json"
"""Beside the journals: what the calls so far took."""


def plan(config: EvalConfig) -> list[str]:
    """What the run would do; reads the questions, and contacts nothing but the Hub where they are there.

    Raises:
        S1rayError: the questions cannot be used, a folder of weights is not there, or the API key is not set.
    """
    for endpoint in config.all_endpoints():
        api_key(endpoint)
    check_requests(config)
    for index, model in enumerate(config.models):
        if model.weights is not None and not exists(model.weights):
            raise ConfigError(f"models.{index}.weights: {model.weights!r}: no such folder; train the model first")
    for index, arm in enumerate(config.arms):
        if isinstance(arm, Rebase):
            check_model(arm.weights, f"arms.{index}.weights")
    benchmarks = load_benchmarks(config.all_benchmarks(), config.limit, config.grader)
    _check_size(config, max(len(each.questions) for each in benchmarks))
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
    for endpoint in config.all_endpoints():
        here = [model.label for model in config.models if config.endpoint_of(model) is endpoint]
        whom = f" ({', '.join(here)})" if config.endpoints else ""
        lines.append(f"{endpoint.concurrency} requests in flight at {', '.join(endpoint.addresses)}{whom}")
    return lines


def _check_size(config: EvalConfig, questions: int) -> None:
    """Refuse more responses than a process can keep the places of.

    Raises:
        ConfigError: there are more.
    """
    samples, repeats = config.sampling.samples, config.repeats
    if questions * samples * repeats > MOST_RESPONSES:
        raise ConfigError(
            f"sampling.samples, repeats: {questions:,} questions, {samples:,} samples and {repeats:,} repetitions are "
            f"{questions * samples * repeats:,} responses of one arm; at most {MOST_RESPONSES:,} fit into a run"
        )


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
        RunError: more requests failed than the config allows, or the grader failed.
        UnreachableError: the endpoint does not answer, or stopped answering.
        ConfigError: the endpoint does not serve a model, or not as the config says.
    """
    benchmarks = load_benchmarks(config.all_benchmarks(), config.limit, config.grader)
    questions = kept(benchmarks)
    _settle_questions(run.path / QUESTIONS, questions)
    cells = all_cells(config, benchmarks)
    record = Record(run.path / JOURNALS / CALLS, map(Traffic, config.all_endpoints()))
    progress = Progress(cells, lambda: record.spent)
    with ExitStack() as open_journals:
        paths = _journal_paths(config, benchmarks, run.path)
        journals = {
            cell.key: open_journals.enter_context(Journal(paths[cell.key], cell.size, cell.place, progress.found))
            for cell in cells
        }
        _grade_kept(config, cells, journals, progress)
        _get_missing(config, cells, journals, engines, progress, record)
        _refuse_ungraded(config, cells, journals)
        failed = _account_for_failures(config, cells, journals)
        counts = write_results(run.path / RESULTS, run.path / TIMINGS, cells, journals)
    run.rows = {"questions": len(questions), "evaluations": sum(cell.size for cell in cells)}
    run.drops = {"failed": failed}
    run.figures = _figures(cells, counts) | _calls(record)


def clear_journals(config: EvalConfig, run: Run) -> None:
    """Delete the journals of a complete run: their rows are in its results."""
    remove(run.path / JOURNALS)


def _origin(benchmark: Benchmark) -> str:
    place = benchmark.path or benchmark.hub
    return benchmark.name if place is None else f"{benchmark.name} ({place})"


def _settle_questions(path: Location, questions: list[KeptQuestion]) -> None:
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


def _journal_paths(config: EvalConfig, benchmarks: list[Asked], folder: Location) -> dict[JournalKey, Location]:
    return {
        (each.benchmark.name, model.label, arm.name): folder / JOURNALS / f"benchmark-{b}-model-{i}-arm-{j}.jsonl"
        for b, each in enumerate(benchmarks)
        for i, model in enumerate(config.models)
        for j, arm in enumerate(config.arms_of(model))
    }


def _grade_kept(
    config: EvalConfig, cells: list[Cell], journals: Mapping[JournalKey, Journal], progress: Progress
) -> None:
    """Grade what an earlier start got and did not grade; what the grader fails at again stays as it is."""
    for cell in cells:
        journal = journals[cell.key]
        for place in journal.ungraded:
            row, seconds = journal.timed(place)
            try:
                graded = graded_row(row, cell.question(place), config.grader)
            except S1rayError as error:
                journal.add(dataclasses.replace(row, graded_by=f"not graded: {error}"), seconds)
            else:
                journal.add(graded, seconds)
                progress.found(graded)


def _get_missing(
    config: EvalConfig,
    cells: list[Cell],
    journals: Mapping[JournalKey, Journal],
    engines: Engines | None,
    progress: Progress,
    record: Record,
) -> None:
    total, missing = sum(cell.size for cell in cells), sum(journal.missing for journal in journals.values())
    if not missing:
        return
    if missing < total:
        log.info("eval: %d of %d responses are there already", total - missing, total)
    where = ", ".join(address for endpoint in config.all_endpoints() for address in endpoint.addresses)
    with heartbeat(lambda seconds: f"eval: trying the models at {where} ({seconds:.0f} s)"):
        if engines is None:
            _try_endpoints(config)
            traffics = {each.endpoint.base_url: each for each in record.traffics}
            engines = engines_over_http(config, lambda endpoint: traffics[endpoint.base_url])
        recounts = {
            model.label: Recount.of_model(model.weights, model.thinking_format)
            for model in config.models
            if model.weights is not None
        }

    def tasks(endpoint: Endpoint) -> Iterator[Task]:
        here = [cell for cell in cells if config.endpoint_of(cell.model) is endpoint]
        return missing_tasks(here, lambda cell, place: journals[cell.key].is_missing(place))

    def keep(row: Evaluation, seconds: float) -> None:
        journals[journal_key(row)].add(row, seconds)
        progress.finished(row)
        record.keep()

    with progress:
        try:
            asyncio.run(measure(config, tasks, engines, recounts, keep))
        finally:
            record.keep(now=True)


def _try_endpoints(config: EvalConfig) -> None:
    """See whether every endpoint serves its models, and as the arms want it.

    Raises:
        UnreachableError: one does not answer.
        ConfigError: it does not serve a model, or not as the config says.
    """
    for endpoint in config.all_endpoints():
        models = [model for model in config.models if config.endpoint_of(model) is endpoint]
        try_rewards(config.arms_of(model) for model in models)
        if endpoint.api == "openai":
            check_endpoint(endpoint, models, plain=_plain(config), sampling=config.sampling)
        else:
            for model in models:
                try_arms(endpoint, api_key(endpoint), model, config.arms_of(model), config.sampling)


def _plain(config: EvalConfig) -> set[str]:
    """Labels of the models whose arms force nothing."""
    return {m.label for m in config.models if not any(arm.forces for arm in config.arms_of(m))}


def _refuse_ungraded(config: EvalConfig, cells: list[Cell], journals: Mapping[JournalKey, Journal]) -> None:
    """End a run whose grader failed.

    Raises:
        RunError: answers have no verdict.
    """
    ungraded = {cell.key: places for cell in cells if (places := journals[cell.key].ungraded)}
    if not ungraded:
        return
    count, total = sum(map(len, ungraded.values())), sum(cell.size for cell in cells)
    key, places = next(iter(ungraded.items()))
    first = journals[key].row(places[0])
    raise RunError(
        f"{config.output}: {count} of {total} answers could not be graded, for example {first.id} of {first.model!r} "
        f"with {first.arm!r}: {first.graded_by.removeprefix('not graded: ')}. They are kept: mend the grader and run "
        "the same command again, which grades them and asks for none of them"
    )


def _account_for_failures(config: EvalConfig, cells: list[Cell], journals: Mapping[JournalKey, Journal]) -> int:
    """How many requests failed for good.

    Raises:
        RunError: more than the config allows.
    """
    failed = {cell.key: journals[cell.key].failed for cell in cells}
    count, total = sum(map(len, failed.values())), sum(cell.size for cell in cells)
    if not count:
        return 0
    key, places = next((key, places) for key, places in failed.items() if places)
    first = journals[key].row(places[0])
    message = (
        f"{count} of {total} requests failed for good, for example {first.id} of {first.model!r} "
        f"with {first.arm!r}: {first.error}"
    )
    if count / total > config.max_failed_share:
        raise RunError(
            f"{config.output}: {message}. The others are kept: run the same command again to ask for the failed ones, "
            f"or allow a share of failures (max_failed_share, now {config.max_failed_share:g})"
        )
    log.warning("eval: %s; they count as wrong", message)
    return count


def _figures(cells: list[Cell], counts: list[ArmCount]) -> dict[str, dict[str, Any]]:
    """What the manifest says about each arm; its warnings are logged, too."""
    figures = {}
    several = len({cell.benchmark.name for cell in cells}) > 1
    for cell, count in zip(cells, counts, strict=True):
        if not count.answered:
            continue
        about = f"{cell.benchmark.name}: " if several else ""
        for warning in warnings_of(count):
            log.warning("eval: %s%s", about, warning)
        figures[f"{about}{count.model} {count.arm}"] = count.figures()
    log.info("eval: %s", account(counts))
    return figures


def _calls(record: Record) -> dict[str, dict[str, Any]]:
    """What the manifest says about the calls to each endpoint; what was lost is logged, too."""
    for traffic in record.traffics:
        if (line := traffic.line()) is not None:
            log.warning("eval: %s", line)
    told = {each.endpoint.base_url: each.figures() for each in record.traffics if each.tally.sent}
    return {"calls": told} if told else {}


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
