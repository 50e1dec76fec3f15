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

from s1ray.config import ConfigError
from s1ray.training.config import LoraConfig
from s1ray.training.model.checks import check_targets, linear_layers
from s1ray.training.model.quantization import quiet_bitsandbytes

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

BASE = ".base_layer"
UPDATE = ".lora_"
OF_EXPERTS = ("gate_proj", "up_proj", "down_proj")
"""Names of layers that peft takes for the experts of a mixture."""


def add_updates(network: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """Freeze a transformers model and add LoRA updates to it, in place.

    The updates start as zero, because lora_B does. lora_A is drawn from torch's random state, which must be the same on
    all workers.

    Returns:
        peft's model around it, which saves the updates as an adapter.

    Raises:
        ConfigError: the model has none of the layers named, or they are experts of a mixture.
    """
    quiet_bitsandbytes()  # peft imports it wherever it is installed.
    import peft

    check_targets(network, config)
    parts = [name.split(".") for name in linear_layers(network)]
    attention = sorted({own for *_, parent, own in parts if "attn" in parent and own not in OF_EXPERTS})
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets(network, config),
        bias="none",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft uses a name of transformers that is deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        # How peft is told that there are layers in four bits.
        network.is_loaded_in_4bit = config.quantize != "none"
        adapter = peft.get_peft_model(network, settings, autocast_adapter_dtype=False)
    if adapter.peft_config["default"].target_parameters:
        raise ConfigError(
            f"lora.target_modules: in {type(network).__name__}, peft takes a layer's name for the experts, whose "
            f"updates cannot be merged; name layers of attention only ({', '.join(attention)})"
        )
    return adapter


def targets(network: PreTrainedModel, config: LoraConfig) -> list[str]:
    """Names of the layers that get an update, for peft: short ones where they mean the same layers."""
    import torch

    named = None if isinstance(config.target_modules, str) else config.target_modules
    linear = {name for name in linear_layers(network) if named is None or name.rsplit(".", 1)[-1] in named}
    short = {name.rsplit(".", 1)[-1] for name in linear}
    meant = {
        name
        for name, module in network.named_modules()
        if name.rsplit(".", 1)[-1] in short and not isinstance(module, torch.nn.ModuleList | torch.nn.ModuleDict)
    }
    return sorted(short if meant == linear else linear)


def merge(weights: dict[str, torch.Tensor], config: LoraConfig) -> dict[str, torch.Tensor]:
    """The weights with the updates added, under the names that the model had without them.

    Args:
        weights: by name, including the updates; emptied on the way, so that there is never a second copy.

    Returns:
        The merged weights in the dtypes of the frozen ones; the products are computed in fp32.

    Raises:
        ValueError: an update belongs to no weight here.
    """
    merged = {}
    left = {name for name in weights if UPDATE in name}
    for name in list(weights):
        if UPDATE in name:
            continue
        weight = weights.pop(name)
        layer = name.removesuffix(f"{BASE}.weight")
        if layer != name:
            names = [f"{layer}{UPDATE}{part}.default.weight" for part in "BA"]
            up, down = (weights[name].float() for name in names)
            left -= set(names)
            weight = torch.addmm(weight.float(), up, down, alpha=config.alpha / config.rank).to(weight.dtype)
        merged[name.replace(f"{BASE}.", ".")] = weight
    if strange := sorted(left) + sorted(name for name in merged if BASE in name):
        raise ValueError(f"{strange[0]} cannot be merged")
    return merged
