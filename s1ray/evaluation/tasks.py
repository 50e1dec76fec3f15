"""One response to get, and the Evaluation row that it becomes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from s1ray.benchmarks import Benchmark, asked
from s1ray.evaluation.benchmarks import Asked
from s1ray.evaluation.config import EvalConfig, ServedModel
from s1ray.evaluation.strategies.base import Strategy
from s1ray.evaluation.strategies.cost import Cost
from s1ray.generation import request_seed
from s1ray.grading import grade_or_undecided, kind_of
from s1ray.schemas import Completion, Evaluation, Question

ArmKey = tuple[str, str]
"""Labels of a model and an arm."""
JournalKey = tuple[str, str, str]
"""Name of a benchmark, and labels of a model and an arm."""
FAILED = "failed"
"""The verdict on a request that failed for good: it counts as wrong."""
UNGRADED = "not graded"
"""The verdict on an answer that the grader failed at; in journals alone. The next start grades it."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One response to get."""

    benchmark: Benchmark
    model: ServedModel
    arm: Strategy
    question: Question
    """With its options, and in the benchmark's prompt."""
    sample: int
    repeat: int = 0
    """Which of the run's repetitions."""

    @property
    def id(self) -> str:
        """The row's id."""
        return f"{self.question.id}-{self.sample}" + (f"-r{self.repeat}" if self.repeat else "")

    def seed(self, seed: int) -> int:
        """The seed of its repetition: the run's in the first, which is the same as a run without repetitions.

        Args:
            seed: of the run.
        """
        return request_seed(seed, f"repeat-{self.repeat}") if self.repeat else seed

    @property
    def key(self) -> JournalKey:
        """Whose row it is."""
        return self.benchmark.name, self.model.label, self.arm.name


def bound(arm: Strategy) -> int | None:
    """Thinking tokens that one answer can cost at most. None: no budget bounds it, whatever the prompt asks for."""
    return arm.limits[1] if isinstance(arm.budget.max_tokens, int) else None


def journal_key(row: Evaluation) -> JournalKey:
    """The `key` of a row's task."""
    return row.benchmark, row.model, row.arm


@dataclasses.dataclass(frozen=True)
class Cell:
    """One model with one arm on one benchmark: so many questions, repetitions and samples, in this order."""

    benchmark: Benchmark
    model: ServedModel
    arm: Strategy
    questions: list[Question]
    """With their options, and in the benchmark's prompt; sorted by id. Cells of a benchmark share the list."""
    numbers: Mapping[str, int]
    """Question id -> its number in the list."""
    repeats: int
    samples: int

    @property
    def key(self) -> JournalKey:
        """Of its rows."""
        return self.benchmark.name, self.model.label, self.arm.name

    @property
    def size(self) -> int:
        """How many rows it has."""
        return len(self.questions) * self.repeats * self.samples

    def place(self, row: Evaluation) -> int:
        """The place of a row among the cell's, from 0.

        Raises:
            LookupError: it is none of them.
        """
        if not (0 <= row.repeat < self.repeats and 0 <= row.sample < self.samples):
            raise LookupError(row.id)
        return (self.numbers[row.question_id] * self.repeats + row.repeat) * self.samples + row.sample

    def question(self, place: int) -> Question:
        """What the row at a place answers."""
        return self.questions[place // (self.repeats * self.samples)]

    def task(self, number: int, repeat: int, sample: int) -> tuple[int, Task]:
        """A response of it and its place.

        Args:
            number: of the question.
            repeat: which repetition.
            sample: which of the answers.
        """
        place = (number * self.repeats + repeat) * self.samples + sample
        return place, Task(self.benchmark, self.model, self.arm, self.questions[number], sample, repeat)


def all_cells(config: EvalConfig, benchmarks: Iterable[Asked]) -> list[Cell]:
    """Everything that a run measures, by benchmark, model and arm in the config's order."""
    cells = []
    for each in benchmarks:
        prompts = [asked(each.benchmark, bare) for bare in each.questions]
        numbers = {question.id: number for number, question in enumerate(prompts)}
        cells += [
            Cell(each.benchmark, model, arm, prompts, numbers, config.repeats, config.sampling.samples)
            for model in config.models
            for arm in config.arms_of(model)
        ]
    return cells


def missing_tasks(cells: Iterable[Cell], is_missing: Callable[[Cell, int], bool]) -> Iterator[Task]:
    """The responses to get, one at a time: the largest budgets first, those of one size repetition by repetition and
    question by question, the models taking turns.

    Args:
        cells: whose.
        is_missing: whether the row at a place of a cell is to be had.
    """

    def expected(cell: Cell) -> tuple[float, int, int]:
        most = bound(cell.arm)
        return float("inf") if most is None else most, cell.arm.requests, cell.arm.budget.waits

    ordered = sorted(cells, key=expected, reverse=True)
    for _, alike in itertools.groupby(ordered, key=expected):
        by_benchmark: dict[str, list[Cell]] = {}
        for cell in alike:
            by_benchmark.setdefault(cell.benchmark.name, []).append(cell)
        for repeat in range(ordered[0].repeats):
            for group in by_benchmark.values():
                for number, sample in itertools.product(range(len(group[0].questions)), range(group[0].samples)):
                    for cell in group:
                        place, task = cell.task(number, repeat, sample)
                        if is_missing(cell, place):
                            yield task


def answer_row(task: Task, completion: Completion, cost: Cost) -> Evaluation:
    """The row of an answer, not graded yet, with the cost of all requests for it."""
    return dataclasses.replace(
        _unanswered(task, cost),
        verdict=UNGRADED,
        correct=None,
        thinking=_storable(completion.thinking),
        answer=_storable(completion.answer),
        kept_thinking_tokens=completion.thinking_tokens if cost.calls > 1 else None,
        waits=completion.waits,
        end_forced=completion.end_forced,
        answer_cut=completion.answer_cut,
        finish_reason=completion.finish_reason,
        wait_spans=completion.wait_spans,
    )


def graded_row(row: Evaluation, question: Question, grader: str) -> Evaluation:
    """A row of `answer_row` with its verdict.

    Args:
        row: the row.
        question: what it answers.
        grader: the grader's name.

    Raises:
        GraderError: the grader fails.
    """
    if not row.answer.strip():
        return dataclasses.replace(row, verdict="unparsable", correct=False, graded_by="no answer")
    where = f"question {question.id!r}"
    found = grade_or_undecided(grader, row.gold, row.answer, kind=kind_of(question.metadata), where=where)
    return dataclasses.replace(
        row, verdict=found.verdict, correct=found.correct, extracted=found.extracted, graded_by=found.graded_by
    )


def failure(task: Task, error: str, cost: Cost) -> Evaluation:
    """The row of an answer that could not be had, with what it cost nevertheless."""
    return dataclasses.replace(_unanswered(task, cost), finish_reason="error", error=error)


def stored_row(fields: Mapping[str, Any]) -> Evaluation:
    """A row from a file. Versions without verdicts called undecided answers wrong; here they are undecided.

    Raises:
        TypeError: fields are missing, or unknown.
    """
    row = Evaluation(**fields)
    if row.verdict:
        return row
    if row.error is not None:
        return dataclasses.replace(row, verdict=FAILED)
    if "undecided" in row.graded_by:
        return dataclasses.replace(row, verdict="undecided", correct=None)
    wrong = "unparsable" if row.extracted is None else "incorrect"
    return dataclasses.replace(row, verdict="correct" if row.correct else wrong)


def _unanswered(task: Task, cost: Cost) -> Evaluation:
    assert task.question.answer is not None, "load_questions refuses questions without an answer"
    return Evaluation(
        id=task.id,
        question_id=task.question.id,
        sample=task.sample,
        repeat=task.repeat,
        benchmark=task.benchmark.name,
        model=task.model.label,
        arm=task.arm.name,
        max_thinking_tokens=task.arm.limits[1],
        waits_asked=task.arm.budget.waits,
        domain=task.question.domain,
        gold=task.question.answer,
        extracted=None,
        correct=False,
        verdict=FAILED,
        graded_by="not graded",
        thinking="",
        answer="",
        waits=0,
        **dataclasses.asdict(cost),
    )


def _storable(text: str) -> str:
    # A model can write half of a surrogate pair; neither JSON lines nor Parquet can hold it.
    return text.encode("utf-8", errors="replace").decode("utf-8")
