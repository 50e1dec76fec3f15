"""The questions of a benchmark: loaded, checked, and chosen."""

from __future__ import annotations

import itertools

from s1ray.config import ConfigError
from s1ray.grading import check_references
from s1ray.schemas import Question, read_table

MINIATURE = "miniature"
"""The name that stands for the miniature's held-out questions, which are generated, in place of a file."""


def load_questions(benchmark: str, limit: int | None = None) -> list[Question]:
    """The questions to ask, by id.

    Args:
        benchmark: a Parquet file or folder of Question rows, or "miniature".
        limit: take the first so many by id. The id is a hash of the text, so that is a random choice, always the same.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it holds no Question rows, or an answer is none that a response can be graded against.
        ConfigError: a row has no answer to grade against, an id comes twice, or there are fewer rows than `limit`.
    """
    if benchmark == MINIATURE:
        from s1ray.miniature.pool import build_benchmark

        # Always the whole of it: the pool is kept apart from these questions and no others.
        questions = build_benchmark()
    else:
        questions = [Question(**row) for row in read_table(benchmark, Question).to_pylist()]
    questions.sort(key=lambda question: question.id)
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
    check_references(((q.id, q.answer, q.metadata) for q in questions), f"benchmark: {benchmark}")
    return questions
