"""The training loss: cross-entropy summed over trained tokens, without ever holding all logits.

At 32k tokens and Qwen's 152k vocabulary the logits alone are 20 GB in fp32, and the loss wants them three times over.
Only trained positions go through the output layer, and those in chunks; each chunk's gradient is taken while its logits
are there (the softmax minus the target), so the backward pass needs them no more and nothing is computed twice.

The chunks live inside the output layer's own forward: DeepSpeed ZeRO-3 gathers a layer's weights when the layer is
called, and this way it is called once.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

from typing import Any, cast

import torch

IGNORE = -100
"""Label of a position that is not trained."""


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int
    ) -> torch.Tensor:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for begin in range(0, hidden.shape[0], chunk):
            piece, target = hidden[begin : begin + chunk], targets[begin : begin + chunk].unsqueeze(1)
            logits = torch.mm(piece, weight.t()).float()
            normaliser = logits.logsumexp(dim=1, keepdim=True)
            total += (normaliser - logits.gather(1, target)).sum()
            if not (needs_hidden or needs_weight):
                del logits
                continue
            slope = logits.sub_(normaliser).exp_()
            slope.scatter_add_(1, target, slope.new_full(target.shape, -1.0))
            slope = slope.to(hidden.dtype)
            if grad_hidden is not None:
                torch.mm(slope, weight, out=grad_hidden[begin : begin + chunk])
            if grad_weight is not None:
                grad_weight += torch.mm(slope.t(), piece)
            # Names would keep this chunk alive until the next one has been made.
            del logits, slope
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype, ctx.chunk = weight.dtype, chunk
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        grad_hidden, grad_weight = ctx.saved_tensors
        return (
            None if grad_hidden is None else _scaled(grad_hidden, grad, ctx.chunk),
            None if grad_weight is None else (grad_weight * grad).to(ctx.weight_dtype),
            None,
            None,
        )


def _scaled(tensor: torch.Tensor, factor: torch.Tensor, chunk: int) -> torch.Tensor:
    """A tensor times a factor that is not rounded to the tensor's precision first."""
    scaled = torch.empty_like(tensor)
    for begin in range(0, tensor.shape[0], chunk):
        scaled[begin : begin + chunk] = tensor[begin : begin + chunk].float() * factor
    return scaled


class CrossEntropyHead(torch.nn.Module):
    """A model's output layer that gives the loss in place of logits; it shares the layer's weight."""

    def __init__(self, linear: torch.nn.Linear, chunk: int):
        super().__init__()
        self.weight = linear.weight
        self.chunk = chunk

    def forward(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Sum of -log p(target).

        Args:
            hidden: [N, hidden size], the model's last hidden states.
            targets: [N] token ids.

        Returns:
            fp32 scalar; 0 for N = 0, with gradients of 0 for everything.
        """
        return cast(torch.Tensor, _LinearCrossEntropy.apply(hidden, self.weight, targets, self.chunk))


class LossModel(torch.nn.Module):
    """A causal language model whose forward pass gives the loss of a micro-batch, summed over its trained tokens."""

    def __init__(self, model: Any, *, logits_chunk: int):
        """Wrap a transformers model, in place; it is one that `check_network` lets pass."""
        super().__init__()
        model.set_output_embeddings(CrossEntropyHead(model.get_output_embeddings(), logits_chunk))
        self.model = model

    def forward(self, labels: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """Sum over trained tokens of -log p(token | everything before it in its example).

        Args:
            labels: [batch, T]; at each position the id of the *next* token, or `IGNORE`.
            inputs: what the model's decoder takes (`input_ids`, `position_ids`, `segments`).
        """
        hidden = self.model.base_model(**inputs, use_cache=False).last_hidden_state
        trained = (labels != IGNORE).flatten().nonzero().squeeze(1)
        return cast(
            torch.Tensor,
            self.model.get_output_embeddings()(hidden.flatten(0, 1)[trained], labels.flatten()[trained]),
        )
