"""The vote over several responses to one question."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from s1ray.grading import extract_answer, kind_of
from s1ray.schemas import Completion, Question
from s1ray.voting.ballots import Ballot, elect


def ballots_of(
    question: Question, responses: Sequence[Completion], weights: Sequence[float] | None = None
) -> list[Ballot]:
    """Each response's vote. One whose answer cannot be read, or is only a guess from its last line, has none.

    Args:
        question: what was asked; its reference answer is not looked at.
        responses: to it.
        weights: of the responses. None: all weigh the same.
    """
    kind = kind_of(question.metadata)
    found = [extract_answer(response.answer, kind) for response in responses]
    answers = [answer.value if answer and answer.how != "last_line" else None for answer in found]
    return [Ballot(*vote) for vote in zip(answers, weights or [1.0] * len(answers), strict=True)]


async def elect_response(
    question: Question, responses: Sequence[Completion], weights: Sequence[float] | None = None
) -> Completion:
    """The heaviest response that gives the answer with the most weight behind it, the first of equals; ties go to the
    answer that comes first, as in s1's harness. Where nobody has a vote, the first response is taken.

    Args:
        question: what was asked.
        responses: at least one, in the order that decides ties.
        weights: of the responses. None: all weigh the same.
    """
    # Algebra can take seconds; other requests must not wait for it.
    election = await asyncio.to_thread(elect, ballots_of(question, responses, weights))
    return responses[0 if election is None else election.winner]
