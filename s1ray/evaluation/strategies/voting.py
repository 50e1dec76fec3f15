"""The vote over several responses to one question."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from s1ray.evaluation.metrics import majority
from s1ray.grading import extract_answer, kind_of, vote_classes
from s1ray.schemas import Completion, Question


async def elect(question: Question, responses: Sequence[Completion]) -> Completion:
    """The first response that gives the most common answer; ties go to the answer that comes first, as in s1's harness.

    Equal values are one answer, however they are written ("1/2", "0.5"). A response whose answer cannot be read, or is
    only a guess from its last line, has no vote; where none has one, the first response is taken.

    Args:
        question: what was asked; its reference answer is not looked at.
        responses: at least one, in the order that decides ties.
    """
    kind = kind_of(question.metadata)
    found = [extract_answer(response.answer, kind) for response in responses]
    values = [answer.value if answer and answer.how != "last_line" else None for answer in found]
    # Algebra can take seconds; other requests must not wait for it.
    winner = majority(await asyncio.to_thread(vote_classes, values))
    return responses[0 if winner is None else winner]
