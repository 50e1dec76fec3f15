"""How much memory a worker needs, roughly, before anything is started.

Model states follow the ZeRO paper (arXiv 1910.02054, section 3): with bf16, 2 bytes a parameter for weights, 4 for the
gradients that are accumulated in fp32, 12 for AdamW's master weights and moments; each part divided by the number of
workers once its stage shards it. Activations and logits are estimates from the architecture, for one micro-batch of
full length.
"""

from __future__ import annotations

import dataclasses

from s1ray.training.config import TrainingConfig

ACTIVATION_FACTOR = 34
"""Bytes of bf16 activations that a layer keeps for each token and hidden unit, attention scores not counted
(Korthikanti et al., arXiv 2205.05198, section 4.1)."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What the estimate needs to know of a model."""

    parameters: int
    layers: int
    hidden_size: int
    vocabulary: int


@dataclasses.dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on each worker."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits


def estimate(architecture: Architecture, config: TrainingConfig) -> MemoryEstimate:
    """Peak memory of one worker."""
    workers, stage = config.num_workers, config.zero_stage
    mixed = config.precision != "fp32"
    width = 2 if mixed else 4
    tokens, hidden, layers = config.micro_batch, architecture.hidden_size, architecture.layers
    layer = ACTIVATION_FACTOR * width // 2 * tokens * hidden
    return MemoryEstimate(
        weights=architecture.parameters * width // (workers if stage == 3 else 1),
        gradients=architecture.parameters * 4 // (workers if stage >= 2 else 1),
        optimizer=architecture.parameters * (12 if mixed else 8) // (workers if stage >= 1 else 1),
        activations=layers * width * tokens * hidden + layer if config.gradient_checkpointing else layers * layer,
        # Logits, their exponentials and the gradient in the weights' precision, and the output layer's gradient.
        logits=min(tokens, config.logits_chunk) * architecture.vocabulary * (8 + width)
        + architecture.vocabulary * hidden * 4,
    )
