"""A step of training as the run is set, on a small copy of its model, before anything starts.

`proof` shows that the family's own layers compute in training what they compute when the model is served. Here they are
changed as the run changes them: updates, four bits, recomputed activations, shared rows, training mode. The copy takes
a step, and under LoRA the updates are merged into weights that must give the same logits as the model that was trained.

Imports torch at the top.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from s1ray.config import ConfigError
from s1ray.training.data.collate import collate
from s1ray.training.model import attention, proof
from s1ray.training.model.checks import attention_heads, head_size
from s1ray.training.model.lora import UPDATE, add_updates, merge
from s1ray.training.model.loss import LossModel
from s1ray.training.model.quantization import check_widths, replace_layers, widened
from s1ray.training.model.shrinking import ROWS, VOCABULARY, shrink

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from s1ray.training.config import TrainingConfig

MERGED_TOLERANCE = 1e-3
"""Largest difference of the merged model's logits, over their largest, in fp32."""


def try_out(network: PreTrainedModel, config: TrainingConfig) -> None:
    """Refuse what a family cannot do with the run's settings.

    Args:
        network: its weights are not read, and may be on the meta device.

    Raises:
        ConfigError: a small copy cannot be trained so, or its updates cannot be merged.
    """
    lora, family = config.lora, type(network)
    if lora is not None and lora.quantize != "none" and config.device == "cpu":
        check_widths(network)
    attention.register()
    small = shrink(network.config, longest_example=config.max_length, longest_row=config.micro_batch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = proof.build(family, small, attention.SEGMENTS)
        proof.spread(model)
        if lora is not None:
            _add_updates(model, config)
        _step(model, config)
    if lora is not None:
        _check_merged(model, config)


def _add_updates(model: PreTrainedModel, config: TrainingConfig) -> None:
    assert config.lora is not None
    try:
        if config.lora.quantize != "none":
            replace_layers(model, proof.CPU, torch.float32)
        add_updates(model, config.lora)
    except ConfigError:
        raise
    except Exception as error:  # peft and bitsandbytes refuse some families with errors of their own.
        raise ConfigError(
            f"lora: the layers of {type(model).__name__} cannot be changed ({proof.said(error)}); name others in "
            "lora.target_modules, or leave lora out"
        ) from error
    for name, parameter in model.named_parameters():
        if f"{UPDATE}B" in name:
            parameter.data.normal_(std=0.1)


def _step(model: PreTrainedModel, config: TrainingConfig) -> None:
    """Forward and backward in training mode."""
    inputs = collate(proof.examples(), range(len(ROWS)), packing=config.packing, flash=False, device=proof.CPU)
    try:
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        with _shapes_checked(model, config):
            LossModel(model, logits_chunk=16).train()(**inputs).backward()
    except ConfigError:
        raise
    except Exception as error:  # A family's own code raises all sorts of errors.
        settings = [name for name, on in _settings(config).items() if on]
        raise ConfigError(
            f"model {config.model} ({type(model).__name__}) cannot be trained with {' and '.join(settings)}: a small "
            f"copy of it fails ({proof.said(error)})"
        ) from error


def _settings(config: TrainingConfig) -> dict[str, bool]:
    """What the run changes of a model."""
    lora = config.lora
    changed = {
        "lora.quantize: nf4": lora is not None and lora.quantize != "none",
        "lora": lora is not None and lora.quantize == "none",
        "gradient_checkpointing": config.gradient_checkpointing,
    }
    return changed if any(changed.values()) else {"these settings": True}


@contextmanager
def _shapes_checked(model: PreTrainedModel, config: TrainingConfig) -> Iterator[None]:
    """Refuse workers that share rows where queries, keys and values are not those that the config names."""
    if config.sequence_parallel == 1:
        yield
        return
    heads, width = attention_heads(model.config), head_size(model.config)

    def around(core: attention.AttentionFunction) -> attention.AttentionFunction:
        def checked(
            module: torch.nn.Module,
            query: torch.Tensor,
            key: torch.Tensor,
            value: torch.Tensor,
            *rest: object,
            **named: object,
        ) -> tuple[torch.Tensor, torch.Tensor | None]:
            found = query.shape[1], key.shape[1]
            if found != heads or value.shape[1] != heads[1] or {t.shape[3] for t in (query, key, value)} != {width}:
                raise ConfigError(
                    f"sequence_parallel: {type(module).__name__} has heads of different widths or numbers than its "
                    "config names (latent attention, say), which cannot be exchanged between workers; set it to 1"
                )
            return core(module, query, key, value, *rest, **named)

        return checked

    attention.register(around=around)
    try:
        yield
    finally:
        attention.register()


def _check_merged(model: PreTrainedModel, config: TrainingConfig) -> None:
    assert config.lora is not None
    family = type(model)
    weights = {name: widened(tensor).detach().clone() for name, tensor in model.state_dict(keep_vars=True).items()}
    plain = proof.build(family, copy.deepcopy(model.config), "eager")
    model.set_attn_implementation("eager")
    tokens = torch.arange(min(ROWS))[None] % VOCABULARY
    try:
        plain.load_state_dict(merge(weights, config.lora))
        with torch.no_grad():
            trained, merged = (network.eval()(tokens, use_cache=False).logits for network in (model, plain))
    except Exception as error:  # A family's own code raises all sorts of errors.
        raise ConfigError(
            f"lora: the updates of {family.__name__} cannot be merged into its weights ({proof.said(error)}); name "
            "other layers in lora.target_modules, or leave lora out"
        ) from error
    if not (trained - merged).abs().max() <= MERGED_TOLERANCE * trained.abs().max():
        raise ConfigError(
            f"lora: merged into its weights, the updates of {family.__name__} give another model than the one that was "
            "trained; name other layers in lora.target_modules"
        )
