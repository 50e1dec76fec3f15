"""The trained model as a Hugging Face folder: safetensors, tokenizer, chat template, generation config.

Under ZeRO 0 to 2 every worker has the whole weights and the first one writes them. Under ZeRO-3 they are gathered
parameter by parameter, so no GPU ever holds more than one of them beside its own part.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from s1ray.training.config import TrainingConfig
from s1ray.training.engine import Engine


def export(engine: Engine, tokenizer: Any, turn_end: str, config: TrainingConfig, folder: Path, *, rank: int) -> None:
    """Write the model to `folder`, whole or not at all; every worker must call it.

    Args:
        turn_end: what ends an assistant's turn: its first token joins the generation config's stop tokens.
    """
    weights = _gather(engine, getattr(torch, config.export_dtype), keep=rank == 0, sharded=config.zero_stage == 3)
    if rank == 0:
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        model = engine.model
        model.config.dtype = getattr(torch, config.export_dtype)
        # The attention of training means nothing to whoever loads the model.
        model.config._attn_implementation = None
        model.generation_config.eos_token_id = _stop_tokens(model.generation_config, tokenizer, turn_end)
        model.save_pretrained(temporary, state_dict=weights)
        tokenizer.save_pretrained(temporary)
        for file in temporary.iterdir():
            # Weights come out readable by their owner alone, but a model is often served by another user.
            file.chmod(0o644)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def _gather(engine: Engine, dtype: torch.dtype, *, keep: bool, sharded: bool) -> dict[str, torch.Tensor]:
    """The model's weights by name, on the CPU, in `dtype`; empty unless `keep`. Tied weights share memory."""
    model = engine.model
    copies: dict[int, torch.Tensor] = {}
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in copies:
            if sharded and isinstance(tensor, torch.nn.Parameter):
                import deepspeed

                with deepspeed.zero.GatheredParameters([tensor]):
                    copies[id(tensor)] = _copy(tensor, dtype) if keep else torch.empty(0)
            else:
                copies[id(tensor)] = _copy(tensor, dtype) if keep else torch.empty(0)
        weights[name] = copies[id(tensor)]
    return weights if keep else {}


def _copy(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype, copy=True)


def _stop_tokens(generation_config: Any, tokenizer: Any, turn_end: str) -> list[int]:
    known = generation_config.eos_token_id
    stop = [known] if isinstance(known, int) else list(known or ())
    turn_end_id = tokenizer(turn_end.strip(), add_special_tokens=False)["input_ids"][0]
    for token in (turn_end_id, tokenizer.eos_token_id):
        if token is not None and token not in stop:
            stop.append(token)
    return stop
