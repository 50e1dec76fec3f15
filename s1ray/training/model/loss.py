"""The training loss: cross-entropy summed over trained tokens, without ever holding all logits.

At 32k tokens and Qwen's 152k vocabulary the logits alone are 20 GB in fp32, and the plain loss holds three copies.
Here only trained positions go through the output layer, in chunks. Each chunk's gradient (the softmax minus the target)
is computed while its logits exist, so the backward pass does not need them and nothing is computed twice.

The loop over chunks is inside the output layer's own forward pass: DeepSpeed ZeRO-3 gathers a layer's weights whenever
the layer is called, and this way it is called once.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as functional

from s1ray.config import ConfigError
from s1ray.training.data.collate import IGNORE
from s1ray.training.model.router_loss import RouterLoss

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx
    from transformers import PretrainedConfig, PreTrainedModel


@dataclasses.dataclass(frozen=True)
class LogitShape:
    """What a family does to its logits after the output layer's product."""

    factor: float = 1.0
    """They are multiplied by it."""
    cap: float | None = None
    """Then they become cap * tanh(logits / cap)."""

    @classmethod
    def of(cls, config: PretrainedConfig) -> LogitShape:
        """As a model's config says (Granite's, Cohere's and Gemma's fields)."""
        text = config.get_text_config()
        factor = (getattr(text, "logit_scale", None) or 1.0) / (getattr(text, "logits_scaling", None) or 1.0)
        return cls(factor, getattr(text, "final_logit_softcapping", None))


class _LinearCrossEntropy(torch.autograd.Function):  # type: ignore[misc]  # torch is not type-checked
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        chunk: int,
        shape: LogitShape,
    ) -> torch.Tensor:
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and needs_bias else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for begin in range(0, hidden.shape[0], chunk):
            piece, target = hidden[begin : begin + chunk], targets[begin : begin + chunk].unsqueeze(1)
            logits = torch.mm(piece, weight.t()).float()
            if bias is not None:
                logits += bias
            if shape.factor != 1:
                logits *= shape.factor
            if shape.cap is not None:
                logits.div_(shape.cap).tanh_().mul_(shape.cap)
            normaliser = logits.logsumexp(dim=1, keepdim=True)
            total += (normaliser - logits.gather(1, target)).sum()
            if not (needs_hidden or needs_weight or needs_bias):
                del logits
                continue
            slope = (logits.sub_(normaliser) if shape.cap is None else logits - normaliser).exp_()
            slope.scatter_add_(1, target, slope.new_full(target.shape, -1.0))
            if shape.cap is not None:
                slope *= logits.div_(shape.cap).square_().neg_().add_(1)
            if shape.factor != 1:
                slope *= shape.factor
            if grad_bias is not None:
                grad_bias += slope.sum(dim=0)
            slope = slope.to(hidden.dtype)
            if grad_hidden is not None:
                torch.mm(slope, weight, out=grad_hidden[begin : begin + chunk])
            if grad_weight is not None:
                grad_weight += torch.mm(slope.t(), piece)
            # The names would keep this chunk alive until the next one exists.
            del logits, slope
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.weight_dtype, ctx.chunk = weight.dtype, chunk
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        return (
            None if grad_hidden is None else _scaled(grad_hidden, grad, ctx.chunk),
            None if grad_weight is None else (grad_weight * grad).to(ctx.weight_dtype),
            None if grad_bias is None else (grad_bias * grad).to(ctx.weight_dtype),
            None,
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
    """An output layer that returns the loss instead of logits; it shares the weights of the layer that it replaces."""

    def __init__(self, linear: torch.nn.Linear, chunk: int, shape: LogitShape = LogitShape()):
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias
        self.chunk = chunk
        self.shape = shape

    def forward(self, hidden: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        """Sum of -log p(target); without targets, what the replaced layer gives.

        Args:
            hidden: [N, hidden size], the model's last hidden states.
            targets: [N] token ids.

        Returns:
            fp32 scalar; 0 for N = 0, with gradients of 0 for everything.
        """
        if targets is None:
            return functional.linear(hidden, self.weight, self.bias)
        return cast(
            torch.Tensor,
            _LinearCrossEntropy.apply(hidden, self.weight, self.bias, targets, self.chunk, self.shape),
        )


class LossModel(torch.nn.Module):  # type: ignore[misc]  # torch is not type-checked
    """A causal language model whose forward pass returns the loss of a micro-batch, summed over its trained tokens."""

    def __init__(self, model: PreTrainedModel, *, logits_chunk: int, router_loss: RouterLoss | None = None):
        """Wrap a transformers model, in place.

        Args:
            router_loss: added in training, for each trained token, and left out in evaluation.

        Raises:
            ConfigError: its output layer is not linear.
        """
        super().__init__()
        linear = model.get_output_embeddings()
        if not isinstance(linear, torch.nn.Linear):
            raise ConfigError(f"{type(model).__name__}: training needs a linear output layer, found {linear}")
        head = CrossEntropyHead(linear, logits_chunk, LogitShape.of(model.config))
        model.set_output_embeddings(head)
        self.model = model
        self.router_loss = router_loss

    def _decoder(self) -> torch.nn.Module:
        # Where a family's classes share a name for it that this one does not use (Llama 4), `base_model` is the whole.
        found: torch.nn.Module = self.model.base_model
        return found if found is not self.model else self.model.model

    def forward(self, labels: torch.Tensor, plain: bool = False, **inputs: object) -> torch.Tensor:
        """Sum over trained tokens of -log p(token | everything before it in its example).

        Args:
            labels: [batch, T]; at each position the id of the *next* token, or `IGNORE`.
            plain: by the family's own forward pass and loss, as transformers computes it, for one unpadded example.
            inputs: the decoder's (`input_ids`, `position_ids`, and the boundaries of the examples).
        """
        trained = (labels != IGNORE).flatten().nonzero().squeeze(1)
        if plain:
            unshifted = torch.cat([labels.new_full((len(labels), 1), IGNORE), labels[:, :-1]], dim=1)
            if hasattr(self.model.config.get_text_config(), "output_router_logits"):
                inputs["output_router_logits"] = False  # Or else the loss would contain the router's.
            return cast(torch.Tensor, self.model(**inputs, labels=unshifted, use_cache=False).loss * len(trained))
        router_loss = self.router_loss if self.training else None
        if router_loss is not None:
            inputs["output_router_logits"] = True
        decoded = self._decoder()(**inputs, use_cache=False)
        loss = self.model.get_output_embeddings()(
            decoded.last_hidden_state.flatten(0, 1)[trained], labels.flatten()[trained]
        )
        if router_loss is not None:
            loss = loss + router_loss(decoded.router_logits) * len(trained)
        return cast(torch.Tensor, loss)
