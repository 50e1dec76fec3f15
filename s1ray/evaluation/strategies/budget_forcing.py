"""Budget forcing (s1, section 3.1): one pass, with the thinking bounded, stretched or both inside the engine."""

from __future__ import annotations

from dataclasses import dataclass

from s1ray.evaluation.config import Arm, Sampling
from s1ray.generation import GenerationRequest, Generator, request_seed
from s1ray.schemas import Completion, Question

DELIMITER_TOKENS = 32
"""Room for the delimiters and the forced beginning of the answer, which count neither as thinking nor as the model's
answer; no format needs as many."""


@dataclass(frozen=True)
class BudgetForcing:
    """One arm's way to answer a question.

    The question is asked as it is, without instructions, as in s1's evaluation.
    """

    arm: Arm
    sampling: Sampling
    seed: int

    async def __call__(self, generator: Generator, question: Question, sample: int) -> Completion:
        """Answer once.

        Raises:
            GenerationError: no completion could be had.
        """
        return await generator.complete(self.request(question, sample))

    def request(self, question: Question, sample: int) -> GenerationRequest:
        """The request for one sample."""
        thinking = self.arm.max_tokens
        return GenerationRequest(
            id=f"{question.id}-{sample}",
            messages=[{"role": "user", "content": question.question}],
            budget=self.arm.budget(self.sampling.answer_tokens),
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            max_tokens=None if thinking is None else thinking + DELIMITER_TOKENS + self.sampling.answer_tokens,
            # The same for every arm and model, so that they differ by their settings and not by chance.
            seed=request_seed(self.seed, f"{question.id}-{sample}") if self.sampling.temperature > 0 else None,
        )
