"""The load-balancing loss of a mixture of experts (Switch Transformer, arXiv 2101.03961), by transformers' own code.

It is no sum over tokens: it depends on how the tokens of a micro-batch are spread over the experts. Weighted by the
micro-batch's trained tokens it becomes a mean over the global batch, which depends on the layout a little.

Imports torch at the top: for the checks before a run, and for training workers.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from s1ray.config import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from s1ray.training.config import TrainingConfig


@dataclasses.dataclass(frozen=True)
class RouterLoss:
    """How a family computes it."""

    coefficient: float
    experts: int
    chosen: int
    """Experts of a token."""
    function: Callable[[Sequence[torch.Tensor], int, int], torch.Tensor]

    @classmethod
    def of(cls, network: PreTrainedModel, config: TrainingConfig) -> RouterLoss | None:
        """As the run and the model's own config ask for it; None: not at all.

        Raises:
            ConfigError: the run asks for it, and the family has none, or rows are padded.
        """
        text = network.config.get_text_config()
        coefficient = config.router_loss
        if coefficient == "model":
            asked = getattr(text, "output_router_logits", False)
            coefficient = getattr(text, "router_aux_loss_coef", 0.0) if asked else 0.0
        if coefficient in ("off", 0.0):
            return None
        family = type(network)
        function = getattr(sys.modules[family.__module__], "load_balancing_loss_func", None)
        experts, chosen = (getattr(network, name, None) for name in ("num_experts", "num_experts_per_tok"))
        if function is None or experts is None or chosen is None:
            raise ConfigError(
                f"router_loss: {family.__name__} of model {config.model} has no router loss in transformers; use off"
            )
        if not config.packing:
            raise ConfigError("router_loss: padding would be counted as tokens; set packing: true, or router_loss: off")
        return cls(float(coefficient), experts, chosen, function)

    def __call__(self, router_logits: Sequence[torch.Tensor]) -> torch.Tensor:
        """The loss of a micro-batch, times its coefficient (fp32 scalar).

        Args:
            router_logits: [tokens, experts] for each layer that has experts.
        """
        return self.function(router_logits, self.experts, self.chosen).float() * self.coefficient
