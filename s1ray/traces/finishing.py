"""From the attempts at some questions to finished traces: counted, graded, and kept or dropped."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from s1ray.errors import InputError
from s1ray.generation.lengths import length_counter
from s1ray.grading import Grade, extract_answer, grade_by, kind_of
from s1ray.grading.choices import choice_letter
from s1ray.schemas import Question, Trace
from s1ray.teachers.ledger import Answer
from s1ray.traces.config import TracesConfig
from s1ray.traces.judging import UNCLEAR, Judgements, Step, settle
from s1ray.traces.keeping import Majority, chosen, drop_reason, majority

REFERENCE, MAJORITY = "reference", "majority"
"""What `Trace.answer_source` says, or begins with."""
BY_MAJORITY = "by majority answer"
"""Ends `graded_by` where the answer that a trace was graded against is the attempts' own."""
JUDGED = (None, "wrong", "ungraded")
"""Reasons with which the judge is asked: its verdict does not change the others."""

_counter = functools.cache(length_counter)


@dataclass(frozen=True)
class Attempt:
    """What the teacher answered to one ask."""

    sample: int
    answer: Answer | None = None
    error: str | None = None
    """Why there is no answer."""
    judgements: Judgements = field(default_factory=Judgements)

    @property
    def is_whole(self) -> bool:
        """Whether it has come to its end, and so to its answer."""
        return self.answer is not None and self.answer.finish_reason == "stop" and bool(self.answer.attempt.strip())

    @property
    def text(self) -> str:
        """The answer's text, after the thinking."""
        return "" if self.answer is None else self.answer.attempt


@dataclass(frozen=True)
class Finished:
    """A trace, and what becomes of it."""

    trace: Trace
    error: str | None
    reason: str | None
    """Why it is dropped."""
    step: Step | None
    """What the judge must be asked before the verdict is final."""


def finish(
    questions: Sequence[tuple[Question, Sequence[Attempt]]], config: TracesConfig, *, counted: bool = True
) -> list[list[Finished]]:
    """Count, grade, and keep or drop the attempts at some questions.

    Args:
        questions: each with all of its attempts.
        config: the stage's.
        counted: whether tokens are counted, which takes longer than all the rest. False: they are 0.
    """
    count = _counter(config.tokenizer) if counted else _uncounted
    answers = [attempt.answer for _, attempts in questions for attempt in attempts]
    thinking = count(["" if answer is None else answer.thinking for answer in answers])
    written = count(["" if answer is None else answer.attempt for answer in answers])
    lengths = zip(thinking, written, strict=True)
    return [
        _finish_question(question, attempts, [next(lengths) for _ in attempts], config)
        for question, attempts in questions
    ]


def _uncounted(texts: Sequence[str]) -> list[int]:
    return [0] * len(texts)


def _finish_question(
    question: Question, attempts: Sequence[Attempt], lengths: Sequence[tuple[int, int]], config: TracesConfig
) -> list[Finished]:
    has_reference = bool(question.answer and question.answer.strip())
    most = None
    if config.per_question == "best" or (config.majority_answers and not has_reference):
        most = _majority(question, attempts)
    source = REFERENCE if has_reference else None
    if not has_reference and config.majority_answers and most is not None and most.is_absolute:
        question, source = replace(question, answer=most.answer), f"{MAJORITY} {most.votes}/{most.of}"
    graded = [_grade(question, source, attempt, config) for attempt in attempts]
    traces = [
        _trace(question, source, *parts, config=config)
        for parts in zip(attempts, (grade for grade, _ in graded), lengths, strict=True)
    ]
    reasons = [drop_reason(trace, attempt.error, config) for trace, attempt in zip(traces, attempts, strict=True)]
    left = [place for place, reason in enumerate(reasons) if reason is None]
    agrees = [most is not None and place in most.places for place in left]
    kept = {left[place] for place in chosen([traces[place] for place in left], config.per_question, agrees)}
    for place in set(left) - kept:
        reasons[place] = f"not the {config.per_question}"
    return [
        Finished(trace, attempt.error, reason, step if reason in JUDGED else None)
        for trace, attempt, reason, (_, step) in zip(traces, attempts, reasons, graded, strict=True)
    ]


def _majority(question: Question, attempts: Sequence[Attempt]) -> Majority | None:
    """Of the attempts that are whole; `places` are among all of them."""
    kind = kind_of(question.metadata)
    whole = [place for place, attempt in enumerate(attempts) if attempt.is_whole]
    found = majority([_final_answer(attempts[place].text, kind) for place in whole])
    return found and replace(found, places=frozenset(whole[place] for place in found.places))


def _final_answer(text: str, kind: str | None) -> str | None:
    """The answer that a text states. None: there is none."""
    extraction = extract_answer(text, kind)
    if extraction is None or extraction.how == "last_line":
        # A guess: attempts that all end in the same pleasantry do not agree on an answer.
        return None
    return choice_letter(extraction.value) if kind == "choice" else extraction.value


def _grade(
    question: Question, source: str | None, attempt: Attempt, config: TracesConfig
) -> tuple[Grade | None, Step | None]:
    """The verdict on an attempt, None where there is nothing to say, and what the judge must be asked first."""
    if source is None or attempt.answer is None:
        return None, None
    assert question.answer is not None
    grade = functools.partial(
        grade_by,
        config.grader,
        question.answer,
        kind=kind_of(question.metadata),
        where=f"sample {attempt.sample} of question {question.id!r}",
    )
    try:
        graded = grade(attempt.text)
    except InputError:
        # A grader may refuse a reference; the trace is then ungraded, like one of a question without an answer.
        return None, None
    if source != REFERENCE:
        return replace(graded, graded_by=f"{graded.graded_by}, {BY_MAJORITY}"), None
    if config.judge is None or not attempt.is_whole or graded.verdict not in UNCLEAR:
        return graded, None
    return settle(graded, attempt.judgements, grade, config.judge.label)


def _trace(
    question: Question,
    source: str | None,
    attempt: Attempt,
    grade: Grade | None,
    lengths: tuple[int, int],
    *,
    config: TracesConfig,
) -> Trace:
    key, answer = f"{question.id}-{attempt.sample}", attempt.answer
    usage = None if answer is None else answer.usage
    sampling = config.teacher.sampling(key, config.seed)
    return Trace(
        id=key,
        question_id=question.id,
        sample=attempt.sample,
        question=question.question,
        answer=question.answer,
        answer_source=source,
        domain=question.domain,
        thinking="" if answer is None else answer.thinking,
        attempt=attempt.text,
        teacher=config.teacher.label,
        thinking_tokens=lengths[0],
        attempt_tokens=lengths[1],
        finish_reason="error" if answer is None else answer.finish_reason,
        correct=None if grade is None else grade.correct,
        graded_by=None if grade is None else grade.graded_by,
        verdict=None if grade is None else grade.verdict,
        sampling=None if sampling is None else json.dumps(sampling, sort_keys=True),
        model_version=None if answer is None else answer.model_version,
        prompt_tokens=None if usage is None else usage.prompt_tokens,
        cached_tokens=None if usage is None else usage.cached_tokens,
        completion_tokens=None if usage is None else usage.completion_tokens,
    )
