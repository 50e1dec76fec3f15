"""The trace stage, from questions to `traces.parquet`.

    questions -> teacher (Ray Data, actors) -> responses/ -> counting, grading, keeping (Ray Data) -> traces.parquet,
          ^         judge (the same) -> judgements/               |                                   dropped.parquet
          +------------------ asked again <-----------------------+

The ledgers in `responses/` and `judgements/` keep every response as it comes and stay, so a run that was killed asks
only for what is missing, and nothing is paid for twice. Texts go from the ledgers through workers to the files; the
driver holds a piece at a time. Both outputs are sorted by question and sample.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from s1ray.errors import InputError
from s1ray.generation.lengths import length_counter
from s1ray.grading import check_references
from s1ray.probe import check_seen
from s1ray.ray_data import on_nodes
from s1ray.runs import Run
from s1ray.schemas import Question, read_table
from s1ray.stages import Stage
from s1ray.storage import location
from s1ray.teachers.asks import ASKED
from s1ray.teachers.base import Teacher
from s1ray.teachers.bill import bill
from s1ray.teachers.costs import costs_at_most
from s1ray.teachers.ledger import Ledger
from s1ray.traces.config import TracesConfig
from s1ray.traces.estimate import sampled_line
from s1ray.traces.outputs import TRACES, Counts, write_traces
from s1ray.traces.rounds import Collection
from s1ray.traces.takeover import check_takeover, kept_answers, take_over

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("s1ray")

UNREAD = ("solution", "length", "solved_by", "pass_rates", "selected_by")
"""Columns of the questions that nothing here needs."""


def plan(config: TracesConfig) -> list[str]:
    """What a run would do and cost; reads the questions and starts nothing.

    Raises:
        S1rayError: the config, the questions, the teacher, the judge or the tokenizer cannot be used.
    """
    config.teacher.check()
    if config.judge is not None:
        config.judge.check()
    length_counter(config.tokenizer)
    questions = read_questions(config)
    lines = [f"{len(questions):,} questions, {config.samples} trace(s) each, by {config.teacher.label}"]
    if config.max_samples is not None:
        lines.append(f"questions without a correct trace are asked up to {config.max_samples} times")
    return [
        *lines,
        *_cost(questions, config),
        *sampled_line(config, inputs(config), len(questions) * config.samples),
        *_judge_cost(questions, config),
        *_taken(questions, config),
        *(f"warning: {name} has no effect, as {why}" for name, why in _without_effect(questions, config)),
        f"output: {location(config.output) / TRACES}",
    ]


def _without_effect(questions: pa.Table, config: TracesConfig) -> Iterator[tuple[str, str]]:
    """Options that change nothing, and why."""
    with_reference = sum(bool(answer and answer.strip()) for answer in questions.column("answer").to_pylist())
    if config.per_question != "all" and (config.max_samples or config.samples) == 1:
        yield "per_question", "a question has one trace"
    if config.majority_answers and with_reference == len(questions):
        yield "majority_answers", "every question has a reference answer"
    if not with_reference:
        for name, value in (("max_samples", config.max_samples), ("judge", config.judge)):
            if value is not None:
                yield name, "no question has a reference answer"


def _cost(questions: pa.Table, config: TracesConfig) -> list[str]:
    asks, texts = _asks_at_most(questions, config), questions.column("question").to_pylist()
    prompts = sum(config.teacher.prompt_tokens_at_most(text) * times for text, times in zip(texts, asks, strict=True))
    return costs_at_most(config.teacher, sum(asks), prompts)


def _taken(questions: pa.Table, config: TracesConfig) -> list[str]:
    texts = zip(*(questions.column(name).to_pylist() for name in ("id", "question")), strict=True)
    line = check_takeover(config, texts)
    return [] if line is None else [line]


def _judge_cost(questions: pa.Table, config: TracesConfig) -> list[str]:
    if config.judge is None:
        return []
    references = questions.column("answer").to_pylist()
    asks = _asks_at_most(questions, config)
    attempts = sum(times for times, answer in zip(asks, references, strict=True) if answer and answer.strip())
    line = f"judge: {config.judge.label}, at most 2 calls for each of {attempts:,} attempts"
    if (tokens := config.judge.max_response_tokens) is not None:
        line += f", {2 * attempts * tokens:,} tokens generated"
        if (prices := config.judge.price_list) is not None:
            money = prices.money_at_most(0, 2 * attempts * tokens)
            line += f" for at most {money:,.2f} {prices.currency}, and its prompts, which hold the attempts"
    return [line]


def _asks_at_most(questions: pa.Table, config: TracesConfig) -> list[int]:
    """How often each question can be asked."""
    most = config.max_samples or config.samples
    return [most if answer and answer.strip() else config.samples for answer in questions.column("answer").to_pylist()]


def inputs(config: TracesConfig) -> dict[str, str]:
    """The questions, the tokenizer where it is local, and what the teacher and the judge read."""
    local = {"tokenizer": config.tokenizer} if location(config.tokenizer).is_dir() else {}
    judge = {} if config.judge is None else {f"judge {name}": path for name, path in config.judge.inputs().items()}
    return {"questions": config.questions} | local | config.teacher.inputs() | judge


def work(config: TracesConfig, run: Run) -> None:
    """Collect the traces, in an open run folder.

    Raises:
        RunError: no trace is left, or a worker failed.
        UnreachableError: too many requests failed.
    """
    from s1ray.cluster import check_node_labels, connected

    taken = take_over(config, run.path)
    collection = Collection(read_questions(config), config, run.path)
    with connected(), on_nodes(config.node_labels):
        check_node_labels(config)
        check_seen(run.path)
        collection.collect()
        log.info("traces: counting tokens, grading and keeping")
        # Closed, it stops the workers; left to the garbage collector, they would go on after a failure.
        with contextlib.closing(collection.finished()) as finished:
            counts = write_traces(finished, run.path)
    run.drops = dict(sorted(counts.drops.items()))
    run.rows = {"in": len(collection.questions), "asked": sum(collection.asked), "out": counts.kept}
    figures = counts.figures() | _options_figures(collection, counts)
    run.figures = figures | {"bill": _bill(collection.responses, config.teacher)}
    if taken:
        run.figures["taken_over"] = taken
    if config.judge is not None:
        run.figures["judge_bill"] = _bill(collection.judgements, config.judge)
    log.info("traces: %s", _summary(counts, run.rows["asked"], run.figures["bill"]))


def _summary(counts: Counts, asked: int, spent: Mapping[str, Any]) -> str:
    """The outcome in a line."""
    figures = counts.figures()
    parts = [f"{counts.kept:,} of {asked:,} kept", f"{figures['mean_thinking_tokens']:,.0f} thinking tokens on average"]
    if figures["graded"]:
        parts.append(f"{100 * figures['correct_share']:.1f} % of {figures['graded']:,} graded ones correct")
    if (money := spent.get("money")) is not None:
        parts.append(f"{money['counted']:,.2f} {money['currency']} counted")
    parts += [f"dropped: {number:,} {reason}" for reason, number in sorted(counts.drops.items())]
    return "; ".join(parts)


def _options_figures(collection: Collection, counts: Counts) -> dict[str, Any]:
    """Numbers on what the config adds: further rounds, majority answers, the judge."""
    config, figures = collection.config, dict[str, Any]()
    if config.max_samples is not None:
        again = [row for row, times in enumerate(collection.asked) if times > config.samples]
        solved = sum(row in collection.usable for row in again)
        figures["asked_again"] = {"questions": len(again), "correct_in_the_end": solved}
    if config.majority_answers:
        figures["majority_answers"] = counts.majority_answers()
    if config.judge is not None:
        figures["judge"] = {"attempts": collection.judged(), "decided": counts.judged}
    return figures


def _bill(ledger: Ledger, teacher: Teacher) -> dict[str, Any]:
    return bill(ledger.tally(closed=True), teacher.price_list, teacher.max_response_tokens)


def read_questions(config: TracesConfig) -> pa.Table:
    """The questions, as far as they are asked and graded with, sorted by id.

    Raises:
        S1rayError: they cannot be used.
    """
    questions = read_table(config.questions, Question, without=UNREAD).select(["id", *ASKED]).sort_by("id")
    ids = Counter(questions.column("id").to_pylist())
    repeated = [question for question, times in ids.items() if times > 1]
    if repeated:
        raise InputError(
            f"{config.questions}: {len(repeated)} ids appear more than once, {repeated[0]!r} for one; "
            "remove duplicates first"
        )
    if not len(questions):
        raise InputError(f"{config.questions}: holds no question")
    texts = zip(*(questions.column(name).to_pylist() for name in ("id", "question")), strict=True)
    if (blank := next((question for question, text in texts if not text.strip()), None)) is not None:
        raise InputError(f"{config.questions}: the question with id {blank!r} is empty; remove it")
    references = (questions.column(name).to_pylist() for name in ("id", "answer", "metadata"))
    check_references(zip(*references, strict=True), config.questions, config.grader)
    return questions.slice(0, config.limit)


traces = Stage(
    name="traces", config=TracesConfig, plan=plan, inputs=inputs, work=work, results=(TRACES,), kept=kept_answers
)
"""The stage. Its run folder gets `traces.parquet` (Trace rows, sorted by question and sample), `dropped.parquet` (the
others, with `reason`), `responses/` and, with a judge, `judgements/` (the ledgers)."""
