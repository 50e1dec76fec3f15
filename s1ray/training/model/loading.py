"""The base model in an engine, loaded so that a node never holds a copy of it for each of its workers.

transformers maps safetensors files into memory rather than reading them, so all workers of a node share what it returns
through the page cache, as long as it does not convert the precision. The model is therefore loaded in the files' own
precision. Then each parameter in turn moves to the worker's device in the training's precision, and under ZeRO-3 is
partitioned among the workers before the next one follows. In addition to what it keeps, a worker holds one parameter at
a time. (Where transformers rearranges a family's files, such as mixtures of experts stored expert by expert, each
worker reads them into memory.)

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from s1ray.config import ConfigError
from s1ray.training.config import TrainingConfig
from s1ray.training.model import attention
from s1ray.training.model.checks import check_heads
from s1ray.training.model.engine import Engine, deepspeed_config, import_deepspeed
from s1ray.training.model.lora import add_updates
from s1ray.training.model.loss import LossModel
from s1ray.training.model.pretrained import why_not_loaded
from s1ray.training.model.proof import prove
from s1ray.training.model.quantization import is_quantized, quantize
from s1ray.training.model.router_loss import RouterLoss
from s1ray.training.model.sequence_parallel import join_group, shared_attention
from s1ray.training.model.weights import check_report

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_engine(config: TrainingConfig, *, device: torch.device, rank: int, world_size: int) -> Engine:
    """Load the base model into a DeepSpeed engine.

    Every worker must call it, with the same random state of torch; afterwards each has one of its own, for what is
    drawn in training (dropout).

    Args:
        config: with its precision decided (`resolve_precision`).

    Raises:
        ConfigError: the model cannot be trained as the config says, or flash attention is not installed.
    """
    flash = _uses_flash_attention(config, device)
    network = load_network(config.model, flash=flash)
    prove(network, config)
    deepspeed = import_deepspeed(device)
    if torch.distributed.is_initialized() and not deepspeed.comm.is_initialized():
        deepspeed.init_distributed(dist_backend=torch.distributed.get_backend(), verbose=False)
    if config.sequence_parallel > 1:
        check_heads(network.config, config.sequence_parallel, config.model)
        group = join_group(config.sequence_parallel, rank=rank, world_size=world_size)
        attention.register(flash=flash, around=lambda core: shared_attention(core, network.config, group))
    if config.lora is not None and config.lora.quantize != "none":
        quantize(network, device, _dtype(config))
    adapter = None if config.lora is None else add_updates(network, config.lora)
    place(network, config, device)
    torch.manual_seed(torch.initial_seed() + 1 + rank)
    network.train()
    if config.gradient_checkpointing:
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return Engine(
        LossModel(network, logits_chunk=config.logits_chunk, router_loss=RouterLoss.of(network, config)),
        config,
        device=device,
        world_size=world_size,
        rank=rank,
        flash=flash,
        adapter=adapter,
    )


def load_network(model: str, *, flash: bool = False) -> PreTrainedModel:
    """The transformers model on the CPU, its weights mapped from their files in the files' precision.

    Raises:
        ConfigError: its files cannot be loaded, or do not hold the weights that its config asks for.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    attention.register(flash=flash)
    implementation = "flash_attention_2" if flash else attention.SEGMENTS
    try:
        network, report = AutoModelForCausalLM.from_pretrained(
            model,
            dtype="auto",
            attn_implementation=implementation,
            trust_remote_code=False,
            output_loading_info=True,
            # Reported rather than raised, so that all that is wrong with the files is said in one way.
            ignore_mismatched_sizes=True,
        )
    except Exception as error:  # Damaged files make it raise all sorts of errors.
        raise ConfigError(f"model {model}: its weights cannot be loaded ({why_not_loaded(error)})") from error
    check_report(report, network, model)
    loaded: PreTrainedModel = network
    return loaded


def place(network: torch.nn.Module, config: TrainingConfig, device: torch.device) -> None:
    """Move a model to the training's device and precision, one parameter at a time.

    Under ZeRO-3 each parameter is partitioned among the workers on the way.
    """
    dtype = _dtype(config)
    placed: set[int] = set()
    for module in network.modules():
        own = [parameter for parameter in module.parameters(recurse=False) if id(parameter) not in placed]
        placed.update(map(id, own))
        for parameter in own:
            if is_quantized(parameter):
                continue  # It is on the device already.
            parameter.data = parameter.data.to(device, dtype)
            if config.zero_stage == 3:
                _partition(parameter, config, device)
        for buffer in module.buffers(recurse=False):
            # Buffers keep the model's own precision: rotary frequencies in bf16 could not tell far positions apart.
            buffer.data = buffer.data.to(device)


def _dtype(config: TrainingConfig) -> torch.dtype:
    return torch.bfloat16 if config.precision == "bf16" else torch.float32


def _partition(parameter: torch.nn.Parameter, config: TrainingConfig, device: torch.device) -> None:
    import deepspeed

    holder = torch.nn.Module()
    holder.parameter = parameter
    settings = deepspeed_config(config, on_gpu=device.type != "cpu")
    deepspeed.zero.Init(module=holder, config_dict_or_path=settings, dtype=parameter.dtype)


def _uses_flash_attention(config: TrainingConfig, device: torch.device) -> bool:
    from transformers.utils import is_flash_attn_2_available

    if config.attention == "flash_attention_2" and not is_flash_attn_2_available():
        raise ConfigError(
            "attention: flash_attention_2 needs the package flash-attn and a GPU, and this worker lacks one of them; "
            "install it on all nodes, or use segments"
        )
    if config.attention != "auto":
        return config.attention == "flash_attention_2"
    return device.type == "cuda" and config.precision == "bf16" and is_flash_attn_2_available()
