"""The trainers to compare. Each takes the same optimizer steps on the same rows, in fp32 on one thread.

- s1ray: the stage's own loop over its DeepSpeed engine, packed and padded.
- plain PyTorch: a bare loop with transformers' own loss and torch's AdamW, on the same batches: the same packed rows
  (with s1ray's attention, as transformers would separate them by a mask, which is many times slower), or the same
  padded rows (with transformers' attention).
- Trainer: transformers' Trainer, which pads, in micro-batches of 16, 4 or 1 rows (with accumulation up to 16).
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
from s1ray.training.monitoring.divergence import DivergenceMonitor
from s1ray.training.steps import Stepper

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OURS_PACKED = "s1ray, packed"
OURS_PADDED = "s1ray, padded"
PLAIN_PACKED = "plain PyTorch, packed"
PLAIN_PADDED = "plain PyTorch, padded"
TRAINER_ROWS = (16, 4, 1)
"""Rows of the Trainer's micro-batches."""

CPU = torch.device("cpu")


def trainer_arm(rows: int) -> str:
    """Name of the Trainer with micro-batches of this many rows."""
    return f"Trainer, {rows} rows" if rows > 1 else "Trainer, 1 row"


@dataclass(frozen=True)
class Arm:
    """A trainer. It continues from its current weights, which do not affect its speed."""

    first: Callable[[], float]
    """Take step 0, to warm up; returns its loss."""
    timed: Callable[[], float]
    """Take the steps after it; returns their seconds."""


def make_arms(model: Path, tokens: Sequence[np.ndarray], masks: Sequence[np.ndarray], steps: int) -> dict[str, Arm]:
    """The arms by name, for the first 1 + `steps` global batches of the rows (the same examples in each arm)."""
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
    batches = _batches(dataset, configs[True], steps)
    for name, packing in ((PLAIN_PACKED, True), (PLAIN_PADDED, False)):
        arms[name] = _plain(model, dataset, batches, configs[packing])
    for rows in TRAINER_ROWS:
        arms[trainer_arm(rows)] = _trainer(model, tokens, masks, batches, configs[False], rows)
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
        }
    )


def _batches(dataset: Dataset, config: TrainingConfig, steps: int) -> list[list[int]]:
    return [global_batch(step, len(dataset), GLOBAL_BATCH, config.seed) for step in range(1 + steps)]


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


def _load(model: Path, implementation: str = "sdpa") -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation=implementation)
    return network.train()


def _plain(model: Path, dataset: Dataset, batches: Sequence[Sequence[int]], config: TrainingConfig) -> Arm:
    attention.register()
    network = _load(model, attention.SEGMENTS if config.packing else "sdpa")
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
            del inputs["position_ids"]
        # `shift_labels` are already shifted by one, within each example of a packed row.
        loss = network(**inputs, use_cache=False, labels=labels, shift_labels=labels).loss
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


def _trainer(
    model: Path,
    tokens: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    batches: Sequence[Sequence[int]],
    config: TrainingConfig,
    rows: int,
) -> Arm:
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    class Clock(TrainerCallback):  # type: ignore[misc]  # transformers is not type-checked
        """When training began, after everything was built, and when each optimizer step ended."""

        def __init__(self) -> None:
            self.begin = 0.0
            self.ends: list[float] = []

        def on_train_begin(self, *arguments: object, **keywords: object) -> None:
            self.begin = time.perf_counter()

        def on_step_end(self, *arguments: object, **keywords: object) -> None:
            self.ends.append(time.perf_counter())

    class InOrder(Trainer):  # type: ignore[misc]  # transformers is not type-checked
        """Takes the rows in the given order, so that all arms have the same batches."""

        def _get_train_sampler(self, *arguments: object) -> torch.utils.data.Sampler[int]:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    def pad(chosen: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        width = max(len(row["tokens"]) for row in chosen)
        padded = {name: np.zeros((len(chosen), width), dtype=np.int64) for name in ("input_ids", "attention_mask")}
        padded["labels"] = np.full((len(chosen), width), IGNORE, dtype=np.int64)
        for number, row in enumerate(chosen):
            length = len(row["tokens"])
            padded["input_ids"][number, :length] = row["tokens"]
            padded["attention_mask"][number, :length] = 1
            padded["labels"][number, :length] = np.where(row["mask"], row["tokens"], IGNORE)
        return {name: torch.from_numpy(values) for name, values in padded.items()}

    def run(rows_of: Sequence[Sequence[int]]) -> tuple[Clock, float]:
        arguments = TrainingArguments(
            output_dir=str(model.parent / "trainer"),
            max_steps=len(rows_of),
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=GLOBAL_BATCH // rows,
            optim="adamw_torch_fused",
            learning_rate=1e-5,
            lr_scheduler_type="constant",
            max_grad_norm=1.0,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="steps",
            logging_steps=1,
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        ordered = [{"tokens": tokens[index], "mask": masks[index]} for batch in rows_of for index in batch]
        clock = Clock()
        trainer = InOrder(model=network, args=arguments, train_dataset=ordered, data_collator=pad, callbacks=[clock])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return clock, next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)

    network = _load(model)

    def timed() -> float:
        clock, _ = run(batches[1:])
        return clock.ends[-1] - clock.begin

    return Arm(lambda: run(batches[:1])[1], timed)
