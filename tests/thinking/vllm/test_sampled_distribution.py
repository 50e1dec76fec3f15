"""What comes out of vLLM's own sampler with the processor in it, drawn many times, against "sample, then replace"."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessors
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.sample.sampler import Sampler

import s1ray.thinking.logit_edits as logit_edits
from s1ray.thinking.vllm.processor import BudgetForcingProcessor
from tests.support.toy import COMMA, EOS, THINK, TURN, VOCAB, WAIT, X, toy_plan
from tests.support.toy_engine import CONFIG, WIDTH, params

ROWS, STEPS = 400, 100
WITHIN = 0.015
"""Total variation that 40,000 draws from the right distribution stay under (their mean is about 0.007)."""


def model_logits() -> torch.Tensor:
    logits = torch.randn(WIDTH, generator=torch.Generator().manual_seed(11)) * 1.5
    logits[[EOS, TURN, WAIT, X, COMMA]] = torch.tensor([1.2, 1.0, 1.1, 2.0, 1.9])
    return logits


def drawn(
    temperature: float, *, top_k: int | None = None, top_p: float | None = None, presence: float = 0.0
) -> torch.Tensor:
    """The share of each id among draws for requests that would swallow a stop, and have written "X" before."""
    torch.manual_seed(0)
    made, outputs = BudgetForcingProcessor(CONFIG, torch.device("cpu"), False), [[X] for _ in range(ROWS)]
    plan = toy_plan(waits=1)
    added = [(i, params(plan, temperature=temperature, seed=i), [TURN, THINK], outputs[i]) for i in range(ROWS)]
    made.update_state(BatchUpdate(ROWS, [], added, []))
    no_penalty = torch.zeros(ROWS)
    metadata = SamplingMetadata(
        temperature=torch.full((ROWS,), temperature),
        all_greedy=False,
        all_random=True,
        top_p=None if top_p is None else torch.full((ROWS,), top_p),
        top_k=None if top_k is None else torch.full((ROWS,), top_k, dtype=torch.int32),
        generators={},
        max_num_logprobs=None,
        no_penalties=presence == 0,
        prompt_token_ids=torch.full((ROWS, 1), WIDTH),
        frequency_penalties=no_penalty,
        presence_penalties=torch.full((ROWS,), presence),
        repetition_penalties=torch.ones(ROWS),
        output_token_ids=outputs,
        allowed_token_ids_mask=None,
        bad_words_token_ids={},
        logitsprocs=LogitsProcessors([made]),
    )
    counts = torch.zeros(WIDTH)
    # vLLM compiles the last step of its sampler, which takes 20 seconds and draws the same.
    with torch.compiler.set_stance("force_eager"):
        for _ in range(STEPS):
            sampled = Sampler()(model_logits().repeat(ROWS, 1), metadata).sampled_token_ids.flatten()
            counts += torch.bincount(sampled, minlength=WIDTH)
    return counts / counts.sum()


def replaced(probabilities: torch.Tensor) -> torch.Tensor:
    """What the swallowed stops' probability makes of a distribution."""
    result = probabilities.clone()
    result[WAIT] += result[EOS] + result[TURN]
    result[[EOS, TURN]] = 0
    return result


def softmax(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    logits = logits.clone()
    logits[VOCAB:] = -torch.inf
    return torch.softmax(logits / temperature, 0)


def truncated(probabilities: torch.Tensor, *, top_k: int | None = None, top_p: float | None = None) -> torch.Tensor:
    ordered, ids = probabilities.sort(descending=True)
    keep = torch.ones_like(ordered, dtype=torch.bool)
    if top_k is not None:
        keep[top_k:] = False
    if top_p is not None:
        keep &= ordered.cumsum(0) - ordered < top_p
    result = torch.zeros_like(probabilities)
    result[ids[keep]] = ordered[keep]
    return result / result.sum()


def apart(left: torch.Tensor, right: torch.Tensor) -> float:
    """Total variation distance."""
    return float((left - right).abs().sum() / 2)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_a_draw_is_a_sampled_and_then_replaced_one(temperature: float) -> None:
    assert apart(drawn(temperature), replaced(softmax(model_logits(), temperature))) < WITHIN


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_the_bound_finds_a_mistake(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # The best of the logits instead of their pooled one, which is right for greedy sampling alone.
    monkeypatch.setattr(logit_edits, "pooled", lambda logits, temperature: logits.amax(1))
    assert apart(drawn(temperature), replaced(softmax(model_logits(), temperature))) > 3 * WITHIN


@pytest.mark.parametrize("cut", [{"top_k": 3}, {"top_p": 0.6}])
def test_a_truncated_tail_is_cut_after_the_replacement(cut: dict[str, Any]) -> None:
    whole = softmax(model_logits(), 1.0)
    found = drawn(1.0, **cut)
    assert apart(found, truncated(replaced(whole), **cut)) < WITHIN
    # The other order is another distribution: that is what "not exact" means here.
    assert apart(found, replaced(truncated(whole, **cut))) > 3 * WITHIN


def test_penalties_apply_to_the_replaced_distribution() -> None:
    logits = model_logits()
    moved = replaced(softmax(logits, 1.0)).log()
    moved[X] -= 1.5
    assert apart(drawn(1.0, presence=1.5), torch.softmax(moved, 0)) < WITHIN
