"""LoRA through peft: adds the low-rank updates to a model, and merges them into its weights.

peft replaces some of the model's linear layers in place, so all other code still sees the same model. Weights get other
names: `q_proj.weight` becomes `q_proj.base_layer.weight`, with the updates `q_proj.lora_A.default.weight` [rank, in]
and `q_proj.lora_B.default.weight` [out, rank].

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

from s1ray.training.config import LoraConfig
from s1ray.training.model.checks import check_targets
from s1ray.training.model.quantization import quiet_bitsandbytes

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

BASE = ".base_layer"
UPDATE = ".lora_"


def add_updates(network: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """Freeze a transformers model and add LoRA updates to it, in place.

    The updates start as zero, because lora_B does. lora_A is drawn from torch's random state, which must be the same on
    all workers.

    Returns:
        peft's model around it, which saves the updates as an adapter.

    Raises:
        ConfigError: the model has none of the layers named.
    """
    quiet_bitsandbytes()  # peft imports it wherever it is installed.
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
        # peft uses a name of transformers that is deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        # How peft is told that there are layers in four bits.
        network.is_loaded_in_4bit = config.quantize != "none"
        return peft.get_peft_model(network, settings, autocast_adapter_dtype=False)


def merge(weights: dict[str, torch.Tensor], config: LoraConfig) -> dict[str, torch.Tensor]:
    """The weights with the updates added, under the names that the model had without them.

    Args:
        weights: by name, including the updates; emptied on the way, so that there is never a second copy.

    Returns:
        The merged weights in the dtypes of the frozen ones; the products are computed in fp32.
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
