"""The questions of the accuracy during training: which they are, and that the run is not trained on them."""

from __future__ import annotations

import random
from collections.abc import Iterable

from s1ray.benchmarks import load_benchmark
from s1ray.config import ConfigError
from s1ray.grading.grade import check_references
from s1ray.schemas import Question, question_id
from s1ray.training.config import AccuracyConfig, TrainingConfig
from s1ray.training.data.sources import read_questions

SHOWN = 3
"""Ids in a message."""


def choose_questions(config: AccuracyConfig, seed: int) -> list[Question]:
    """The questions that the model answers, in the benchmark's order.

    Args:
        seed: of the draw, where the config wants some of them.

    Raises:
        MissingError: there is no such benchmark.
        ConfigError: none of its questions has a reference answer.
        InputError: a reference answer cannot be graded against.
    """
    questions = [question for question in load_benchmark(config.benchmark) if (question.answer or "").strip()]
    if not questions:
        raise ConfigError(f"accuracy.benchmark {config.benchmark}: none of its questions has a reference answer")
    check_references(((q.id, q.answer, q.metadata) for q in questions), config.benchmark, config.grader)
    if config.size is None or config.size >= len(questions):
        return questions
    chosen = sorted(random.Random(f"{seed}:accuracy").sample(range(len(questions)), config.size))
    return [questions[index] for index in chosen]


def accuracy_lines(config: TrainingConfig, total_steps: int) -> list[str]:
    """What the plan says of the measurements; nothing without them.

    Raises:
        S1rayError: the questions are not there, cannot be graded, or are trained on.
    """
    settings = config.accuracy
    if settings is None:
        return []
    questions = choose_questions(settings, config.seed)
    check_apart(questions, read_questions(config), settings.benchmark)
    count = -(-total_steps // settings.every)
    where = (
        "beside the workers" if config.device == "cpu" else f"on {settings.tensor_parallel_size} more GPU(s), if any"
    )
    return [
        f"accuracy on {len(questions):,} held-out questions, measured {count:,} times by an engine {where}"
        + ("; training waits for it" if settings.pause else "")
    ]


def check_apart(questions: Iterable[Question], trained: Iterable[str], benchmark: str) -> None:
    """Refuse to measure on what is trained.

    Args:
        trained: the questions of the traces, as texts.
        benchmark: the questions' origin, for the message.

    Raises:
        ConfigError: questions are among the traces'.
    """
    known = {question_id(text.strip()) for text in trained}
    shared = [question.id for question in questions if question_id(question.question.strip()) in known]
    if shared:
        raise ConfigError(
            f"accuracy.benchmark {benchmark}: {len(shared)} of its questions are among the traces ("
            f"{', '.join(shared[:SHOWN])}{', ...' if len(shared) > SHOWN else ''}); give held-out questions, as an "
            "answer that was trained on says nothing"
        )
