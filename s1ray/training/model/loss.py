"""The training loss: cross-entropy summed over trained tokens, without ever holding all logits.

At 32k tokens and Qwen's 152k vocabulary the logits alone are 20 GB in fp32, and the plain loss holds three copies.
Here only trained positions go through the output layer, in chunks. Each chunk's gradient (the softmax minus the target)
is computed while its logits exist, so the backward pass does not need them and nothing is computed twice.

The loop over chunks is inside the output layer's own forward pass: DeepSpeed ZeRO-3 gathers a layer's weights whenever
the layer is called, and this way it is called once.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from s1ray.training.data.collate import IGNORE

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx
    from transformers import PreTrainedModel


class _LinearCrossEntropy(torch.autograd.Function):  # type: ignore[misc]  # torch is not type-checked
    @staticmethod
    def forward(
        ctx: FunctionCtx, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int
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
            # The names would keep this chunk alive until the next one exists.
            del logits, slope
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype, ctx.chunk = weight.dtype, chunk
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        grad_hidden, grad_weight = ctx.saved_tensors
        return (
            None if grad_hidden is None else _scaled(grad_hidden, grad, ctx.chunk),
            None if grad_weight is None else (grad_weight * grad).to(ctx.weight_dtype),
            None,
            None,
        )


def _scaled(tensor: torch.Tensor, factor: torch.Tensor, chunk: int) -> torch.Tensor:
    """The product of a tensor and a factor, without rounding the factor to the tensor's precision first."""
    scaled = torch.empty_like(tensor)
    for begin in range(0, tensor.shape[0], chunk):
        scaled[begin : begin + chunk] = tensor[begin : begin + chunk].float() * factor
    return scaled


class CrossEntropyHead(torch.nn.Module):  # type: ignore[misc]  # torch is not type-checked
    """An output layer that returns the loss instead of logits; it shares the weight of the layer that it replaces."""

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


class LossModel(torch.nn.Module):  # type: ignore[misc]  # torch is not type-checked
    """A causal language model whose forward pass returns the loss of a micro-batch, summed over its trained tokens."""

    def __init__(self, model: PreTrainedModel, *, logits_chunk: int):
        """Wrap a transformers model that `check_network` accepts, in place."""
        super().__init__()
        model.set_output_embeddings(CrossEntropyHead(model.get_output_embeddings(), logits_chunk))
        self.model = model

    def forward(self, labels: torch.Tensor, **inputs: object) -> torch.Tensor:
        """Sum over trained tokens of -log p(token | everything before it in its example).

        Args:
            labels: [batch, T]; at each position the id of the *next* token, or `IGNORE`.
            inputs: the decoder's (`input_ids`, `position_ids`, and the boundaries of the examples).
        """
        hidden = self.model.base_model(**inputs, use_cache=False).last_hidden_state
        trained = (labels != IGNORE).flatten().nonzero().squeeze(1)
        return cast(
            torch.Tensor,
            self.model.get_output_embeddings()(hidden.flatten(0, 1)[trained], labels.flatten()[trained]),
        )
