"""LoRA through peft: which layers get an update, and how the updates become part of the weights again.

peft puts the updates into the model itself, so everything else sees the model that it knew, with some linear layers
replaced. Names then change: `q_proj.weight` becomes `q_proj.base_layer.weight`, beside it stand
`q_proj.lora_A.default.weight` [rank, in] and `q_proj.lora_B.default.weight` [out, rank].

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch

from s1ray.training.config import LoraConfig
from s1ray.training.planning.requirements import check_targets

BASE = ".base_layer"
UPDATE = ".lora_"


def add_updates(network: Any, config: LoraConfig) -> Any:
    """Freeze a transformers model and put LoRA updates into it, in place.

    The updates start as zero: lora_B is. Draws lora_A from torch's random state, which must be alike on all workers.

    Returns:
        peft's model around it, which saves the updates as an adapter.

    Raises:
        ConfigError: the model has none of the layers named.
    """
    import peft

    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.target_modules,
        bias="none",
        task_type="CAUSAL_LM",
    )
    check_targets(network, config)
    with warnings.catch_warnings():
        # peft still asks transformers by a name that is going out of use.
        warnings.simplefilter("ignore", FutureWarning)
        return peft.get_peft_model(network, settings, autocast_adapter_dtype=False)


def merge(weights: dict[str, torch.Tensor], config: LoraConfig) -> dict[str, torch.Tensor]:
    """The weights with the updates added, under the names that the model had without them.

    Args:
        weights: by name, those of the updates among them; taken apart on the way, so that no second copy arises.

    Returns:
        The merged weights, in the frozen ones' dtypes; the products are taken in fp32.
    """
    merged = {}
    for name in list(weights):
        if UPDATE in name:
            continue
        weight = weights.pop(name)
        layer = name.removesuffix(f"{BASE}.weight")
        if layer != name:
            up, down = (weights[f"{layer}{UPDATE}{part}.default.weight"].float() for part in "BA")
            weight = torch.addmm(weight.float(), up, down, alpha=config.alpha / config.rank).to(weight.dtype)
        merged[name.replace(f"{BASE}.", ".")] = weight
    return merged
