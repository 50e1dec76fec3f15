"""What a run needs of its model, its tokenizer, the installation and Ray, checked before a cluster is touched."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from s1ray.cluster import check_accelerator_type
from s1ray.config import ConfigError
from s1ray.models import check_model
from s1ray.training.config import TrainingConfig
from s1ray.training.data.preparation import load_tokenizer
from s1ray.training.model.checks import check_heads, check_targets, check_whole
from s1ray.training.model.weights import check_weights
from s1ray.training.planning.architecture import network_without_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_requirements(config: TrainingConfig) -> None:
    """Refuse what could only fail later, on the workers.

    Raises:
        ConfigError: a package is missing for LoRA, Ray knows no such GPU, the model cannot be trained, or the config
            names a tokenizer that does not fit it.
    """
    if config.lora is not None and importlib.util.find_spec("peft") is None:
        raise ConfigError("lora needs the package peft; install it on all nodes (pip install peft)")
    quantized = config.lora is not None and config.lora.quantize != "none"
    if quantized and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError("lora.quantize needs the package bitsandbytes on all nodes (pip install 's1ray[qlora]')")
    if config.accelerator_type is not None:
        check_accelerator_type(config.accelerator_type, "accelerator_type")
    check_model(config.model, "model")
    network = network_without_weights(config.model)
    check_whole(network.config, config.model)
    check_weights(config.model, network)
    check_network(network, config)
    if config.tokenizer is not None:
        largest, rows = max(load_tokenizer(config).get_vocab().values()), network.get_input_embeddings().num_embeddings
        if largest >= rows:
            raise ConfigError(
                f"tokenizer {config.tokenizer}: it has token ids up to {largest:,}, but model {config.model} has only "
                f"{rows:,} embedding rows; give a tokenizer that fits the model, or leave it out to use the model's own"
            )


def check_network(network: PreTrainedModel, config: TrainingConfig) -> None:
    """Refuse a model whose layers cannot be trained as the config says.

    Args:
        network: the model, with or without weights.

    Raises:
        ConfigError: they cannot.
    """
    # Not at the top, because it imports torch.
    from s1ray.training.model.proof import prove
    from s1ray.training.model.router_loss import RouterLoss
    from s1ray.training.model.trial import try_out

    if config.lora is not None:
        check_targets(network, config.lora)
    if config.sequence_parallel > 1:
        check_heads(network.config, config.sequence_parallel, config.model)
    prove(network, config)
    try_out(network, config)
    RouterLoss.of(network, config)


def check_ids(config: TrainingConfig, largest: int) -> None:
    """Refuse rows with a token that the model has no embedding of.

    Args:
        largest: the largest token id of any row.

    Raises:
        ConfigError: there is one.
    """
    rows = network_without_weights(config.model).get_input_embeddings().num_embeddings
    if largest >= rows:
        raise ConfigError(
            f"model {config.model}: its tokenizer makes token id {largest:,} of the rows, but the model has only "
            f"{rows:,} embedding rows; give a tokenizer that fits the model, or enlarge the model's embedding"
        )
