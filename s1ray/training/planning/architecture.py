"""What the memory estimate needs to know of a model, read off its config: no weights are loaded or downloaded."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from s1ray.config import ConfigError
from s1ray.training.config import LoraConfig, TrainingConfig
from s1ray.training.data.batching import RowCost
from s1ray.training.model.checks import attention_heads, head_size, linear_layers, text_config
from s1ray.training.model.pretrained import load_config, why_not_loaded
from s1ray.training.planning.memory import Architecture

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from transformers import PretrainedConfig, PreTrainedModel


def read_architecture(config: TrainingConfig) -> Architecture:
    """The architecture of the model to be trained.

    Raises:
        ConfigError: the model is nowhere, or transformers cannot use its config.
    """
    return describe(network_without_weights(config.model), config.lora)


@functools.lru_cache(maxsize=1)
def network_without_weights(model: str) -> PreTrainedModel:
    """A transformers model on the meta device.

    Raises:
        ConfigError: the model is nowhere, or transformers cannot make a causal language model of its config.
    """
    import torch
    from transformers import AutoModelForCausalLM

    model_config = load_config(model)
    try:
        with torch.device("meta"):
            network: PreTrainedModel = AutoModelForCausalLM.from_config(model_config, trust_remote_code=False)
    except Exception as error:  # A family's own code raises all sorts of errors for a config that it cannot use.
        raise ConfigError(
            f"model {model} ({model_config.model_type}): transformers cannot make a causal language model of its "
            f"config ({why_not_loaded(error)})"
        ) from error
    if getattr(text_config(network.config), "num_hidden_layers", None) == 0:
        raise ConfigError(f"model {model}: its config.json says that it has no layers (num_hidden_layers: 0)")
    return network


def describe(model: PreTrainedModel, lora: LoraConfig | None = None) -> Architecture:
    """The architecture of a transformers model (its weights may be on the meta device).

    Args:
        lora: what is trained in place of the weights.
    """
    text = text_config(model.config)
    heads, shared_heads = attention_heads(model.config)
    width = head_size(model.config)
    names = [name for name, _ in model.named_parameters()]
    linear = linear_layers(model)
    sizes = [layer.weight.numel() for layer in linear.values()]
    return Architecture(
        parameters=sum(p.numel() for p in model.parameters()),
        largest_module=max(sum(p.numel() for p in module.parameters(recurse=False)) for module in model.modules()),
        layers=text.num_hidden_layers,
        hidden_size=text.hidden_size,
        attention_size=heads * width,
        key_value_size=shared_heads * width,
        heads=heads,
        intermediate_size=_mlp_width(text),
        vocabulary=text.vocab_size,
        normalised_queries=any(name.endswith("q_norm.weight") for name in names),
        trained=None if lora is None else _updates(linear, lora),
        linear=sum(sizes, 0),
        largest_linear=max(sizes, default=0),
        experts=getattr(text, "num_experts_per_tok", None) is not None,
    )


def row_cost(model_config: PretrainedConfig) -> RowCost:
    """What a training step costs for each token of an example and each pair of them, in floating-point operations.

    6 a weight that a token goes through, and 6 x layers x attention width a pair (see `planning.mfu`); a frozen weight
    (LoRA) and a sliding window cost less, which is not deducted. Read off the config alone, so that the plan and all
    workers come to the same whole numbers.
    """
    text = text_config(model_config)
    heads, shared_heads = attention_heads(model_config)
    attention, key_value = (count * head_size(model_config) for count in (heads, shared_heads))
    layer = text.hidden_size * (2 * attention + 2 * key_value + 3 * _mlp_width(text))
    weights = text.num_hidden_layers * layer + text.hidden_size * text.vocab_size
    return RowCost(per_token=6 * weights, attention=6 * text.num_hidden_layers * attention)


def _mlp_width(text: PretrainedConfig) -> int:
    """Width of what a token goes through; in a mixture of experts that is several of them, and perhaps a shared one."""
    names = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "dff")
    dense = next((width for name in names if (width := getattr(text, name, None))), 4 * text.hidden_size)
    width = max(dense) if isinstance(dense, list) else dense
    chosen = getattr(text, "num_experts_per_tok", None)
    if chosen is None:
        return int(width)
    each = getattr(text, "moe_intermediate_size", None) or width
    return int(each * chosen + (getattr(text, "shared_expert_intermediate_size", None) or 0))


def _updates(layers: Mapping[str, torch.nn.Linear], lora: LoraConfig) -> int:
    """Weights of LoRA's updates: rank x (inputs + outputs) for each layer that gets one."""
    targets = None if isinstance(lora.target_modules, str) else set(lora.target_modules)
    return sum(
        lora.rank * (layer.in_features + layer.out_features)
        for name, layer in layers.items()
        if targets is None or name.rsplit(".", 1)[-1] in targets
    )
