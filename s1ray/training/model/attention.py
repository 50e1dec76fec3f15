"""Attention in packed rows without a mask: each example attends to itself, one after the other.

A block-diagonal mask over a row of T tokens costs T x T work and memory, almost all of it for pairs that must not
attend to each other, and rules out torch's fast causal kernels. Here a row is cut at the examples' boundaries, and each
piece goes through `scaled_dot_product_attention` with `is_causal`. That is linear in the number of examples, and gives
the same numbers as unpacked rows, on CPU and GPU. It is registered with transformers as `SEGMENTS`, so every model that
uses transformers' attention interface can be trained with it.

Padded rows need no mask either: padding is on the right, where causal attention never looks.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as functional

SEGMENTS = "s1ray_segments"
"""Name of this attention in transformers (`attn_implementation`)."""

AttentionFunction = Callable[..., tuple[torch.Tensor, torch.Tensor | None]]
"""A function with the signature of transformers' attention functions."""


def register(*, flash: bool = False, around: Callable[[AttentionFunction], AttentionFunction] | None = None) -> None:
    """Register the attention of training with transformers, in this process.

    Args:
        flash: transformers' own flash attention rather than `segment_attention`.
        around: wraps it. The name stays the same, because transformers treats flash attention specially by name.
    """
    from transformers import AttentionInterface
    from transformers.integrations.flash_attention import flash_attention_forward

    name, function = ("flash_attention_2", flash_attention_forward) if flash else (SEGMENTS, segment_attention)
    AttentionInterface.register(name, function if around is None else around(function))


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
        segments: boundaries within the row, 0 and T included (batch 1). None: each row is one segment.
        sliding_window: tokens that a token attends to, including itself. None: all before it.

    Returns:
        [batch, T, heads, head size], and None for the attention weights.
    """
    assert attention_mask is None, "segment attention takes no mask"
    dtype = query.dtype
    if query.device.type == "cpu" and dtype is torch.bfloat16:
        # torch's bf16 attention on CPU spends five times as long in the backward pass as its fp32 one.
        query, key, value = query.float(), key.float(), value.float()
    bounds = list(segments) if segments is not None else [0, query.shape[2]]
    grouped = query.shape[1] != key.shape[1]
    pieces = []
    for begin, end in itertools.pairwise(bounds):
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


def _window_mask(length: int, sliding_window: int | None, device: torch.device) -> torch.Tensor | None:
    if sliding_window is None or length <= sliding_window:
        return None
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return causal & causal.new_ones(length, length).triu(1 - sliding_window)
