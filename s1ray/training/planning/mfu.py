"""Model FLOPs utilization (MFU): how much of its devices' arithmetic a run uses.

MFU (PaLM, arXiv 2204.02311, appendix B) is the floating-point operations that the model needs for a step, divided by
what the devices could do in the step's time. What the model needs:

- 2 a weight and token in the forward pass, 2 in the backward pass for what came in, and 2 more for the weight itself if
  it is trained: 6 in all, 4 for frozen weights. Weights of the output layer count for trained tokens only, as no other
  token goes through it; embeddings are looked up and count for nothing.
- 6 x layers x attention width x sum of squared example lengths, for scores and weighted values: causal, so half of each
  square, and within each example only. (A sliding window needs less; that is not deducted.)

Operations that a setting adds, such as recomputed activations or padding, are not the model's work: they lower MFU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

from s1ray.training.model.checks import attention_heads, head_size

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""Config fields of mixtures of experts, of whose weights only some work for a token."""


@dataclasses.dataclass(frozen=True)
class ModelFlops:
    """What an optimizer step of a model costs, by the formula above."""

    per_token: int
    """Operations for each token, attention and output layer left out."""
    per_trained_token: int
    """The output layer's, for each trained token."""
    attention: int
    """6 x layers x attention width."""

    def of_step(self, lengths: Iterable[int], trained_tokens: int) -> float:
        """Floating-point operations of an optimizer step over examples of these lengths."""
        lengths = list(lengths)
        squares = sum(length * length for length in lengths)
        return float(self.per_token * sum(lengths) + self.per_trained_token * trained_tokens + self.attention * squares)


def model_flops(model: PreTrainedModel) -> ModelFlops | None:
    """The costs of a model whose output layer is `CrossEntropyHead`; None for mixtures of experts."""
    import torch

    from s1ray.training.model.loss import CrossEntropyHead

    text = model.config.get_text_config()
    if any(getattr(text, field, None) for field in EXPERTS):
        return None
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    heads = [module for module in model.modules() if isinstance(module, CrossEntropyHead)]
    return ModelFlops(
        per_token=sum(_cost(layer.weight, layer.in_features * layer.out_features) for layer in layers),
        # Under ZeRO-3 a worker holds a part, and `ds_numel` is the whole.
        per_trained_token=sum(
            _cost(head.weight, getattr(head.weight, "ds_numel", head.weight.numel())) for head in heads
        ),
        attention=6 * text.num_hidden_layers * attention_heads(model.config)[0] * head_size(model.config),
    )


def _cost(weight: torch.nn.Parameter, size: int) -> int:
    return size * (6 if weight.requires_grad else 4)
