"""One response to get, and the Evaluation row that it becomes."""

from __future__ import annotations

import dataclasses
from typing import Any

from s1ray.evaluation.config import Arm, EvalConfig, ServedModel
from s1ray.evaluation.recount import Recount
from s1ray.grading import grade, kind_of
from s1ray.runs import RunError
from s1ray.schemas import Completion, Evaluation, Question


@dataclasses.dataclass(frozen=True)
class Task:
    """One response to get."""

    model: ServedModel
    arm: Arm
    question: Question
    sample: int

    @property
    def id(self) -> str:
        """The row's id."""
        return f"{self.question.id}-{self.sample}"


def all_tasks(config: EvalConfig, questions: list[Question]) -> list[Task]:
    """All responses to get, the largest budgets first, the models taking turns."""

    def expected(task: Task) -> tuple[float, int]:
        unbounded = task.arm.max_tokens is None
        return (float("inf") if unbounded else float(task.arm.max_tokens or 0), task.arm.waits)

    tasks = [
        Task(model, arm, question, sample)
        for question in questions
        for sample in range(config.sampling.samples)
        for model in config.models
        for arm in config.arms_of(model)
    ]
    return sorted(tasks, key=expected, reverse=True)


def evaluation_row(task: Task, completion: Completion, recount: Recount | None) -> dict[str, Any]:
    """The Evaluation row of a response."""
    question, answer = task.question, _storable(completion.answer)
    assert question.answer is not None, "load_questions lets no question without an answer through"
    if answer.strip():
        verdict = grade(question.answer, answer, kind=kind_of(question.metadata))
        correct, extracted, graded_by = verdict.correct, verdict.extracted, verdict.graded_by
    else:
        correct, extracted, graded_by = False, None, "no answer"
    thinking_tokens = completion.thinking_tokens
    if recount is not None:
        if completion.output_ids is None:
            raise RunError(
                f"response {task.id!r} of {task.model.label!r} came without token ids: they cannot be counted"
            )
        forced = completion.end_forced is not None
        thinking_tokens = recount.thinking_tokens(completion.output_ids, thinking_tokens, forced=forced)
    return _row(
        task,
        extracted=extracted,
        correct=correct,
        graded_by=graded_by,
        thinking=_storable(completion.thinking),
        answer=answer,
        thinking_tokens=thinking_tokens,
        answer_tokens=completion.answer_tokens,
        waits=completion.waits,
        end_forced=completion.end_forced,
        finish_reason=completion.finish_reason,
    )


def failure(task: Task, error: str) -> dict[str, Any]:
    """The Evaluation row of a request that failed for good."""
    return _row(
        task,
        extracted=None,
        correct=False,
        graded_by="not graded",
        thinking="",
        answer="",
        thinking_tokens=0,
        answer_tokens=0,
        waits=0,
        finish_reason="error",
        error=error,
    )


def _row(task: Task, **measured: Any) -> dict[str, Any]:
    assert task.question.answer is not None
    evaluation = Evaluation(
        id=task.id,
        question_id=task.question.id,
        sample=task.sample,
        model=task.model.label,
        arm=task.arm.name,
        max_thinking_tokens=task.arm.max_tokens,
        waits_asked=task.arm.waits,
        domain=task.question.domain,
        gold=task.question.answer,
        **measured,
    )
    return dataclasses.asdict(evaluation)


def _storable(text: str) -> str:
    # A model can write half of a surrogate pair; neither JSON lines nor Parquet can hold it.
    return text.encode("utf-8", errors="replace").decode("utf-8")
