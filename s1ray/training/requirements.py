"""What a run needs of its model and of the installation, checked before a cluster is touched.

Imports nothing heavy at the top; transformers reads the model's config inside.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from s1ray.config import ConfigError, resolve_model
from s1ray.training.config import TrainingConfig


def check_requirements(config: TrainingConfig) -> None:
    """Refuse what could only fail later, on the workers.

    Raises:
        ConfigError: peft is missing for LoRA, or the model's heads cannot be shared as `sequence_parallel` asks.
    """
    if config.lora is not None and importlib.util.find_spec("peft") is None:
        raise ConfigError("lora needs the package peft; install it on all nodes (pip install peft)")
    if config.sequence_parallel > 1:
        from transformers import AutoConfig

        try:
            model_config = AutoConfig.from_pretrained(resolve_model(config.model))
        except (OSError, ValueError):
            return  # The tokenizer's loading says what is wrong with the model.
        check_heads(model_config, config.sequence_parallel, config.model)


def check_heads(model_config: Any, size: int, name: str) -> None:
    """Refuse a number of workers that the attention heads cannot be divided among.

    Args:
        model_config: transformers' config of the model.
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


def attention_heads(model_config: Any) -> tuple[int, int]:
    """Attention heads, and those of keys and values."""
    text = model_config.get_text_config()
    return text.num_attention_heads, getattr(text, "num_key_value_heads", None) or text.num_attention_heads
