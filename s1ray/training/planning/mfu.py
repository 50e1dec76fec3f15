"""How much of its devices' arithmetic a run uses: model FLOPs utilization.

MFU (PaLM, arXiv 2204.02311, appendix B) is the floating-point operations that the model needs for a step, divided by
what the devices could do in the step's time. What the model needs:

- 2 a weight and token in the forward pass, 2 in the backward pass for what came in, and 2 more for the weight itself if
  it is trained: 6 in all, 4 for frozen weights. Weights of the output layer count for trained tokens only, as no other
  token goes through it; embeddings are looked up and count for nothing.
- 6 x layers x attention width x sum of squared example lengths, for scores and weighted values: causal, so half of each
  square, and within each example only. (A sliding window needs less; that is not deducted.)

Operations that a setting adds, such as recomputed activations or padding, are no work of the model's: they lower MFU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

PEAK_TFLOPS = {
    "GB200": 2500.0,
    "B200": 2250.0,
    "H200": 989.0,
    "GH200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "H800": 989.0,
    "A100": 312.0,
    "A800": 312.0,
    "A40": 149.7,
    "A10G": 70.0,
    "A10": 125.0,
    "A30": 165.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
    "MI300X": 1307.4,
    "MI250": 362.1,
}
"""Dense bf16 TFLOP/s by a part of the name of the device, from data sheets; the longest part that fits counts."""

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""Config fields of mixtures of experts, of whose weights only some work for a token."""


def peak_flops(device_name: str) -> float | None:
    """Operations a second that a device can do in dense bf16; None where it is not known."""
    fitting = [name for name in PEAK_TFLOPS if name.lower() in device_name.lower()]
    return PEAK_TFLOPS[max(fitting, key=len)] * 1e12 if fitting else None


@dataclasses.dataclass(frozen=True)
class ModelFlops:
    """What a model's step costs, by the formula above."""

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


def model_flops(model: Any) -> ModelFlops | None:
    """Read the costs off a transformers model whose output layer is `CrossEntropyHead`; under ZeRO-3 as well.

    None for mixtures of experts.
    """
    import torch

    from s1ray.training.model.loss import CrossEntropyHead

    text = model.config.get_text_config()
    if any(getattr(text, field, None) for field in EXPERTS):
        return None
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    heads = [module for module in model.modules() if isinstance(module, CrossEntropyHead)]
    head_width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return ModelFlops(
        per_token=sum(_cost(layer.weight) for layer in layers),
        per_trained_token=sum(_cost(head.weight) for head in heads),
        attention=6 * text.num_hidden_layers * text.num_attention_heads * head_width,
    )


def _cost(weight: Any) -> int:
    # Under ZeRO-3 a worker holds a part, and `ds_numel` is the whole.
    return int(getattr(weight, "ds_numel", weight.numel())) * (6 if weight.requires_grad else 4)
