"""What a config asks of a model's layers: refuses what they do not have, or cannot be divided by.

Imports nothing heavy at the top, so that the plan can use it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from s1ray.config import ConfigError
from s1ray.training.config import LoraConfig

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel


def check_targets(network: PreTrainedModel, lora: LoraConfig) -> None:
    """Refuse LoRA layers that a model does not have.

    Raises:
        ConfigError: it has no linear layer of a name.
    """
    linear = {name.rsplit(".", 1)[-1] for name in linear_layers(network)}
    if not linear:
        raise ConfigError(f"lora: {type(network).__name__} has no linear layers (torch.nn.Linear); leave lora out")
    if isinstance(lora.target_modules, str):
        return
    for target in lora.target_modules:
        if target not in linear:
            raise ConfigError(
                f"lora.target_modules: {type(network).__name__} has no linear layer {target!r}; it has "
                + ", ".join(sorted(linear))
            )


def check_whole(model_config: PretrainedConfig, name: str) -> None:
    """Refuse a model whose files hold quantized weights: they cannot be trained, nor read as ordinary numbers.

    Args:
        name: the model, for the message.

    Raises:
        ConfigError: its config says so.
    """
    for field in ("quantization_config", "compression_config"):
        if found := getattr(model_config, field, None):
            said = found if isinstance(found, dict) else getattr(found, "__dict__", {})
            method = said.get("quant_method") or "in a way that it does not name"
            raise ConfigError(
                f"model {name}: its weights are quantized ({getattr(method, 'value', method)}, says {field} in its "
                "config.json); give the same model in bf16 or fp32 (lora.quantize: nf4 makes four bits of those)"
            )


def linear_layers(network: PreTrainedModel) -> dict[str, torch.nn.Linear]:
    """The linear layers of the text decoder but the output layer, by name."""
    import torch

    decoder, output = network.get_decoder(), network.get_output_embeddings()
    inside = {id(module) for module in (network if decoder is None else decoder).modules()}
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not output and id(module) in inside
    }


def check_heads(model_config: PretrainedConfig, size: int, name: str) -> None:
    """Refuse a number of workers that the attention heads cannot be divided among.

    Args:
        size: workers that share a row.
        name: the model, for the message.

    Raises:
        ConfigError: they cannot.
    """
    heads, shared_heads = attention_heads(model_config)
    if heads % size or (shared_heads % size and size % shared_heads):
        raise ConfigError(
            f"model {name}: sequence_parallel {size} does not divide its {heads} attention heads ({shared_heads} for "
            "keys and values); choose a divisor"
        )


def text_config(model_config: PretrainedConfig) -> PretrainedConfig:
    """The decoder's config, to be read as if all layers were alike."""
    text = copy.copy(model_config.get_text_config())
    text.allow_global_per_layer_attribute_access = True
    return text


def attention_heads(model_config: PretrainedConfig) -> tuple[int, int]:
    """Attention heads, and those of keys and values; 1 where a family has none."""
    text = text_config(model_config)
    heads = getattr(text, "num_attention_heads", None) or 1
    return heads, getattr(text, "num_key_value_heads", None) or heads


def head_size(model_config: PretrainedConfig) -> int:
    """Width of an attention head."""
    text = text_config(model_config)
    return int(getattr(text, "head_dim", None) or text.hidden_size // attention_heads(model_config)[0])
