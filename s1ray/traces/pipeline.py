"""The trace stage, from questions to `traces.parquet`.

    questions -> asks -> teacher (Ray Data, actors) -> responses/ -> counting and grading (Ray Data) -> traces.parquet,
    dropped.parquet

The ledger in `responses/` keeps every response as it comes and stays, so a run that was killed asks only for what is
missing, and nothing is paid for twice. Both outputs are sorted by id.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.errors import InputError
from s1ray.generation.lengths import length_counter
from s1ray.grading import check_references, find_grader, kind_of
from s1ray.runs import Run, RunError
from s1ray.schemas import Question, Trace, arrow_schema, read_table, write_table
from s1ray.shards import quiet_ray_data
from s1ray.stages import Stage
from s1ray.traces.bill import bill
from s1ray.traces.collect import ASKED, collect
from s1ray.traces.config import TracesConfig
from s1ray.traces.ledger import Answer, Ledger, Place, read_answers

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("s1ray")

TRACES = "traces.parquet"
DROPPED = "dropped.parquet"
RESPONSES = "responses"
"""Folder of the ledger."""
REFUSED = frozenset({"refusal", "content_filter"})
"""Finish reasons of responses that the teacher or its provider would not give."""
PIECE = 4096
"""Rows that are gathered at a time; with the longest traces, about 600 MB."""


def plan(config: TracesConfig) -> list[str]:
    """What a run would do and cost; reads the questions and starts nothing.

    Raises:
        S1rayError: the config, the questions, the teacher or the tokenizer cannot be used.
    """
    config.teacher.check()
    length_counter(config.tokenizer)
    asked = _questions(config)
    questions = len(asked)
    lines = [f"{questions:,} questions, {config.samples} trace(s) each, by {config.teacher.label}"]
    tokens = config.teacher.max_response_tokens
    if tokens is not None:
        lines.append(f"at most {questions * config.samples * tokens:,} tokens generated")
        if (prices := config.teacher.price_list) is not None:
            prompts = sum(map(config.teacher.prompt_tokens_at_most, asked.column("question").to_pylist()))
            money = prices.money(prompts * config.samples, 0, questions * config.samples * tokens)
            lines.append(f"at most {money:,.2f} {prices.currency}, and more for calls that have to be repeated")
    return [*lines, f"output: {Path(config.output) / TRACES}"]


def inputs(config: TracesConfig) -> dict[str, str]:
    """The questions, the tokenizer where it is local, and what the teacher reads."""
    local = {"tokenizer": config.tokenizer} if Path(config.tokenizer).is_dir() else {}
    return {"questions": config.questions} | local | config.teacher.inputs()


def work(config: TracesConfig, run: Run) -> None:
    """Collect the traces, in an open run folder.

    Raises:
        RunError: no trace is left, or a worker failed.
        UnreachableError: too many requests failed.
    """
    import pyarrow.compute as pc

    from s1ray.cluster import connected

    asks = _asks(_questions(config), config.samples)
    with connected():
        ledger = collect(asks, config, run.path / RESPONSES)
        log.info("traces: counting tokens and grading")
        rows = _finished(asks, ledger, config)
    is_kept = rows.column("reason").is_null()
    kept, dropped = rows.filter(is_kept), rows.filter(pc.invert(is_kept))
    run.drops = dict(sorted(Counter(dropped.column("reason").to_pylist()).items()))
    if not len(kept):
        raise RunError(f"no trace is left, all were dropped: {run.drops}; the teacher's responses are in {run.path}")
    write_table(dropped, run.path / DROPPED)
    rows_kept = kept.select(arrow_schema(Trace).names).cast(arrow_schema(Trace))
    write_table(rows_kept, run.path / TRACES)
    run.rows = {"in": len(asks) // config.samples, "asked": len(asks), "out": len(rows_kept)}
    figures = _figures(rows_kept)
    tally = ledger.tally(closed=True)
    run.figures = figures | {"bill": bill(tally, config.teacher.price_list, config.teacher.max_response_tokens)}
    log.info("traces: %d of %d kept; %s; dropped: %s", len(rows_kept), len(asks), figures, run.drops or "none")


def answered(rows: pa.Table, folder: Path) -> pa.Table:
    """Asks with their answers, read from the ledger, in place of where the answers are.

    Args:
        rows: asks, with `file`, `offset` and `length` of their answers, or `error`.
        folder: of the ledger.
    """
    import pyarrow as pa

    records, places = rows.to_pylist(), []
    for record in records:
        place = Place(*(record.pop(name) for name in Place._fields))
        if record["error"] is None:
            places.append(place)
    answers = iter(read_answers(folder, places))
    for record in records:
        record |= _response_columns(None if record["error"] is not None else next(answers))
    return pa.Table.from_pylist(records, schema=_answered_schema())


def _response_columns(answer: Answer | None) -> dict[str, str | int | None]:
    if answer is None:
        return {"thinking": "", "attempt": "", "finish_reason": "error"}
    usage = answer.usage
    return {
        "thinking": answer.thinking,
        "attempt": answer.attempt,
        "finish_reason": answer.finish_reason,
        "model_version": answer.model_version,
        "prompt_tokens": None if usage is None else usage.prompt_tokens,
        "cached_tokens": None if usage is None else usage.cached_tokens,
        "completion_tokens": None if usage is None else usage.completion_tokens,
    }


def _finish_block(rows: pa.Table, folder: Path, config: TracesConfig) -> pa.Table:
    return finish(answered(rows, folder), config)


def finish(rows: pa.Table, config: TracesConfig) -> pa.Table:
    """Count and grade what a teacher wrote: Trace columns, `error`, and `reason` (why a row is dropped, or null)."""
    import pyarrow as pa

    count, grade = length_counter(config.tokenizer), find_grader(config.grader)
    records = rows.to_pylist()
    thinking = count([record["thinking"] for record in records])
    attempts = count([record["attempt"] for record in records])
    finished = []
    for record, thinking_tokens, attempt_tokens in zip(records, thinking, attempts, strict=True):
        metadata, error = record.pop("metadata"), record.pop("error")
        sampling = config.teacher.sampling(record["id"], config.seed)
        trace = Trace(
            **record,
            teacher=config.teacher.label,
            thinking_tokens=thinking_tokens,
            attempt_tokens=attempt_tokens,
            sampling=None if sampling is None else json.dumps(sampling, sort_keys=True),
        )
        if trace.answer and trace.answer.strip() and error is None:
            # A grader may refuse a reference; the trace is then ungraded, like one of a question without an answer.
            with contextlib.suppress(InputError):
                graded = grade(trace.answer, trace.attempt, kind=kind_of(metadata))
                trace = replace(trace, correct=graded.correct, graded_by=graded.graded_by, verdict=graded.verdict)
        finished.append(vars(trace) | {"error": error, "reason": drop_reason(trace, error, config)})
    return pa.Table.from_pylist(finished, schema=_finished_schema())


def drop_reason(trace: Trace, error: str | None, config: TracesConfig) -> str | None:
    """Why a trace is dropped, or None.

    Args:
        trace: counted and graded.
        error: why its request failed. None: it did not.
        config: says what to drop.
    """
    if error is not None:
        return "request failed"
    if trace.finish_reason in REFUSED:
        return "refused"
    if trace.finish_reason not in ("stop", "length"):
        return "incomplete"
    if trace.finish_reason == "length" and config.truncated == "drop":
        return "truncated"
    if not trace.thinking.strip():
        return "no thinking"
    if not trace.attempt.strip():
        return "no answer"
    if config.max_tokens is not None and trace.thinking_tokens + trace.attempt_tokens > config.max_tokens:
        return "longer than max_tokens"
    if config.wrong == "drop" and trace.correct is False:
        return "wrong"
    return None


def _finished(asks: pa.Table, ledger: Ledger, config: TracesConfig) -> pa.Table:
    """`finish` over all asks, sorted by id."""
    import pyarrow as pa
    import ray

    ids = asks.column("id").to_pylist()
    places = [ledger.answers.get(ask) for ask in ids]
    errors = [None if ask in ledger.answers else ledger.failures[ask] for ask in ids]
    for name, kind in (("file", pa.string()), ("offset", pa.int64()), ("length", pa.int64())):
        column = [None if place is None else getattr(place, name) for place in places]
        asks = asks.append_column(name, pa.array(column, type=kind))
    asks = asks.append_column("error", pa.array(errors, type=pa.string()))
    blocks = [asks.slice(begin, config.shard_rows) for begin in range(0, len(asks), config.shard_rows)]
    with quiet_ray_data():
        batches = list(
            ray.data.from_arrow(blocks)
            .map_batches(
                _finish_block,
                fn_kwargs={"folder": ledger.folder, "config": config},
                batch_size=None,
                batch_format="pyarrow",
            )
            .iter_batches(batch_size=None, batch_format="pyarrow")
        )
    return _sorted(pa.concat_tables([batch.cast(_finished_schema()) for batch in batches]))


def _sorted(rows: pa.Table) -> pa.Table:
    """By id, in pieces: Arrow's columns of strings hold 2 GiB at most, which sixty thousand long traces exceed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    schema = rows.schema
    large = [field.with_type(pa.large_string()) if field.type == pa.string() else field for field in schema]
    whole = rows.cast(pa.schema(large)).combine_chunks()
    order = pc.sort_indices(whole, sort_keys=[("id", "ascending")])
    pieces = [whole.take(order[begin : begin + PIECE]) for begin in range(0, len(order), PIECE)]
    return pa.concat_tables([piece.cast(schema) for piece in pieces]) if pieces else rows


def _finished_schema() -> pa.Schema:
    import pyarrow as pa

    # Trace has no place for what a dropped row needs.
    return pa.schema([*arrow_schema(Trace), pa.field("error", pa.string()), pa.field("reason", pa.string())])


def _answered_schema() -> pa.Schema:
    import pyarrow as pa

    written = (
        *("id", "question_id", "sample", "question", "answer", "domain", "thinking", "attempt", "finish_reason"),
        *("model_version", "prompt_tokens", "cached_tokens", "completion_tokens"),
    )
    fields = [arrow_schema(Trace).field(name) for name in written]
    return pa.schema([*fields, pa.field("metadata", pa.string()), pa.field("error", pa.string())])


def _questions(config: TracesConfig) -> pa.Table:
    """The questions, sorted by id.

    Raises:
        S1rayError: they cannot be used.
    """
    questions = read_table(config.questions, Question).sort_by("id")
    ids = Counter(questions.column("id").to_pylist())
    repeated = [question for question, times in ids.items() if times > 1]
    if repeated:
        raise InputError(
            f"{config.questions}: {len(repeated)} ids appear more than once, {repeated[0]!r} for one; "
            "remove duplicates first"
        )
    if not len(questions):
        raise InputError(f"{config.questions}: holds no question")
    references = (questions.column(name).to_pylist() for name in ("id", "answer", "metadata"))
    check_references(zip(*references, strict=True), config.questions, config.grader)
    return questions.slice(0, config.limit)


def _asks(questions: pa.Table, samples: int) -> pa.Table:
    """One row per trace, sorted by question and sample."""
    import pyarrow as pa

    rows = [
        {**row, "id": f"{row['id']}-{sample}", "question_id": row["id"], "sample": sample}
        for row in questions.select(["id", *ASKED]).to_pylist()
        for sample in range(samples)
    ]
    fields = [arrow_schema(Question).field(name) for name in ("id", *ASKED)]
    return pa.Table.from_pylist(
        rows, schema=pa.schema([*fields, pa.field("question_id", pa.string()), pa.field("sample", pa.int64())])
    )


def _figures(traces: pa.Table) -> dict[str, float | None]:
    """Numbers on the result: share of correct traces, lengths, cut ones."""
    import pyarrow.compute as pc

    correct = traces.column("correct")
    graded = len(correct) - correct.null_count
    return {
        "graded": graded,
        "correct_share": round(pc.sum(correct).as_py() / graded, 4) if graded else None,
        "mean_thinking_tokens": round(pc.mean(traces.column("thinking_tokens")).as_py(), 1),
        "max_thinking_tokens": pc.max(traces.column("thinking_tokens")).as_py(),
        "truncated": pc.sum(pc.equal(traces.column("finish_reason"), "length")).as_py(),
    }


traces = Stage(name="traces", config=TracesConfig, plan=plan, inputs=inputs, work=work)
"""The stage. Its run folder gets `traces.parquet` (Trace rows, sorted by id), `dropped.parquet` (the others, with
`reason`) and `responses/` (the ledger)."""
