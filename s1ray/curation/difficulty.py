"""How hard questions are: small models answer them, and rules grade the answers (s1, section 2.2, "Difficulty").

s1 has Qwen2.5-7B-Instruct and Qwen2.5-32B-Instruct answer every question, a judge grade the answers, and drops what
either of them gets right. Here the models are configured, the answers go through the same engine as everything else,
and grading is by rules. Answers are written in shards, so a killed job keeps what it has.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1ray.curation.config import ModelDifficulty
from s1ray.generation.base import GenerationRequest, Generator, request_seed
from s1ray.generation.blocking import BlockingGenerator
from s1ray.generation.engine import engine_actor_options, engine_identity
from s1ray.generation.vllm import VLLMGenerator
from s1ray.grading import grade, kind_of
from s1ray.models import EngineConfig
from s1ray.schemas import Completion
from s1ray.shards import check_failures, map_shards

if TYPE_CHECKING:
    import pyarrow as pa

MakeEngine = Callable[[EngineConfig], Generator]


def answers_schema() -> pa.Schema:
    """One row an attempt of a model at a question."""
    import pyarrow as pa

    return pa.schema(
        [
            ("id", pa.string()),
            ("model", pa.string()),
            ("sample", pa.int64()),
            ("answer", pa.string()),
            ("extracted", pa.string()),
            ("correct", pa.bool_()),
            ("graded_by", pa.string()),
            ("tokens", pa.int64()),
            ("error", pa.string()),
        ]
    )


def measure(
    questions: pa.Table,
    config: ModelDifficulty,
    folder: str | os.PathLike[str],
    *,
    seed: int,
    make_engine: MakeEngine = VLLMGenerator,
) -> pa.Table:
    """Let every model answer every question, and grade. Needs Ray to be connected.

    Args:
        questions: columns id, question, answer, metadata; ids are unique.
        config: the models and how they answer.
        folder: where shards of answers are kept.
        seed: of sampling.
        make_engine: makes a model's generator, in the actor.

    Raises:
        ConnectionError: too many requests failed.
        RunError: an engine failed; what is answered stays.

    Returns:
        `answers_schema` rows, model by model, questions by id. `correct` is null where the request failed or the
        question has no reference answer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    ordered = questions.sort_by("id")
    tables = []
    for label, engine in sorted(config.models.items()):
        files = map_shards(
            ordered,
            Path(folder) / label,
            functools.partial(_Answers, label, engine, config, seed, make_engine),
            fingerprint=fingerprint(label, engine, config, seed),
            shard_rows=config.shard_rows,
            actors=config.actors,
            actor_options=engine_actor_options(engine),
            what=f"difficulty by {label}",
        )
        check_failures(files, config.max_failed_share, f"difficulty by {label}")
        tables += [pq.read_table(file) for file in files]
    return pa.concat_tables(tables)


def solvers(answers: pa.Table) -> dict[str, list[str] | None]:
    """Question id -> the models with a correct answer, sorted; None where a model has no graded answer and none solved
    it.
    """
    solved: dict[str, set[str]] = {}
    graded: dict[str, set[str]] = {}
    models = set(answers.column("model").to_pylist())
    for row in answers.select(["id", "model", "correct"]).to_pylist():
        solved.setdefault(row["id"], set())
        graded.setdefault(row["id"], set())
        if row["correct"] is not None:
            graded[row["id"]].add(row["model"])
        if row["correct"]:
            solved[row["id"]].add(row["model"])
    return {
        question: sorted(labels) if labels or graded[question] == models else None
        for question, labels in solved.items()
    }


def fingerprint(label: str, engine: EngineConfig, config: ModelDifficulty, seed: int) -> dict[str, Any]:
    """What decides a model's answers besides the questions."""
    sampling = config.model_dump(mode="json", exclude={"models", "shard_rows", "actors", "max_failed_share"})
    return {"label": label, "sampling": sampling, "seed": seed, "engine": engine_identity(engine)}


class _Answers:
    """The worker of a shard: one engine, built when the first shard comes to it."""

    def __init__(self, label: str, engine: EngineConfig, config: ModelDifficulty, seed: int, make_engine: MakeEngine):
        self._label = label
        self._config = config
        self._seed = seed
        self._generator = BlockingGenerator(functools.partial(make_engine, engine), engine.max_num_seqs)

    def __call__(self, rows: pa.Table) -> pa.Table:
        import pyarrow as pa

        questions = rows.to_pylist()
        keys = [(question, sample) for question in questions for sample in range(self._config.samples)]
        completions = self._generator.complete([self._request(question, sample) for question, sample in keys])
        graded = [
            self._graded(question, sample, completion)
            for (question, sample), completion in zip(keys, completions, strict=True)
        ]
        return pa.Table.from_pylist(graded, schema=answers_schema())

    def close(self) -> None:
        self._generator.close()

    def _request(self, question: dict[str, Any], sample: int) -> GenerationRequest:
        key = f"{question['id']}-{sample}"
        return GenerationRequest(
            id=key,
            messages=[{"role": "user", "content": question["question"]}],
            budget=self._config.thinking,
            temperature=self._config.temperature,
            max_tokens=self._config.max_tokens,
            seed=request_seed(self._seed, key),
        )

    def _graded(self, question: dict[str, Any], sample: int, completion: Completion) -> dict[str, Any]:
        row = {
            "id": question["id"],
            "model": self._label,
            "sample": sample,
            "answer": completion.answer,
            "tokens": completion.thinking_tokens + completion.answer_tokens,
            "error": completion.error,
        }
        gold = (question["answer"] or "").strip()
        if completion.error is not None or not gold:
            return row
        try:
            verdict = grade(gold, completion.answer, kind=kind_of(question["metadata"]))
        except ValueError:
            # Nothing to grade against after all ("."): not measured, like a question without an answer.
            return row
        return row | {"extracted": verdict.extracted, "correct": verdict.correct, "graded_by": verdict.graded_by}
