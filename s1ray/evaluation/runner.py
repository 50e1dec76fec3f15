"""Runs a benchmark: every model with every arm on every question, over HTTP, resumable to the single response.

    run = evaluate(load_config(EvalConfig, find_recipe("miniature", "eval")))

The driver is one asyncio loop: it sends requests, grades what comes back and appends each finished row to a journal at
once. That is enough to keep a server busy (the work is the server's), so no cluster is needed on this side. Models and
arms share one queue, so that the servers stay full to the end; the largest budgets go first, because a run should not
end with waiting for a few long responses.

A killed run has lost only what was in flight. Started again with the same config, it asks for what is missing and for
what had failed. Rows carry no clock and no order of arrival, so the Parquet file at the end does not depend on how many
attempts there were.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from s1ray.errors import UnreachableError
from s1ray.evaluation.benchmarks import MINIATURE, load_questions
from s1ray.evaluation.config import EvalConfig, ServedModel
from s1ray.evaluation.endpoint import api_key, check_endpoint
from s1ray.evaluation.journal import Journal
from s1ray.evaluation.metrics import within
from s1ray.evaluation.progress import Progress
from s1ray.evaluation.recount import Recount
from s1ray.evaluation.results import QUESTIONS, RESULTS
from s1ray.evaluation.strategies.budget_forcing import BudgetForcing
from s1ray.evaluation.tasks import Task, all_tasks, evaluation_row, failure
from s1ray.generation import GenerationError, Generator
from s1ray.generation.http import HTTPGenerator
from s1ray.generation.segmented import SegmentedGenerator
from s1ray.runs import Run, RunError
from s1ray.schemas import Evaluation, Question, read_table, to_table, write_table
from s1ray.stages import Stage

log = logging.getLogger("s1ray")

JOURNALS = "journals"
FAILURES_IN_A_ROW = 20
"""So many failed requests in a row, beyond those in flight, and the server is taken for gone."""


Engines = Callable[[ServedModel], Generator]
"""Makes the generator that answers for a model; called inside the event loop."""


def work(config: EvalConfig, run: Run, *, engines: Engines | None = None) -> None:
    """Measure what is missing, and write the results.

    Args:
        config: what to measure.
        run: the open run folder.
        engines: makes the generator that answers for a model. None: the config's endpoint answers.

    Raises:
        RunError: more requests failed than the config allows.
        UnreachableError: the endpoint does not answer, does not serve a model, or is gone.
    """
    questions = load_questions(config.benchmark, config.limit)
    _settle_questions(run.path / QUESTIONS, questions)
    tasks = all_tasks(config, questions)
    with ExitStack() as open_journals:
        paths = _journal_paths(config, run.path)
        journals = {key: open_journals.enter_context(Journal(path)) for key, path in paths.items()}
        _get_missing(config, tasks, journals, engines)
        rows = _rows(config, tasks, journals)
    _account_for_failures(config, rows)
    write_table(to_table(rows, Evaluation), run.path / RESULTS)
    run.rows = {"questions": len(questions), "evaluations": len(rows)}
    run.drops = {"failed": sum(row["error"] is not None for row in rows)}
    run.figures = _figures(config, rows)


def clear_journals(config: EvalConfig, run: Run) -> None:
    """Delete the journals of a complete run: their rows are in its results."""
    shutil.rmtree(run.path / JOURNALS, ignore_errors=True)


def plan(config: EvalConfig) -> list[str]:
    """What the run would do, for a dry run: reads the questions, contacts nothing.

    Raises:
        FileNotFoundError, ValueError: the questions cannot be used.
    """
    questions = load_questions(config.benchmark, config.limit)
    responses = len(questions) * config.sampling.samples
    lines = [f"{len(questions)} questions of {config.benchmark}, {config.sampling.samples} sample(s) each"]
    total, thinking, bounded = 0, 0, True
    for model in config.models:
        arms = config.arms_of(model)
        lines.append(f"{model.label} (served as {model.name}): {', '.join(arm.name for arm in arms)}")
        total += responses * len(arms)
        thinking += responses * sum(arm.max_tokens or 0 for arm in arms)
        bounded = bounded and all(arm.max_tokens is not None for arm in arms)
    most = f"at most {thinking:,} thinking tokens" if bounded else "thinking tokens up to the context"
    lines.append(f"{total:,} responses, {most}, at most {total * config.sampling.answer_tokens:,} answer tokens")
    lines.append(f"{config.endpoint.concurrency} requests in flight at {config.endpoint.base_url}")
    return lines


def inputs(config: EvalConfig) -> dict[str, str]:
    """The benchmark's file, and the weights of the models that say where they are."""
    files = {} if config.benchmark == MINIATURE else {"benchmark": config.benchmark}
    return files | {f"weights of {m.label}": weights for m in config.models if (weights := _weights(m)) is not None}


def _weights(model: ServedModel) -> str | None:
    return model.weights


def _settle_questions(path: Path, questions: list[Question]) -> None:
    """Keep the questions beside the results; refuse to go on with others than the run began with."""
    table = to_table(questions, Question)
    if path.exists():
        if not read_table(path, Question).equals(table):
            raise RunError(
                f"{path}: the run began with other questions than the benchmark gives now; "
                "choose another `output`, or pass --force to start again"
            )
        return
    write_table(table, path)


def _journal_paths(config: EvalConfig, folder: Path) -> dict[tuple[str, str], Path]:
    return {
        (model.label, arm.name): folder / JOURNALS / f"model-{i}-arm-{j}.jsonl"
        for i, model in enumerate(config.models)
        for j, arm in enumerate(config.arms_of(model))
    }


def _get_missing(
    config: EvalConfig,
    tasks: list[Task],
    journals: Mapping[tuple[str, str], Journal],
    engines: Engines | None,
) -> None:
    def journal_of(task: Task) -> Journal:
        return journals[(task.model.label, task.arm.name)]

    missing = []
    for task in tasks:
        row = journal_of(task).rows.get(task.id)
        if row is None or row["error"] is not None:
            missing.append(task)
    if not missing:
        return
    if len(missing) < len(tasks):
        log.info("eval: %d of %d responses are there already", len(tasks) - len(missing), len(tasks))
    if engines is None:
        check_endpoint(config.endpoint, config.models)
        engines = _over_http(config)
    recounts = {
        model.label: Recount.of_model(weights, model.thinking_format)
        for model in config.models
        if (weights := _weights(model)) is not None
    }
    with Progress(len(tasks), len(tasks) - len(missing)) as progress:

        def keep(task: Task, row: dict[str, Any]) -> None:
            journal_of(task).add(row)
            progress.finished(row["thinking_tokens"] + row["answer_tokens"], failed=row["error"] is not None)

        asyncio.run(_measure(config, missing, engines, recounts, keep))


def _over_http(config: EvalConfig) -> Engines:
    endpoint, key = config.endpoint, api_key(config.endpoint)

    def engine(model: ServedModel) -> Generator:
        if model.driver == "segmented":
            assert model.weights is not None
            return SegmentedGenerator(
                endpoint.base_url,
                model.name,
                weights=model.weights,
                thinking_format=model.thinking_format,
                api_key=key,
                concurrency=endpoint.concurrency,
                timeout=endpoint.timeout,
                attempts=endpoint.attempts,
            )
        return HTTPGenerator(
            endpoint.base_url,
            model.name,
            api_key=key,
            concurrency=endpoint.concurrency,
            timeout=endpoint.timeout,
            attempts=endpoint.attempts,
            extra_body={"return_token_ids": True} if model.weights is not None else None,
        )

    return engine


def _rows(config: EvalConfig, tasks: list[Task], journals: Mapping[tuple[str, str], Journal]) -> list[dict[str, Any]]:
    """All rows, by model and arm in the config's order, then by question and sample."""
    order = {key: number for number, key in enumerate(journals)}
    tasks = sorted(tasks, key=lambda t: (order[(t.model.label, t.arm.name)], t.question.id, t.sample))
    return [journals[(task.model.label, task.arm.name)].rows[task.id] for task in tasks]


def _account_for_failures(config: EvalConfig, rows: list[dict[str, Any]]) -> None:
    failed = [row for row in rows if row["error"] is not None]
    if not failed:
        return
    share, first = len(failed) / len(rows), failed[0]
    message = (
        f"{len(failed)} of {len(rows)} requests failed for good, for example {first['id']} of {first['model']!r} "
        f"with {first['arm']!r}: {first['error']}"
    )
    if share > config.max_failed_share:
        raise RunError(
            f"{config.output}: {message}. The others are kept: run the same command again to ask for the failed ones, "
            f"or allow a share of failures (max_failed_share, now {config.max_failed_share:g})"
        )
    log.warning("eval: %s; they count as wrong", message)


def _figures(config: EvalConfig, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the manifest says about each arm; thinking beyond the limits is told in the log, too."""
    arms = {(model.label, arm.name): arm for model in config.models for arm in config.arms_of(model)}
    figures = {}
    for key, arm in arms.items():
        answered = [row for row in rows if (row["model"], row["arm"]) == key and row["error"] is None]
        if not answered:
            continue
        outside = sum(not within(row["thinking_tokens"], arm.min_tokens, arm.max_tokens) for row in answered)
        if outside:
            log.warning("eval: %s with %s: %d of %d responses think outside their limits", *key, outside, len(answered))
        figures[" ".join(key)] = {
            "correct": sum(row["correct"] for row in answered),
            "answered": len(answered),
            "thinking_tokens": round(sum(row["thinking_tokens"] for row in answered) / len(answered), 2),
            "outside_limits": outside,
        }
    return figures


async def _measure(
    config: EvalConfig,
    tasks: list[Task],
    engines: Engines,
    recounts: Mapping[str, Recount],
    keep: Callable[[Task, dict[str, Any]], None],
) -> None:
    """Get, grade and keep every response.

    Raises:
        UnreachableError: too many requests failed in a row.
    """
    queue = deque(tasks)
    failed_in_a_row = 0
    loop = asyncio.get_running_loop()
    generators = {model.label: engines(model) for model in config.models}

    async def work(grader: ThreadPoolExecutor) -> None:
        nonlocal failed_in_a_row
        while queue:
            task = queue.popleft()
            strategy = BudgetForcing(task.arm, config.sampling, config.seed)
            try:
                completion = await strategy(generators[task.model.label], task.question, task.sample)
            except GenerationError as error:
                failed_in_a_row += 1
                keep(task, failure(task, str(error)))
                if failed_in_a_row >= FAILURES_IN_A_ROW + config.endpoint.concurrency:
                    raise UnreachableError(
                        f"{failed_in_a_row} requests failed in a row, so the run was stopped. The last: {error}. "
                        "What was finished is kept: run the same command again to go on"
                    ) from None
                continue
            failed_in_a_row = 0
            # Algebra can take seconds; the requests in flight must not wait for it.
            recount = recounts.get(task.model.label)
            keep(task, await loop.run_in_executor(grader, evaluation_row, task, completion, recount))

    with ThreadPoolExecutor(1, thread_name_prefix="grader") as grader:
        workers = [asyncio.create_task(work(grader)) for _ in range(min(config.endpoint.concurrency, len(tasks)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            for generator in generators.values():
                await generator.close()


evaluate = Stage(name="eval", config=EvalConfig, plan=plan, inputs=inputs, work=work, afterwards=clear_journals)
"""The stage. Its run folder gets `evaluations.parquet` (Evaluation rows by model, arm, question and sample) and
`questions.parquet`."""
