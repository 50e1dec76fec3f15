"""The questions of a benchmark: loaded, checked, and chosen."""

from __future__ import annotations

import itertools

from s1ray.benchmarks import load_benchmark
from s1ray.config import ConfigError
from s1ray.grading import RULES, check_references
from s1ray.schemas import Question


def load_questions(benchmark: str, limit: int | None = None, grader: str = RULES) -> list[Question]:
    """The questions to ask, sorted by id.

    Args:
        benchmark: a registered name, or a Parquet file or folder of Question rows.
        limit: take this many, the first by id. The id is a hash of the text, so this is a fixed random choice.
        grader: grades the responses; each question must have an answer for it.

    Raises:
        S1rayError: the benchmark is not there or holds other rows, an id comes twice, there are fewer questions than
            `limit`, or a response to one of them could not be graded.
    """
    questions = sorted(load_benchmark(benchmark), key=lambda question: question.id)
    for before, after in itertools.pairwise(questions):
        if before.id == after.id:
            raise ConfigError(f"benchmark: {benchmark}: id {after.id!r} comes more than once; drop the duplicates")
    if limit is not None and limit > len(questions):
        raise ConfigError(f"limit: {limit} questions asked for, but {benchmark} has {len(questions)}")
    questions = questions[:limit]
    if not questions:
        raise ConfigError(f"benchmark: {benchmark} has no questions")
    for question in questions:
        if question.answer is None or not question.answer.strip():
            raise ConfigError(
                f"benchmark: {benchmark}: question {question.id!r} has no answer, so a response to it cannot be graded"
            )
    check_references(((q.id, q.answer, q.metadata) for q in questions), f"benchmark: {benchmark}", grader)
    return questions
