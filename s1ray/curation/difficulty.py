"""How hard questions are: small models answer them, and a grader grades the answers (s1, section 2.2, "Difficulty").

In s1, Qwen2.5-7B-Instruct and Qwen2.5-32B-Instruct answer every question, a judge grades the answers, and whatever
either model gets right is dropped. Here models and grader are configured, and the engine is the same as everywhere
else. Answers are written in shards, so a killed job keeps what it has.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from s1ray.curation.config import ModelDifficulty
from s1ray.errors import InputError
from s1ray.generation.base import GenerationRequest, Generator, request_seed
from s1ray.generation.blocking import BlockingGenerator
from s1ray.generation.engine import engine_actor_options, engine_identity, requests_in_flight
from s1ray.generation.vllm import VLLMGenerator
from s1ray.grading import find_grader, kind_of
from s1ray.models import EngineConfig
from s1ray.schemas import Completion, Question, to_table
from s1ray.shards import check_failures, map_shards

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("s1ray")

MakeEngine = Callable[[EngineConfig], Generator]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """A model's attempt at a question."""

    id: str
    """Of the question."""
    model: str
    """Its label in the config."""
    sample: int
    answer: str
    tokens: int
    error: str | None = None
    """Why the request failed."""
    extracted: str | None = None
    correct: bool | None = None
    """None: the request failed, the question has no reference answer, or grading came to its limits."""
    graded_by: str | None = None
    """None: not graded."""


def measure(
    questions: pa.Table,
    config: ModelDifficulty,
    folder: str | os.PathLike[str],
    *,
    seed: int,
    make_engine: MakeEngine = VLLMGenerator,
) -> pa.Table:
    """Let every model answer every question, and grade. Ray must be connected.

    Args:
        questions: columns id, question, answer, metadata; ids are unique.
        config: the models and how they answer.
        folder: where shards of answers are kept.
        seed: of sampling.
        make_engine: makes a model's generator, in the actor.

    Raises:
        UnreachableError: too many requests failed.
        RunError: an engine failed; what is answered stays.

    Returns:
        `Attempt` rows, model by model, questions by id.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    ordered = questions.sort_by("id")
    tables = []
    for label, engine in sorted(config.models.items()):
        files = map_shards(
            ordered,
            Path(folder) / label,
            functools.partial(DifficultyWorker, label, engine, config, seed, make_engine),
            fingerprint=fingerprint(label, engine, config, seed),
            shard_rows=config.shard_rows,
            actors=config.actors,
            actor_options=engine_actor_options(engine),
            what=f"difficulty by {label}",
        )
        check_failures(files, config.max_failed_share, f"difficulty by {label}")
        tables += [pq.read_table(file) for file in files]
    attempts = pa.concat_tables(tables)
    if undecided := count_undecided(attempts):
        log.warning(
            "curate: %d of %d answers of the difficulty models are undecided; a question with one that no model solved "
            'is dropped as "difficulty not measured"',
            undecided,
            len(attempts),
        )
    return attempts


def solvers(attempts: pa.Table) -> dict[str, list[str] | None]:
    """Question id -> the models with a correct answer, sorted; None where none is known to have solved it and one is
    not known to have failed.

    A model has failed where it has a wrong answer and no undecided one: a question is not hard because grading ran out
    of time.
    """
    solved: dict[str, set[str]] = {}
    wrong: dict[str, set[str]] = {}
    undecided: dict[str, set[str]] = {}
    models = set(attempts.column("model").to_pylist())
    for row in attempts.select(["id", "model", "correct", "graded_by"]).to_pylist():
        groups = [groups.setdefault(row["id"], set()) for groups in (solved, wrong, undecided)]
        if row["correct"] is not None:
            groups[0 if row["correct"] else 1].add(row["model"])
        elif row["graded_by"] is not None:
            groups[2].add(row["model"])
    return {
        question: sorted(labels) if labels or wrong[question] - undecided[question] == models else None
        for question, labels in solved.items()
    }


def count_undecided(attempts: pa.Table) -> int:
    """Attempts that were graded without an outcome."""
    import pyarrow.compute as pc

    graded, open_ = pc.is_valid(attempts.column("graded_by")), pc.is_null(attempts.column("correct"))
    return int(pc.sum(pc.and_(graded, open_)).as_py() or 0)


def fingerprint(label: str, engine: EngineConfig, config: ModelDifficulty, seed: int) -> dict[str, JsonValue]:
    """What decides a model's answers besides the questions."""
    sampling = config.model_dump(mode="json", exclude={"models", "shard_rows", "actors", "max_failed_share"})
    return {"label": label, "sampling": sampling, "seed": seed, "engine": engine_identity(engine)}


class DifficultyWorker:
    """The worker of a shard (`s1ray.shards`): one engine, which answers, and the grader."""

    def __init__(
        self, label: str, engine: EngineConfig, config: ModelDifficulty, seed: int, make_engine: MakeEngine
    ) -> None:
        self._label = label
        self._config = config
        self._seed = seed
        self._grade = find_grader(config.grader)
        self._generator = BlockingGenerator(functools.partial(make_engine, engine), requests_in_flight(engine))

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The `Attempt` rows of a shard of questions."""
        keys = [(Question(**row), sample) for row in rows.to_pylist() for sample in range(self._config.samples)]
        completions = self._generator.complete([self._request(question, sample) for question, sample in keys])
        attempts = [
            self._graded(question, sample, completion)
            for (question, sample), completion in zip(keys, completions, strict=True)
        ]
        return to_table(attempts, Attempt)

    def close(self) -> None:
        """Release the engine."""
        self._generator.close()

    def _request(self, question: Question, sample: int) -> GenerationRequest:
        key = f"{question.id}-{sample}"
        return GenerationRequest(
            id=key,
            messages=[{"role": "user", "content": question.question}],
            budget=self._config.thinking,
            temperature=self._config.temperature,
            max_tokens=self._config.max_tokens,
            seed=request_seed(self._seed, key),
        )

    def _graded(self, question: Question, sample: int, completion: Completion) -> Attempt:
        attempt = Attempt(
            id=question.id,
            model=self._label,
            sample=sample,
            answer=completion.answer,
            tokens=completion.thinking_tokens + completion.answer_tokens,
            error=completion.error,
        )
        gold = (question.answer or "").strip()
        if completion.error is not None or not gold:
            return attempt
        try:
            grade = self._grade(gold, completion.answer, kind=kind_of(question.metadata))
        except InputError:
            # There is nothing to grade against after all ("."): not measured, like a question without an answer.
            return attempt
        return dataclasses.replace(attempt, extracted=grade.extracted, correct=grade.correct, graded_by=grade.graded_by)
