"""Which models can be trained: refuses those that would not be trained as they are served.

Imports nothing heavy at the top, so that the plan can use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s1ray.config import ConfigError
from s1ray.training.config import LoraConfig

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

TRAINED_LAYERS = frozenset({"full_attention", "sliding_attention"})
"""transformers' names of the layers that can be trained in rows of several examples."""

RESHAPED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Config fields of model families that do more to the logits than the output layer's product."""


def check_network(network: PreTrainedModel, name: str) -> None:
    """Refuse a model that would not be trained as it is served.

    Args:
        network: its weights may be on the meta device.
        name: the model, for the message.

    Raises:
        ConfigError: its layers see more than their example, or less, or it computes its logits in another way.
    """
    import torch

    text, family = network.config.get_text_config(), type(network).__name__
    where = f"model {name} ({family})"
    kinds = set(getattr(text, "layer_types", None) or ()) - TRAINED_LAYERS
    if kinds or getattr(network, "_is_stateful", False):
        what = ", ".join(sorted(kinds)) or "a state of their own"
        raise ConfigError(
            f"{where}: has layers with {what}, which would run on from one example of a row into the next; only models "
            "whose layers are all attention can be trained here"
        )
    if getattr(text, "attention_chunk_size", None):
        raise ConfigError(f"{where}: attends in chunks (attention_chunk_size), which is not trained here")
    sinks = any(parameter.endswith(".sinks") for parameter, _ in network.named_parameters())
    if sinks or getattr(text, "attn_logit_softcapping", None):
        raise ConfigError(f"{where}: reshapes its attention (softcapping or sinks), which is not trained here")
    head = network.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear) or head.bias is not None:
        raise ConfigError(f"{where}: training needs a linear output layer without bias, found {head}")
    for field in RESHAPED_LOGITS:
        if getattr(text, field, None) not in (None, 1, 1.0):
            raise ConfigError(f"{where}: models that reshape their logits ({field}) cannot be trained here")


def check_targets(network: PreTrainedModel, lora: LoraConfig) -> None:
    """Refuse LoRA layers that a model does not have.

    Raises:
        ConfigError: it has no linear layer of a name.
    """
    import torch

    if isinstance(lora.target_modules, str):
        return
    linear = {
        name.rsplit(".", 1)[-1] for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)
    }
    for target in lora.target_modules:
        if target not in linear:
            raise ConfigError(
                f"lora.target_modules: {type(network).__name__} has no linear layer {target!r}; it has "
                + ", ".join(sorted(linear))
            )


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


def attention_heads(model_config: PretrainedConfig) -> tuple[int, int]:
    """Attention heads, and those of keys and values."""
    text = model_config.get_text_config()
    return text.num_attention_heads, getattr(text, "num_key_value_heads", None) or text.num_attention_heads


def head_size(model_config: PretrainedConfig) -> int:
    """Width of an attention head."""
    text = model_config.get_text_config()
    return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
