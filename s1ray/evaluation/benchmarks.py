"""The questions of an eval run: loaded, checked, chosen, and kept with its results."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from s1ray.benchmarks import Benchmark, asked, read_benchmark
from s1ray.config import ConfigError
from s1ray.grading import RULES, check_references
from s1ray.schemas import Question


@dataclasses.dataclass(frozen=True)
class Asked:
    """A benchmark, and the questions of it that a run asks."""

    benchmark: Benchmark
    questions: list[Question]
    """Bare, without options and prompt; sorted by id."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptQuestion(Question):
    """A question in the folder of a run."""

    benchmark: str = ""
    """The benchmark's name. "": the run's only one, in files of older versions."""


def load_benchmarks(benchmarks: Sequence[Benchmark], limit: int | None = None, grader: str = RULES) -> list[Asked]:
    """The questions to ask of each benchmark; see `load_questions`.

    Args:
        benchmarks: which.
        limit: of a benchmark without one of its own. Of several, one that has fewer questions is asked whole.
        grader: grades the responses.

    Raises:
        S1rayError: a benchmark cannot be used.
    """
    asked = []
    for each in benchmarks:
        if each.limit is None and len(benchmarks) > 1:
            asked.append(Asked(each, load_questions(each, None, grader)[:limit]))
        else:
            asked.append(Asked(each, load_questions(each, each.limit or limit, grader)))
    return asked


def load_questions(benchmark: Benchmark, limit: int | None = None, grader: str = RULES) -> list[Question]:
    """The questions to ask, bare, sorted by id.

    Args:
        benchmark: where they are.
        limit: take this many, the first by id. The id is a hash of the text, so this is a fixed random choice.
        grader: grades the responses; each question must have an answer for it.

    Raises:
        S1rayError: the benchmark is not there or holds other rows, an id comes twice, there are fewer questions than
            `limit`, or a response to one of them could not be graded.
    """
    origin = f"benchmark: {benchmark.name if benchmark.path is None else benchmark.path}"
    questions = sorted(read_benchmark(benchmark), key=lambda question: question.id)
    for before, after in itertools.pairwise(questions):
        if before.id == after.id:
            raise ConfigError(f"{origin}: id {after.id!r} comes more than once; drop the duplicates")
    if limit is not None and limit > len(questions):
        raise ConfigError(
            f"limit: {limit} questions asked for, but {origin.removeprefix('benchmark: ')} has {len(questions)}"
        )
    questions = questions[:limit]
    if not questions:
        raise ConfigError(f"{origin} has no questions")
    for question in questions:
        if question.answer is None or not question.answer.strip():
            raise ConfigError(f"{origin}: question {question.id!r} has no answer, so a response to it cannot be graded")
    check_references(((q.id, q.answer, q.metadata) for q in questions), origin, grader)
    return questions


def kept(benchmarks: Iterable[Asked]) -> list[KeptQuestion]:
    """The rows that a run keeps of its questions, as they are asked; of benchmarks with private text without that."""
    return [_kept(each.benchmark, question) for each in benchmarks for question in each.questions]


def _kept(benchmark: Benchmark, question: Question) -> KeptQuestion:
    row = KeptQuestion(**vars(asked(benchmark, question)), benchmark=benchmark.name)
    if benchmark.private_text:
        return dataclasses.replace(row, question="", solution=None, metadata="{}")
    return row
