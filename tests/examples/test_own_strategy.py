"""The strategy of examples/own_strategy."""

from __future__ import annotations

import asyncio

from s1ray.config import load_config
from s1ray.evaluation.config import EvalConfig
from s1ray.evaluation.strategies.base import Sampling, Strategy
from s1ray.generation import GenerationRequest
from s1ray.schemas import Completion, Question, question_id

QUESTION = Question(id=question_id("What is 5 + 7?"), question="What is 5 + 7?", answer="12")


class Samples:
    """A generator that gives prepared answers, each after 10 thinking tokens."""

    def __init__(self, *answers: str) -> None:
        self._answers = iter(answers)
        self.requests: list[GenerationRequest] = []

    async def complete(self, request: GenerationRequest) -> Completion:
        self.requests.append(request)
        return Completion(
            id=request.id,
            thinking="",
            answer=next(self._answers),
            prompt_tokens=5,
            thinking_tokens=10,
            answer_tokens=3,
        )

    async def close(self) -> None: ...


def vote(*answers: str) -> tuple[Completion, Samples]:
    (strategy,) = (arm for arm in arms() if arm.strategy == "majority_vote")
    samples = Samples(*answers)
    return asyncio.run(strategy(samples, QUESTION, 0, Sampling(answer_tokens=32), seed=1)), samples


def arms() -> list[Strategy]:
    return load_config(EvalConfig, "examples/own_strategy/eval.yaml").all_arms()


def test_the_arms_have_labels_and_limits() -> None:
    assert [arm.name for arm in arms()] == ["max=64", "max=256 waits=1", "vote 4 of max=64"]
    assert arms()[-1].limits == (0, 256)


def test_the_most_common_answer_wins() -> None:
    completion, samples = vote("Final Answer: 13", "Answer: 12", "\\boxed{12}", "Final Answer: 12")
    assert completion.answer == "Answer: 12"
    assert len({request.seed for request in samples.requests}) == 4


def test_samples_without_an_answer_do_not_vote() -> None:
    completion, _ = vote(*["It is hard to say.\nI give up."] * 3, "Final Answer: 7")
    assert completion.answer.endswith("7")
