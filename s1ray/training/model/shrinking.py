"""A model's config made small: the same class, flags and kinds of layers, in widths that a CPU computes in no time.

What decides whether a family can be trained is what its layers do, not how wide they are. So widths, heads, experts and
vocabulary shrink, while everything that selects code stays: activations, norms, biases, rotary scaling, kinds of
layers. Limits in tokens (sliding windows, chunks, positions) become a few tokens where the run's rows reach them, so
that rows of a few tokens meet them, too; where no row reaches them, they stay out of reach.

Imports nothing heavy.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ROWS = (7, 13, 21)
"""Lengths of the examples that a small copy is tried on, in tokens."""
WINDOW = 5
"""A limit in tokens that most of an example's tokens meet."""
POSITIONS = 16
"""A limit in tokens that only the longest example meets."""
OUT_OF_REACH = 64
"""A limit in tokens that even a row of all examples does not meet."""
VOCABULARY = 64
HEADS = 4
HIDDEN = 32
MAX_LAYERS = 12
"""Most layers of the copy that are the model's first ones. If all kinds need more, it has one of each kind."""

_SIZES: tuple[tuple[str, int], ...] = (
    (r"(decoder_)?vocab_size(_per_layer_input)?|unpadded_vocab_size", VOCABULARY),
    (r"(hidden|embedding|input_embedding|output_embedding|attention_hidden)_size|embedding_dim", HIDDEN),
    (r"n_embd|d_model|emb_dim|word_embed_proj_dim|dim_model_base|lru_width|ple_embed_dim", HIDDEN),
    (r"(\w+_)?intermediate_size(_mlp)?|(\w+_)?ffn_hidden_size|ffn_dim|(de|en)coder_ffn_dim|dff|dim_ff|n_inner", 48),
    (r"feed_forward_size|d_inner", 48),
    (r"(\w+_)?num_attention_heads|n_heads?|num_heads|(\w+_)?attention_heads|num_query_groups", HEADS),
    (r"(qk_nope|qk_rope|v|linear|index)_head_dim|kv_channels|d_head|dim_head|attention_head_size", 8),
    (r"(q|kv|o)_lora_rank|laurel_rank|gated_norm_rank|hc_lowrank|router_hidden_size|rotary_dim|hidden_size_per_.*", 8),
    (r"qk_head_dim", 16),
    (r"num_experts|n_routed_experts|num_local_experts|moe_num_experts", 4),
    (r"num_experts_per_tok(en)?|moe_topk|moe_k|n_group|num_expert_group|top_k", 2),
    (r"topk_group|n_shared_experts|num_shared_experts|moe_num_shared_experts|num_nextn_predict_layers", 1),
    (r"linear_num_(key|value)_heads|linear_num_heads|index_n_heads|mamba_n_heads|n_mamba_heads|mamba_num_heads", HEADS),
    (r"linear_(key|value)_head_dim|mamba_d_state|ssm_state_size|state_size", 8),
    (r"mamba_d_ssm", 2 * HIDDEN),
    (r"mamba_n_groups|mamba_ngroups|n_groups", 2),
    (r"image_size", 16),
    (r"patch_size", 8),
)
"""Names of sizes, and the most that they may be in the copy."""
_LIMITS = r"sliding_window(_size)?|attention_chunk_size|window_size|local_attention|floor_scale|attention_window_size"
_POSITIONS = r"(original_)?max_position_embeddings|n_positions|n_ctx|max_seq_len|max_target_positions"
_LAYERS = r"num_hidden_layers|n_layers?|num_layers|(num_)?(en|de)coder_layers"
_KEY_VALUE_HEADS = r"(\w+_)?num_key_value_heads|num_kv_heads|kv_n_heads|multi_query_group_num"
_PERIODS = r"\w+_period|global_attn_every_n_layers|_?sliding_window_pattern|no_rope_layer_interval|layer_group_size"
_DENSE = r"first_k_dense_replace|num_dense_layers|moe_layer_start_index|interleave_moe_layer_step"
_SHARED = "num_kv_shared_layers"
_CAPS = r"attn_logit_softcapping|final_logit_softcapping"


def shrink(config: PretrainedConfig, *, longest_example: int, longest_row: int) -> PretrainedConfig:
    """A small copy of a model's config.

    Args:
        longest_example: tokens that an example of the run may have.
        longest_row: tokens that a packed row of the run may have.
    """
    small = copy.deepcopy(config)
    for nested in _configs(small):
        _shrink(nested, longest_example, longest_row)
    for field in ("quantization_config", "compression_config"):
        if hasattr(small, field):
            delattr(small, field)
    return small


def limits_in_tokens(config: PretrainedConfig) -> dict[str, int]:
    """The fields that limit how far tokens see or how long an example may be, and their values in tokens."""
    fields = {name: value for name, value in vars(config.get_text_config()).items() if isinstance(value, int)}
    return {name: value for name, value in fields.items() if re.fullmatch(f"{_LIMITS}|{_POSITIONS}", name)}


def _configs(config: PretrainedConfig) -> list[PretrainedConfig]:
    nested = [value for value in vars(config).values() if hasattr(value, "to_dict") and hasattr(value, "model_type")]
    return [config, *(found for value in nested for found in _configs(value))]


def _shrink(config: PretrainedConfig, longest_example: int, longest_row: int) -> None:
    # Fields that differ between layers come back once the layers are cut.
    spec = vars(config).pop("_heterogeneity_spec", None)
    overrides: dict[int, dict[str, Any]] = {} if spec is None else spec.per_layer_overrides
    fields: dict[str, Any] = {name: value for name, value in vars(config).items() if value is not None}
    numbers = {name: value for name, value in fields.items() if isinstance(value, int) and not isinstance(value, bool)}
    heads = next((v for n, v in numbers.items() if re.fullmatch(r"num_attention_heads|n_heads?|num_heads", n)), HEADS)
    width = next((v for n, v in numbers.items() if re.fullmatch(r"hidden_size|n_embd|d_model", n)), HIDDEN)
    for name, value in numbers.items():
        setattr(config, name, _small(name, value))
        if re.fullmatch(_KEY_VALUE_HEADS, name):
            setattr(config, name, HEADS if value >= heads else min(value, HEADS // 2))
        elif re.fullmatch(r"((swa|global)_)?head_dim", name):
            rotated = value == numbers.get("qk_rope_head_dim")
            setattr(config, name, HIDDEN // HEADS if rotated or value * heads == width else 2 * HIDDEN // HEADS)
        elif re.fullmatch(r"mamba_d_head|mamba_headdim|mamba_head_dim", name):
            setattr(config, name, 2 * HIDDEN // HEADS)
        elif re.fullmatch(_LIMITS, name):
            setattr(config, name, WINDOW if value < longest_row else OUT_OF_REACH)
        elif re.fullmatch(_POSITIONS, name):
            setattr(config, name, POSITIONS if value < longest_example else OUT_OF_REACH)
        elif re.fullmatch(r"\w+_(token_id|index)", name):
            setattr(config, name, min(value, VOCABULARY - 1))
    for name, value in fields.items():
        if re.fullmatch(_CAPS, name):
            # At their usual size, logits of random weights would not come near them.
            setattr(config, name, min(value, 2.0))
        elif name in ("rope_parameters", "rope_scaling") and isinstance(value, dict):
            _shrink_rope(value, longest_example, HIDDEN // HEADS)
    if getattr(config, "output_router_logits", False):
        config.output_router_logits = False
    _cut_layers(config, fields, numbers, overrides)


def _small(name: str, value: Any) -> Any:
    """A size in the copy; other values as they are."""
    return next((min(value, most) for pattern, most in _SIZES if re.fullmatch(pattern, name)), value)


def _shrink_rope(rope: dict[str, Any], longest_example: int, head_size: int) -> None:
    for name, value in rope.items():
        if isinstance(value, dict):
            _shrink_rope(value, longest_example, head_size)
        elif name == "original_max_position_embeddings":
            rope[name] = POSITIONS if value < longest_example else OUT_OF_REACH
        elif name in ("long_factor", "short_factor"):
            rope[name] = value[: head_size // 2]


def _cut_layers(
    config: PretrainedConfig,
    fields: dict[str, Any],
    numbers: dict[str, int],
    overrides: dict[int, dict[str, Any]],
) -> None:
    """Keep the first layers, as many as it takes to have one of each kind."""
    counts = {name: value for name, value in numbers.items() if re.fullmatch(_LAYERS, name)}
    if not counts:
        return
    total = max(counts.values())
    # A rising list of numbers names layers, rather than having a value for each.
    lists = {
        n: list(v)
        for n, v in fields.items()
        if isinstance(v, list | tuple) and len(v) == total > 1 and not (len(set(v)) == total and sorted(v) == list(v))
    }
    rows = [*lists.values(), [overrides.get(layer) for layer in range(total)]]
    kinds = [repr(kind) for kind in zip(*rows, strict=True)]
    first = sorted(kinds.index(kind) for kind in set(kinds))
    periods = [v for n, v in numbers.items() if re.fullmatch(_PERIODS, n)]
    dense = {n: v for n, v in numbers.items() if re.fullmatch(_DENSE, n) and v < total}
    count = max(2, first[-1] + 1, *periods, *(v + 1 for v in dense.values()))
    kept = list(range(min(count, total)))
    if count > MAX_LAYERS:
        kept = first if len(first) > 1 else first * 2
        for name in dense:
            setattr(config, name, 1)
    if numbers.get(_SHARED):
        # The last layers use the keys and values of earlier ones: as many earlier ones as have all kinds.
        kept = [*kept, *kept]
        setattr(config, _SHARED, len(kept) // 2)
    for name, value in lists.items():
        setattr(config, name, [_small(name, value[index]) for index in kept])
    for name in counts:
        setattr(config, name, len(kept))
    if overrides:
        config.per_layer_config = {
            place: {field: _layer_field(field, value) for field, value in overrides.get(layer, {}).items()}
            for place, layer in enumerate(kept)
        }


def _layer_field(name: str, value: Any) -> Any:
    if name == "head_dim":
        return 2 * HIDDEN // HEADS
    return min(value, HEADS // 2) if re.fullmatch(_KEY_VALUE_HEADS, name) else _small(name, value)
