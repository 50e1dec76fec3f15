"""The trainers to compare. Each takes the same optimizer steps on the same rows, in fp32 on one thread.

- s1ray: the stage's own loop over its DeepSpeed engine, packed and padded.
- plain PyTorch: a bare loop with torch's AdamW and s1ray's loss in chunks, on the same batches: the same packed rows
  (with s1ray's attention, as transformers would separate them by a mask, which is many times slower), or the same
  padded rows (with transformers' attention). And packed with transformers' own loss, which makes all logits at once;
  and packed with each layer wrapped by FSDP2, as trainers on it do, whose collectives have one process to go to.
- TRL and transformers' Trainer: see `libraries`.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.training.workload import GLOBAL_BATCH
from s1ray.training.config import DivergenceConfig, TrainingConfig
from s1ray.training.data.batching import global_batch, lay_out
from s1ray.training.data.collate import IGNORE, Dataset, collate
from s1ray.training.model import attention
from s1ray.training.model.loading import load_engine
from s1ray.training.model.loss import LossModel
from s1ray.training.monitoring.divergence import DivergenceMonitor
from s1ray.training.steps import Stepper

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OURS_PACKED = "s1ray, packed"
OURS_PADDED = "s1ray, padded"
PLAIN_PACKED = "plain PyTorch, packed"
PLAIN_PADDED = "plain PyTorch, padded"
PLAIN_LOSS = "plain PyTorch, packed, all logits"
FSDP = "plain PyTorch, packed, FSDP2"

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Arm:
    """A trainer. It continues from its current weights, which do not affect its speed."""

    first: Callable[[], float]
    """Take step 0, to warm up; returns its loss."""
    timed: Callable[[], float]
    """Take the steps after it; returns their seconds."""


def make_arms(model: Path, tokens: Sequence[np.ndarray], masks: Sequence[np.ndarray], steps: int) -> dict[str, Arm]:
    """s1ray's and plain PyTorch's arms by name, for the first 1 + `steps` global batches of the rows."""
    longest = max(len(row) for row in tokens)
    dataset = Dataset([str(i) for i in range(len(tokens))], tokens, masks)
    configs = {packing: _config(model, longest, packing) for packing in (True, False)}
    arms: dict[str, Arm] = {}
    join_alone()
    for name, packing in ((OURS_PACKED, True), (OURS_PADDED, False)):
        arms[name] = _ours(dataset, configs[packing], steps)
    for variable in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        # With these set the Trainer would run as one of several workers.
        os.environ.pop(variable, None)
    batches = step_rows(len(tokens), steps)
    for name, packing, in_chunks, sharded in (
        (PLAIN_PACKED, True, True, False),
        (FSDP, True, True, True),
        (PLAIN_LOSS, True, False, False),
        (PLAIN_PADDED, False, True, False),
    ):
        arms[name] = _plain(model, dataset, batches, configs[packing], in_chunks=in_chunks, sharded=sharded)
    return arms


def join_alone() -> None:
    """Make a process group of this process alone, which DeepSpeed needs."""
    variables = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "localhost", "MASTER_PORT": 0}
    os.environ |= {name: str(value) for name, value in variables.items()}
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)


def _config(model: Path, longest: int, packing: bool) -> TrainingConfig:
    return TrainingConfig.model_validate(
        {
            "output": "unused",
            "model": str(model),
            "traces": "unused",
            "max_length": longest,
            # As many as the padded micro-batch of all rows of a step has.
            "micro_batch_tokens": GLOBAL_BATCH * longest,
            "global_batch": GLOBAL_BATCH,
            "epochs": 1,
            "device": "cpu",
            "precision": "fp32",
            "export_dtype": "float32",
            "packing": packing,
            "seed": 0,
        }
    )


def step_rows(rows: int, steps: int) -> list[list[int]]:
    """The rows of step 0, which warms up, and of the timed steps after it."""
    return [global_batch(step, rows, GLOBAL_BATCH, 0) for step in range(1 + steps)]


def _ours(dataset: Dataset, config: TrainingConfig, steps: int) -> Arm:
    torch.manual_seed(0)
    engine = load_engine(config, device=CPU, rank=0, world_size=1)
    stepper = Stepper(engine, dataset, config, DivergenceMonitor(DivergenceConfig()), world_size=1)

    def timed() -> float:
        begin = time.perf_counter()
        for step in range(1, 1 + steps):
            stepper.step(step, 0)
        return time.perf_counter() - begin

    return Arm(lambda: stepper.step(0, 0).metrics["loss"] or math.nan, timed)


def load(model: Path, implementation: str = "sdpa") -> PreTrainedModel:
    """The model in fp32, to be trained."""
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation=implementation)
    return network.train()


def _plain(
    model: Path,
    dataset: Dataset,
    batches: Sequence[Sequence[int]],
    config: TrainingConfig,
    *,
    in_chunks: bool,
    sharded: bool,
) -> Arm:
    attention.register()
    network = load(model, attention.SEGMENTS if config.packing else "sdpa")
    loss_model = LossModel(network, logits_chunk=config.logits_chunk) if in_chunks else None
    if sharded:
        from torch.distributed.fsdp import fully_shard

        for layer in network.model.layers:
            fully_shard(layer)
        fully_shard(loss_model)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, betas=config.optimizer.betas, fused=True)

    def step(indices: Sequence[int]) -> float:
        ((rows,),) = lay_out(
            dataset.lengths,
            indices,
            num_workers=1,
            micro_batch_tokens=config.micro_batch,
            packing=config.packing,
        )
        collated = collate(dataset, rows, packing=config.packing, flash=False, device=CPU)
        inputs, labels = dict(collated), collated["labels"]
        del inputs["labels"]
        if not config.packing:
            widths = torch.tensor([dataset.lengths[index] for index in rows]).unsqueeze(1)
            inputs["attention_mask"] = (torch.arange(labels.shape[1]) < widths).long()
            del inputs["position_ids"], inputs["segments"]
        if loss_model is not None:
            loss = loss_model(labels=labels, **inputs) / (labels != IGNORE).sum()
        else:
            # What transformers' models do with labels, which are already shifted here, within each example.
            logits = network(**inputs, use_cache=False).logits.float()
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss)

    def timed() -> float:
        begin = time.perf_counter()
        for batch in batches[1:]:
            step(batch)
        return time.perf_counter() - begin

    return Arm(lambda: step(batches[0]), timed)
