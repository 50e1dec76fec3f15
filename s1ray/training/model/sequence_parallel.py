"""Sequence parallelism: several workers share a packed row, for rows whose activations fit no single GPU.

DeepSpeed Ulysses (arXiv 2309.14509). Each worker of a group takes a part of the row's tokens through embeddings, MLPs
and output layer. Only attention needs the other parts, so there an all-to-all exchanges tokens for heads: each worker
gets its share of the heads for the whole row, and another all-to-all reverses the exchange. The attention function in
between does not change. DeepSpeed provides the exchange for transformers' attention functions; `collate` provides rows
and boundaries.

To DeepSpeed's engine the workers of a group are data-parallel workers like all others: each has the loss of its own
tokens, the gradients of all are summed, and ZeRO shards over all of them.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from s1ray.training.model.attention import AttentionFunction
from s1ray.training.model.checks import attention_heads, head_size

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from transformers import PretrainedConfig


def join_group(size: int, *, rank: int, world_size: int) -> ProcessGroup:
    """The process group of the workers that share this worker's rows.

    Groups are consecutive ranks, which Ray Train places on one node where there is room. Every worker must call this.
    """
    groups = [torch.distributed.new_group(list(range(start, start + size))) for start in range(0, world_size, size)]
    return groups[rank // size]


def shared_attention(
    attention: AttentionFunction, model_config: PretrainedConfig, group: ProcessGroup
) -> AttentionFunction:
    """`attention` over the whole row, where each worker of the group passes in and gets back its own tokens."""
    from deepspeed.runtime.sequence_parallel.ulysses_sp import UlyssesSPAttentionHF

    heads, shared_heads = attention_heads(model_config)
    exchange = UlyssesSPAttentionHF(
        attn=attention,
        batch_size=1,
        attn_head_count=heads,
        attn_head_size=head_size(model_config),
        kv_head_count=shared_heads,
        num_hidden_layers=model_config.get_text_config().num_hidden_layers,
        process_group=group,
        seq_length_is_variable=True,
    )

    def attend(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        **kwargs: object,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        # The exchange gathers positions for attention functions that derive the boundaries from them. Ours get the
        # boundaries themselves, so give it next to nothing to gather.
        kwargs["position_ids"] = query.new_zeros(1, 1, dtype=torch.int64)
        output, weights = exchange(module, query, key, value, mask, **kwargs)
        return output, weights

    return attend
