"""A test-time strategy of your own: majority voting over short thoughts (self-consistency, arXiv 2203.11171).

One arm asks each question several times and keeps the answer that most samples agree on. The runner counts the tokens
of all samples, so that the report compares it with one long thought at equal cost.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from pydantic import Field

from s1ray.evaluation.strategies.base import Sampling, Strategy
from s1ray.generation import GenerationRequest, Generator, request_seed
from s1ray.grading import extract_answer, vote_classes
from s1ray.schemas import Completion, Question
from s1ray.thinking.budget import ThinkingBudget


class MajorityVote(Strategy):
    """Several samples, one vote."""

    strategy: str = "majority_vote"
    votes: int = Field(default=5, ge=1)
    """Samples of each question."""
    max_tokens: int = Field(default=64, ge=0)
    """Thinking tokens of each sample at most."""
    temperature: float = Field(default=0.8, gt=0)
    """Of the samples; they must differ."""

    def describe(self) -> str:
        """The arm's label."""
        return f"vote {self.votes} of max={self.max_tokens}"

    @property
    def requests(self) -> int:
        """Requests for one answer."""
        return self.votes

    @property
    def at_once(self) -> int:
        """All of them are in flight together."""
        return self.votes

    @property
    def budget(self) -> ThinkingBudget:
        """Of each request. With their number it is what the thinking tokens of a result are checked against."""
        return ThinkingBudget(max_tokens=self.max_tokens)

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Ask `votes` times at once, and return a sample with the most common answer."""
        requests = [self._request(question, sample, vote, sampling, seed) for vote in range(self.votes)]
        samples = await asyncio.gather(*(generator.complete(request) for request in requests))
        answers = [extract_answer(each.answer) for each in samples]
        # A last line that is no answer by its own words does not vote.
        values = [answer.value if answer and answer.how != "last_line" else None for answer in answers]
        # "1/2" and "0.5" are one answer. Algebra can take seconds; other requests must not wait for it.
        classes = await asyncio.to_thread(vote_classes, values)
        votes = Counter(number for number in classes if number is not None)
        winner = classes.index(votes.most_common(1)[0][0]) if votes else 0
        return samples[winner]

    def _request(self, question: Question, sample: int, vote: int, sampling: Sampling, seed: int) -> GenerationRequest:
        key, answer = f"{question.id}-{sample}-{vote}", sampling.answer_tokens
        return GenerationRequest(
            id=key,
            messages=[{"role": "user", "content": question.question}],
            budget=ThinkingBudget(max_tokens=self.max_tokens, answer_reserve=answer, answer_max_tokens=answer),
            temperature=self.temperature,
            top_p=sampling.top_p,
            # 32 tokens are room enough for the delimiters and the end of the response.
            max_tokens=self.max_tokens + answer + 32,
            seed=request_seed(seed, key),
        )
