"""A toy model behind vLLM's interfaces: its configuration, its logits, its requests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from vllm import SamplingParams

from s1ray.thinking.plan import EXTRA_ARG, ForcingPlan
from tests.support.toy import EOS, HMM, NEWLINE, TURN, VOCAB, WAIT

WIDTH = VOCAB + 4
"""Rows of the embedding: four more than the tokenizer knows."""
CONTEXT = 300
CONFIG: Any = SimpleNamespace(model_config=SimpleNamespace(get_vocab_size=lambda: WIDTH, max_model_len=CONTEXT))


def params(plan: ForcingPlan | None = None, temperature: float = 0.0, **further: Any) -> SamplingParams:
    """A request's parameters; its plan travels in them."""
    extra = {EXTRA_ARG: plan.to_json()} if plan is not None else None
    return SamplingParams(temperature=temperature, extra_args=extra, **({"max_tokens": None} | further))


def model_logits(key: int, position: int) -> torch.Tensor:
    """What the model says to request `key` at a position: random, often keen to stop or to wait, or circling."""
    generator = torch.Generator().manual_seed(key * 100_003 + position)
    logits = torch.randn(WIDTH, generator=generator)
    if key % 3 == 2:
        period = 1 + key % 11
        logits[[12, 13, 14, NEWLINE][(position % period) % 4 if position % 50 > 2 else position % 4]] += 9
    logits[[EOS, TURN, WAIT, HMM, NEWLINE, WIDTH - 1]] += torch.randint(0, 2, (6,), generator=generator) * 2.5
    return logits
