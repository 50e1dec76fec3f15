"""The trace stage, from questions to `traces.parquet`.

    questions -> shards of asks -> teacher (Ray Data, actors) -> counting and grading (Ray Data) -> traces.parquet,
    dropped.parquet

What a teacher wrote is kept in shards until the run is complete; a killed run asks only for what is missing. Both
outputs are sorted by id.
"""

from __future__ import annotations

import functools
import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1ray.config import ConfigError
from s1ray.generation.engine import engine_actor_options, engine_identity
from s1ray.generation.lengths import length_counter
from s1ray.grading import check_references, grade, kind_of
from s1ray.runs import Run
from s1ray.schemas import Question, Trace, arrow_schema, read_table, write_table
from s1ray.shards import check_failures, map_shards, quiet_ray_data
from s1ray.stages import Stage
from s1ray.traces.config import TracesConfig, VLLMTeacherConfig
from s1ray.traces.teachers import Ask, check_teacher, make_teacher, teacher_name

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("s1ray")

TRACES = "traces.parquet"
DROPPED = "dropped.parquet"
CUT = frozenset({"length", "content_filter", "insufficient_system_resource", "abort"})
"""Finish reasons of responses that are not whole."""
SHARDS = "shards"
"""Folder of what the teacher wrote; a finished run does not keep it."""
REFERENCE = ("id", "answer", "metadata")
"""Columns of a question that say what its responses are graded against."""
PIECE = 4096
"""Rows that are sorted at a time; of the longest traces they are some 600 MB."""


def plan(config: TracesConfig) -> list[str]:
    """What a run would do and cost; reads the questions and starts nothing.

    Raises:
        ConfigError: the config does not fit.
        FileNotFoundError: the questions or a model are not there.
        ValueError: the questions' file has other columns, or the tokenizer cannot be loaded.
    """
    check_teacher(config.teacher)
    length_counter(config.tokenizer)
    questions = len(_questions(config))
    lines = [
        f"{questions:,} questions, {config.samples} trace(s) each, by {teacher_name(config.teacher)}",
        f"{-(-questions * config.samples // config.shard_rows):,} shards of {config.shard_rows:,} traces",
    ]
    tokens = getattr(config.teacher, "max_tokens", None)
    if tokens is not None:
        lines.append(f"at most {questions * config.samples * tokens:,} tokens generated")
    return [*lines, f"output: {Path(config.output) / TRACES}"]


def work(config: TracesConfig, run: Run) -> None:
    """Collect the traces, in an open run folder."""
    import pyarrow.compute as pc

    from s1ray.cluster import connected

    asks = _asks(_questions(config), config.samples)
    with connected():
        options = engine_actor_options(config.teacher.engine) if isinstance(config.teacher, VLLMTeacherConfig) else {}
        files = map_shards(
            asks,
            run.path / SHARDS,
            functools.partial(_TeacherWorker, config),
            fingerprint=_fingerprint(config),
            shard_rows=config.shard_rows,
            actors=getattr(config.teacher, "actors", 1),
            actor_options=options,
            what="traces",
        )
        check_failures(files, config.max_failed_share, "traces")
        rows = _finished(files, config)
    is_kept = rows.column("reason").is_null()
    kept, dropped = rows.filter(is_kept), rows.filter(pc.invert(is_kept))
    run.drops = dict(sorted(Counter(dropped.column("reason").to_pylist()).items()))
    if not len(kept):
        raise ValueError(f"no trace is left, all were dropped: {run.drops}; the teacher's responses are in {run.path}")
    write_table(dropped, run.path / DROPPED)
    rows_kept = kept.select(arrow_schema(Trace).names).cast(arrow_schema(Trace))
    write_table(rows_kept, run.path / TRACES)
    run.rows = {"in": len(asks) // config.samples, "asked": len(asks), "out": len(rows_kept)}
    run.figures = _figures(rows_kept)
    log.info("traces: %d of %d kept; %s; dropped: %s", len(rows_kept), len(asks), run.figures, run.drops or "none")
    shutil.rmtree(run.path / SHARDS, ignore_errors=True)


class _TeacherWorker:
    """The worker of a shard: one teacher."""

    def __init__(self, config: TracesConfig):
        self._teacher = make_teacher(config.teacher, config.seed)

    def __call__(self, rows: pa.Table) -> pa.Table:
        import pyarrow as pa

        asks = [Ask({**row, "id": row["question_id"]}, row["sample"]) for row in rows.to_pylist()]
        responses = self._teacher.respond(asks)
        columns = {
            name: pa.array([getattr(response, name) for response in responses], type=pa.string())
            for name in ("thinking", "attempt", "finish_reason", "error")
        }
        for name, column in columns.items():
            rows = rows.append_column(name, column)
        return rows

    def close(self) -> None:
        self._teacher.close()


def finish(rows: pa.Table, config: TracesConfig) -> pa.Table:
    """Count and grade what a teacher wrote: Trace columns, `error`, and `reason` (why a row is dropped, or null)."""
    import pyarrow as pa

    count, name = length_counter(config.tokenizer), teacher_name(config.teacher)
    records = rows.to_pylist()
    thinking = count([record["thinking"] for record in records])
    attempts = count([record["attempt"] for record in records])
    finished = []
    for record, thinking_tokens, attempt_tokens in zip(records, thinking, attempts, strict=True):
        trace = record | {"teacher": name, "thinking_tokens": thinking_tokens, "attempt_tokens": attempt_tokens}
        gold = (record["answer"] or "").strip()
        if gold and record["error"] is None:
            verdict = grade(gold, record["attempt"], kind=kind_of(record["metadata"]))
            trace |= {"correct": verdict.correct, "graded_by": verdict.graded_by}
        finished.append(trace | {"reason": drop_reason(trace, config)})
    return pa.Table.from_pylist(finished, schema=_finished_schema())


def drop_reason(trace: dict[str, Any], config: TracesConfig) -> str | None:
    """Why a trace is dropped, or None."""
    if trace["error"] is not None:
        return "request failed"
    if trace["finish_reason"] in CUT and config.truncated == "drop":
        return "truncated"
    if not trace["thinking"].strip():
        return "no thinking"
    if not trace["attempt"].strip():
        return "no answer"
    if config.max_tokens is not None and trace["thinking_tokens"] + trace["attempt_tokens"] > config.max_tokens:
        return "longer than max_tokens"
    if config.wrong == "drop" and trace.get("correct") is False:
        return "wrong"
    return None


def _finished(files: Sequence[Path], config: TracesConfig) -> pa.Table:
    """`finish` over all shards, sorted by id."""
    import pyarrow as pa
    import ray

    with quiet_ray_data():
        dataset = ray.data.read_parquet([str(file) for file in files], override_num_blocks=len(files))
        batches = list(
            dataset.map_batches(_finish_batch, fn_kwargs={"config": config}, batch_format="pyarrow").iter_batches(
                batch_size=None, batch_format="pyarrow"
            )
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


def _finish_batch(batch: pa.Table, config: TracesConfig) -> pa.Table:
    return finish(batch, config)


def _finished_schema() -> pa.Schema:
    import pyarrow as pa

    fields = [field.with_nullable(True) for field in arrow_schema(Trace)]
    return pa.schema([*fields, pa.field("error", pa.string()), pa.field("reason", pa.string())])


def _questions(config: TracesConfig) -> pa.Table:
    """The questions, sorted by id."""
    questions = read_table(config.questions, Question).sort_by("id")
    ids = Counter(questions.column("id").to_pylist())
    repeated = [question for question, times in ids.items() if times > 1]
    if repeated:
        raise ValueError(
            f"{config.questions}: {len(repeated)} ids appear more than once, {repeated[0]!r} for one; "
            "remove duplicates first"
        )
    if not len(questions):
        raise ConfigError(f"{config.questions}: holds no question")
    check_references(zip(*(questions.column(c).to_pylist() for c in REFERENCE), strict=True), config.questions)
    return questions.slice(0, config.limit)


def _asks(questions: pa.Table, samples: int) -> pa.Table:
    """One row a trace to be written, sorted by question and sample."""
    import pyarrow as pa

    columns = ["id", "question", "answer", "domain", "metadata"]
    rows = [
        {**row, "id": f"{row['id']}-{sample}", "question_id": row["id"], "sample": sample}
        for row in questions.select(columns).to_pylist()
        for sample in range(samples)
    ]
    fields = [arrow_schema(Question).field(name) for name in columns]
    return pa.Table.from_pylist(
        rows, schema=pa.schema([*fields, pa.field("question_id", pa.string()), pa.field("sample", pa.int64())])
    )


def _fingerprint(config: TracesConfig) -> dict[str, Any]:
    """What decides what the teacher writes, besides the asks."""
    teacher = config.teacher.model_dump(mode="json", exclude={"actors", "concurrency", "timeout", "attempts"})
    teacher.pop("requests_per_minute", None)
    if isinstance(config.teacher, VLLMTeacherConfig):
        teacher["engine"] = engine_identity(config.teacher.engine)
    return {"teacher": teacher, "seed": config.seed}


def inputs(config: TracesConfig) -> dict[str, str]:
    """The questions, and a local teacher's weights."""
    paths = {"questions": config.questions}
    if isinstance(config.teacher, VLLMTeacherConfig):
        model = config.teacher.engine.model
        paths |= {"teacher": model} if Path(model).is_dir() else {}
    return paths


def _figures(traces: pa.Table) -> dict[str, Any]:
    """Numbers on the result: share of correct traces, lengths, cut ones."""
    import pyarrow as pa
    import pyarrow.compute as pc

    correct = traces.column("correct")
    graded = len(correct) - correct.null_count
    return {
        "graded": graded,
        "correct_share": round(pc.sum(correct).as_py() / graded, 4) if graded else None,
        "mean_thinking_tokens": round(pc.mean(traces.column("thinking_tokens")).as_py(), 1),
        "max_thinking_tokens": pc.max(traces.column("thinking_tokens")).as_py(),
        "truncated": pc.sum(pc.is_in(traces.column("finish_reason"), pa.array(sorted(CUT)))).as_py(),
    }


traces = Stage(name="traces", config=TracesConfig, plan=plan, inputs=inputs, work=work)
"""The stage. Its run folder gets `traces.parquet` (Trace rows, sorted by id) and `dropped.parquet` (the others, with
`reason`)."""
