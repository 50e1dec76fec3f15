"""QLoRA (arXiv 2305.14314): a model's frozen linear layers in four bits, by bitsandbytes.

64 weights at a time become NF4 codes of half a byte and one scale; the scales are quantized again in blocks of 256
(section 3 of the paper). A layer widens its weights to the training's precision for the moment in which it computes.
What is exported are these widened weights with the updates added: the model whose loss was measured, not the base's
own weights, which the updates were never trained on.

Imports torch at the top: for the checks before a run, and for training workers.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from s1ray.config import ConfigError
from s1ray.training.model.checks import linear_layers

if TYPE_CHECKING:
    from types import ModuleType

    from transformers import PreTrainedModel

BLOCK = 64
"""Weights that share a scale."""


def quantize(network: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> None:
    """Replace all linear layers but the output layer by ones in four bits on the device, one at a time, in place.

    Args:
        dtype: what they compute in.

    Raises:
        ConfigError: bitsandbytes is not installed here, or cannot read the layers' weights on this device.
    """
    if device.type == "cpu":
        check_widths(network)
    replace_layers(network, device, dtype)


def check_widths(network: PreTrainedModel) -> None:
    """Refuse what bitsandbytes gets wrong on CPUs: a block that goes over the end of a row gets another one's scale.

    Raises:
        ConfigError: a layer's rows do not end with a block.
    """
    for name, layer in linear_layers(network).items():
        if layer.in_features % BLOCK:
            raise ConfigError(
                f"lora.quantize: layer {name} takes {layer.in_features} inputs, and on CPUs bitsandbytes reads weights "
                f"in four bits right only where that is a multiple of {BLOCK}; leave it out, or train on a GPU"
            )


def replace_layers(network: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> None:
    """`quantize`, whatever the layers' widths."""
    bitsandbytes = _import_bitsandbytes()
    for name, layer in linear_layers(network).items():
        quantized = bitsandbytes.nn.Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            compute_dtype=dtype,
            quant_type="nf4",
            device="meta",
        )
        weight = bitsandbytes.nn.Params4bit(
            layer.weight.data.to(dtype), requires_grad=False, quant_type="nf4", module=quantized
        )
        quantized.weight = weight.to(device)
        quantized.bias = layer.bias
        # On CPUs with bf16 of their own it would compute in bf16 where there is no gradient, whatever the precision:
        # a loss on held-out rows must be that of training.
        quantized.support_avx512bf16_for_cpu = False
        # The scales come anew from the base's files at every start, and are no part of a checkpoint.
        quantized.register_state_dict_post_hook(_without_scales)
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, quantized.train(layer.training))


def _without_scales(module: torch.nn.Module, state: dict[str, torch.Tensor], prefix: str, metadata: object) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}weight.")]:
        del state[name]


def is_quantized(tensor: torch.Tensor) -> bool:
    """Whether it is a weight in four bits."""
    return getattr(tensor, "quant_state", None) is not None


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """A weight in four bits as its layer computes with it, in its own shape; any other as it is."""
    if not is_quantized(tensor):
        return tensor
    from bitsandbytes.functional import dequantize_4bit

    whole: torch.Tensor = dequantize_4bit(tensor.data, tensor.quant_state)
    return whole


def _import_bitsandbytes() -> ModuleType:
    quiet_bitsandbytes()
    try:
        import bitsandbytes
    except ImportError as error:
        raise ConfigError(
            f"lora.quantize needs the package bitsandbytes on all nodes (pip install 's1ray[qlora]'): {error}"
        ) from error
    module: ModuleType = bitsandbytes
    return module


def quiet_bitsandbytes() -> None:
    """On some CPUs it warns of a kernel for inference that is not used here."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
