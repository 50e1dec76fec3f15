"""A few of a run's questions, asked for real, and what the whole run will take by them.

The answers go into the run's own ledger, in its run folder: the run finds them there, and they are not paid twice.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Mapping, Sequence

from s1ray.errors import InputError, UnreachableError
from s1ray.generation.lengths import length_counter
from s1ray.grading import grade_by, kind_of
from s1ray.grading.interval import wilson_interval
from s1ray.manifests import RunError
from s1ray.schemas import MANIFEST
from s1ray.teachers.asks import Asks
from s1ray.teachers.collect import collect
from s1ray.teachers.ledger import Answer, read_answers
from s1ray.traces.config import TracesConfig
from s1ray.traces.estimate import rounded, run_line
from s1ray.traces.pipeline import read_questions, traces
from s1ray.traces.rounds import Collection

QUESTIONS = 10
"""That are asked where nothing else is said."""


def spread(count: int, total: int) -> list[int]:
    """So many places of a row of `total`, at equal distances; all of them where there are no more."""
    count = min(count, total)
    return [(2 * place + 1) * total // (2 * count) for place in range(count)]


def probe(config: TracesConfig, questions: int = QUESTIONS) -> list[str]:
    """Ask for some traces of a run; what they say about the whole, one line each.

    Args:
        config: the stage's.
        questions: so many, at equal distances among the run's.

    Raises:
        S1rayError: the run cannot be started, or nothing was answered.
    """
    from s1ray.cluster import check_node_labels, connected

    traces.check(config)
    with traces.open(config) as run:
        if run.skipped:
            raise RunError(f"{run.path}: the run is complete, and its {MANIFEST} has the bill; nothing is asked")
        run.unfinished = True
        collection = Collection(read_questions(config), config, run.path)
        samples, ledger = collection.samples(), collection.responses
        asks = Asks(collection.questions, [samples[place] for place in spread(questions, len(samples))])
        ledger.read()
        with contextlib.ExitStack() as stack:
            if not ledger.answers.keys() >= set(asks.ids()):
                stack.enter_context(connected())
                check_node_labels(config.teacher, config.teacher.config_field)
            # How many fail is a result here.
            collect(
                asks, config.teacher.at_once(), ledger, seed=config.seed, max_failed=len(asks.samples), what="probe"
            )
    rows = zip(asks.ids(), (row for row, _ in asks.samples), strict=True)
    answered = [(ask, collection.questions.slice(row, 1).to_pylist()[0]) for ask, row in rows if ask in ledger.answers]
    failed = [ledger.failures[ask] for ask in asks.ids() if ask not in ledger.answers]
    if not answered:
        raise UnreachableError(f"probe: none of {len(failed)} requests was answered; the first: {failed[0]}")
    answers = read_answers(ledger.folder, [ledger.answers[ask] for ask, _ in answered])
    lines = [f"{len(answers)} of {len(asks.samples)} requests answered, of {len(samples):,} that the run makes"]
    lines += [f"the first failure: {failed[0]}"] if failed else []
    lines += describe([row for _, row in answered], answers, config)
    line = run_line(answers, config.teacher, len(samples), _lengths(answers, config))
    lines += [f"the whole run, {line}"] if line is not None else []
    return [*lines, "the answers are kept: the run of this config finds them in its folder and does not ask again"]


def describe(rows: Sequence[Mapping[str, str | None]], answers: Sequence[Answer], config: TracesConfig) -> list[str]:
    """What some answers are like, one line each.

    Args:
        rows: their questions, with `id`, `answer` and `metadata`.
        answers: one at least.
        config: the stage's.
    """
    counted = [answer.usage for answer in answers if answer.usage is not None]
    if counted:
        prompts, written = [usage.prompt_tokens for usage in counted], [usage.completion_tokens for usage in counted]
        lines = [f"tokens a trace, as the provider counts: prompt {_range(prompts)}, generated {_range(written)}"]
    else:
        lines = [f"tokens a trace, as the student counts: generated {_range(_lengths(answers, config))}"]
    seconds = [answer.seconds for answer in answers if answer.seconds is not None]
    lines += [f"seconds a request: {_range(seconds)}"] if seconds else []
    lines.append(f"cut by the token limit: {_share([a.finish_reason == 'length' for a in answers])}")
    verdicts = list[bool]()
    for row, answer in zip(rows, answers, strict=True):
        if (gold := row["answer"]) and gold.strip():
            with contextlib.suppress(InputError):  # nothing can be graded against this reference
                kind, where = kind_of(row["metadata"]), f"question {row['id']!r}"
                correct = grade_by(config.grader, gold, answer.attempt, kind=kind, where=where).correct
                verdicts += [] if correct is None else [correct]
    return [*lines, f"correct: {_share(verdicts)}" if verdicts else "correct: none can be graded"]


def _lengths(answers: Sequence[Answer], config: TracesConfig) -> list[int]:
    """In the student's tokens."""
    count = length_counter(config.tokenizer)
    thinking, attempts = (count([getattr(answer, part) for answer in answers]) for part in ("thinking", "attempt"))
    return [sum(both) for both in zip(thinking, attempts, strict=True)]


def _range(values: Sequence[float]) -> str:
    """The mean, the least and the most."""
    return f"{rounded(statistics.fmean(values))} ({rounded(min(values))} to {rounded(max(values))})"


def _share(hits: Sequence[bool]) -> str:
    low, high = wilson_interval(sum(hits), len(hits))
    return f"{sum(hits)} of {len(hits)} ({low:.0%} to {high:.0%} of all)"
