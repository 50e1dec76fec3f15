"""Sequence parallelism: a packed row shared by several workers, for rows whose activations fit no single GPU.

DeepSpeed Ulysses (arXiv 2309.14509). Each worker of a group takes a run of the row's tokens through embeddings, MLPs
and output layer. Only attention looks beyond it, so there an all-to-all exchanges tokens for heads: each worker gets
its share of the heads for the whole row, and another all-to-all brings the result back. Between the two stands the
ordinary attention, which needs not know. The exchange is DeepSpeed's own for transformers' attention functions; rows
and their boundaries are ours (`collate`).

To DeepSpeed's engine the workers of a group are data-parallel ones like all others: each has the loss of its own
tokens, the gradients of all are summed, and ZeRO shards over all of them.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

from typing import Any

import torch

from s1ray.training.model.attention import AttentionFunction
from s1ray.training.planning.requirements import attention_heads


def join_group(size: int, *, rank: int, world_size: int) -> Any:
    """The process group of the workers that share this worker's rows; None where none are shared.

    Groups are runs of neighbouring ranks, which Ray Train puts on one node as far as that has room. Every worker must
    call this.
    """
    if size == 1:
        return None
    groups = [torch.distributed.new_group(list(range(start, start + size))) for start in range(0, world_size, size)]
    return groups[rank // size]


def shared_attention(attention: AttentionFunction, model_config: Any, group: Any) -> AttentionFunction:
    """`attention` over the whole row, where each worker of the group gives and gets its own tokens."""
    from deepspeed.runtime.sequence_parallel.ulysses_sp import UlyssesSPAttentionHF

    text = model_config.get_text_config()
    heads, shared_heads = attention_heads(model_config)
    exchange = UlyssesSPAttentionHF(
        attn=attention,
        batch_size=1,
        attn_head_count=heads,
        attn_head_size=getattr(text, "head_dim", None) or text.hidden_size // heads,
        kv_head_count=shared_heads,
        num_hidden_layers=text.num_hidden_layers,
        process_group=group,
        seq_length_is_variable=True,
    )

    def attend(
        module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        # The exchange gathers positions for attention functions that find the boundaries by them. Ours are told: so
        # let it gather next to nothing.
        kwargs["position_ids"] = query.new_zeros(1, 1, dtype=torch.int64)
        output, weights = exchange(module, query, key, value, mask, **kwargs)
        return output, weights

    return attend
