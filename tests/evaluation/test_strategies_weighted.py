"""Votes by confidence: what weighs how much, and that no response votes without a weight."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from s1ray.errors import InputError
from s1ray.evaluation.strategies.base import Sampling
from s1ray.evaluation.strategies.cost import Metered
from s1ray.evaluation.strategies.weighted_vote import WeightedVote
from s1ray.generation import GenerationRequest
from s1ray.schemas import Completion, Confidence
from tests.support.priced import Priced, Said
from tests.support.scripted_model import questions

QUESTION = questions(1)[0]


def sure(mean: float, **figures: float) -> Confidence:
    given = {"lowest_group": mean, "lowest_tenth": mean, "tail": mean, "self_certainty": mean, "entropy": 1 / mean}
    return Confidence(tokens=9, forced_tokens=0, mean=mean, **given | figures)


class Sure(Priced):
    """Gives each response the confidence that the test wrote down."""

    def __init__(self, said: list[tuple[str, Confidence | None]]) -> None:
        super().__init__([Said(answer) for answer, _ in said])
        self.confidences = [confidence for _, confidence in said]

    async def complete(self, request: GenerationRequest) -> Completion:
        place = len(self.seen)
        return dataclasses.replace(await super().complete(request), confidence=self.confidences[place])


def taken(arm: WeightedVote, *said: tuple[str, Confidence | None]) -> tuple[Completion, Sure]:
    model = Sure(list(said))
    meter = Metered(model)
    completion = asyncio.run(arm(meter, QUESTION, 0, Sampling(answer_tokens=50), seed=0))
    assert meter.cost.calls == len(said)
    return completion, model


def arm(**settings: Any) -> WeightedVote:
    return WeightedVote(votes=3, **settings)


def test_one_sure_response_outweighs_two_unsure_ones_and_the_surest_is_taken() -> None:
    said = (r"\boxed{1}", sure(1.0)), (r"\boxed{2}", sure(5.0)), (r"\boxed{1}", sure(2.0))
    completion, model = taken(arm(top_logprobs=5, window=7), *said)
    assert completion.answer == r"\boxed{2}"
    assert {(request.top_logprobs, request.confidence_window) for request in model.seen} == {(5, 7)}
    completion, _ = taken(arm(), (r"\boxed{1}", sure(3.0)), (r"\boxed{2}", sure(5.0)), (r"\boxed{1}", sure(4.0)))
    assert completion.id.endswith("-2")


@pytest.mark.parametrize(
    "weights", ["confidence", "lowest_group", "lowest_tenth", "tail", "self_certainty", "inverse_entropy"]
)
def test_each_weight_is_the_figure_of_its_name(weights: Any) -> None:
    figure = {"confidence": "mean", "inverse_entropy": "entropy"}.get(weights, weights)
    change: dict[str, Any] = {figure: 0.1 if figure == "entropy" else 10.0}
    surer = dataclasses.replace(sure(1.0), **change)
    said = (r"\boxed{1}", sure(1.0)), (r"\boxed{2}", surer), (r"\boxed{1}", sure(1.0))
    assert taken(arm(weights=weights), *said)[0].answer == r"\boxed{2}"


def test_the_filter_takes_the_vote_from_the_least_sure() -> None:
    said = (r"\boxed{1}", sure(2.0)), (r"\boxed{1}", sure(2.0)), (r"\boxed{2}", sure(3.0))
    assert taken(arm(), *said)[0].answer == r"\boxed{1}"
    assert taken(arm(keep=0.34), *said)[0].answer == r"\boxed{2}"


def test_ranks_take_the_weights_place() -> None:
    said = (r"\boxed{1}", sure(2.0)), (r"\boxed{1}", sure(1.0)), (r"\boxed{2}", sure(50.0))
    assert taken(arm(), *said)[0].answer == r"\boxed{2}"
    assert taken(arm(borda=0.5), *said)[0].answer == r"\boxed{1}"


def test_a_response_without_confidence_does_not_vote_with_weight_one() -> None:
    with pytest.raises(InputError, match="came without its confidence"):
        taken(arm(), (r"\boxed{1}", sure(1.0)), (r"\boxed{1}", None), (r"\boxed{2}", sure(1.0)))


def test_labels_say_what_weighs() -> None:
    assert WeightedVote().name == "confidence vote of 8"
    arms = arm(weights="tail", window=64, keep=0.5, borda=0.5, max_tokens=96, top_logprobs=5)
    assert arms.name == "tail vote of 3 keep=0.5 borda=0.5 max=96 window=64 top=5"
    with pytest.raises(ValueError, match="less than one response"):
        arm(keep=0.3)


def test_without_force_no_budget_is_sent() -> None:
    free = arm(forced=False, max_tokens=100)
    assert not free.forces
    assert free.limits == (0, None)
    _, model = taken(free, *[(r"\boxed{1}", sure(1.0))] * 3)
    assert {(request.budget, request.max_tokens) for request in model.seen} == {(None, 100)}
