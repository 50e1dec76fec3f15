"""Attention in packed rows without a mask: each example attends to itself, one after the other.

A block-diagonal mask over a row of T tokens costs T x T work and memory, almost all of it for pairs that must not
attend to each other, and rules out torch's fast causal kernels. Here a row is cut at the examples' boundaries, and each
piece goes through `scaled_dot_product_attention` with `is_causal`. That is linear in the number of examples, and gives
the same numbers as unpacked rows, on CPU and GPU. It is registered with transformers as `SEGMENTS`, so every model that
uses transformers' attention interface can be trained with it.

Padded rows need no mask either: padding is on the right, where causal attention never looks.

The boundaries come with the model's inputs, and reach attention only if each layer passes on the keywords that it does
not know. Some families' layers do not, and some give attention a mask, a bias or a cap of their own. So a call without
boundaries, or with an argument that is not known here, is refused.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as functional

from s1ray.errors import S1rayError

HARMLESS = frozenset({"position_ids", "shift_labels", "use_cache", "output_attentions", "output_router_logits"})
"""Arguments of attention functions that change nothing in what is computed here."""

SEGMENTS = "s1ray_segments"
"""Name of this attention in transformers (`attn_implementation`)."""


class AttentionError(S1rayError):
    """A model asks attention for something that training cannot give."""


AttentionFunction = Callable[..., tuple[torch.Tensor, torch.Tensor | None]]
"""A function with the signature of transformers' attention functions."""


def register(*, flash: bool = False, around: Callable[[AttentionFunction], AttentionFunction] | None = None) -> None:
    """Register the attention of training with transformers, in this process.

    Args:
        flash: transformers' own flash attention rather than `segment_attention`.
        around: wraps it. The name stays the same, because transformers treats flash attention specially by name.
    """
    from transformers import AttentionInterface

    name, function = ("flash_attention_2", flash_attention) if flash else (SEGMENTS, segment_attention)
    AttentionInterface.register(name, function if around is None else around(function))


def flash_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Flash attention of transformers; the arguments are the same.

    Raises:
        AttentionError: the call has no boundaries (`cu_seq_lens_q`).
    """
    from transformers.integrations.flash_attention import flash_attention_forward

    if kwargs.get("cu_seq_lens_q") is None:
        raise _no_boundaries(module)
    output, weights = flash_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return output, weights


def segment_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    segments: Sequence[int] | None = None,
    sliding_window: int | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention within segments; the signature is that of transformers' attention functions.

    Args:
        query: [batch, heads, T, head size]; `key` and `value` may have fewer heads (grouped-query attention).
        attention_mask: must be None; the segments limit what a token attends to.
        segments: boundaries within each row, 0 and T included.
        sliding_window: tokens that a token attends to, including itself. None: all before it.

    Returns:
        [batch, T, heads, head size], and None for the attention weights.

    Raises:
        AttentionError: there are no boundaries, or there is an argument that would have to change the numbers.
    """
    if segments is None:
        raise _no_boundaries(module)
    if attention_mask is not None:
        raise AttentionError(f"{type(module).__name__} makes an attention mask of its own")
    if kwargs.pop("is_causal", None) is False:
        raise AttentionError(f"{type(module).__name__} attends to later tokens, too (is_causal=False)")
    if unknown := sorted(name for name, given in kwargs.items() if given is not None and name not in HARMLESS):
        raise AttentionError(f"{type(module).__name__} asks attention for {', '.join(unknown)}")
    dtype = query.dtype
    if query.device.type == "cpu" and dtype is torch.bfloat16:
        # torch's bf16 attention on CPU spends five times as long in the backward pass as its fp32 one.
        query, key, value = query.float(), key.float(), value.float()
    grouped = query.shape[1] != key.shape[1]
    pieces = []
    for begin, end in itertools.pairwise(segments):
        window = _window_mask(end - begin, sliding_window, query.device)
        pieces.append(
            functional.scaled_dot_product_attention(
                query[:, :, begin:end],
                key[:, :, begin:end],
                value[:, :, begin:end],
                attn_mask=window,
                dropout_p=dropout,
                is_causal=window is None,
                scale=scaling,
                enable_gqa=grouped,
            )
        )
    output = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)
    return output.transpose(1, 2).to(dtype).contiguous(), None


def _no_boundaries(module: torch.nn.Module) -> AttentionError:
    return AttentionError(
        f"{type(module).__name__} does not get the boundaries of the examples: the family's layers do not pass them on"
    )


def _window_mask(length: int, sliding_window: int | None, device: torch.device) -> torch.Tensor | None:
    if sliding_window is None or length <= sliding_window:
        return None
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return causal & causal.new_ones(length, length).triu(1 - sliding_window)
