"""The ways to train that are compared. Each takes the same optimizer steps on the same rows, in fp32 on one thread.

- ours: the stage's own loop over its DeepSpeed engine, packed and padded.
- plain PyTorch: a loop with nothing around it, transformers' own loss and torch's AdamW, on the same batches: the same
  packed rows (with our attention: transformers would separate them by a mask, many times as slow), or the same padded
  ones (with transformers' attention).
- Trainer: transformers' Trainer, which pads, in micro-batches of 16, 4 or 1 rows (with accumulation up to 16).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.training.workload import GLOBAL_BATCH
from s1ray.training.config import DivergenceConfig, TrainingConfig
from s1ray.training.data.batching import global_batch, lay_out
from s1ray.training.data.collate import Dataset, collate
from s1ray.training.model import attention
from s1ray.training.model.loading import load_engine
from s1ray.training.model.loss import IGNORE
from s1ray.training.monitoring.divergence import DivergenceMonitor
from s1ray.training.steps import Stepper

OURS_PACKED = "s1ray, packed"
OURS_PADDED = "s1ray, padded"
PLAIN_PACKED = "plain PyTorch, packed"
PLAIN_PADDED = "plain PyTorch, padded"
TRAINER_ROWS = (16, 4, 1)
"""Rows of the Trainer's micro-batches."""

CPU = torch.device("cpu")


def trainer_arm(rows: int) -> str:
    """Name of the Trainer with micro-batches of so many rows."""
    return f"Trainer, {rows} rows" if rows > 1 else "Trainer, 1 row"


@dataclass(frozen=True)
class Arm:
    """A way to train. It goes on from whatever weights it has by now, which does not matter to its speed."""

    first: Callable[[], float]
    """Take step 0, to warm up; gives its loss."""
    timed: Callable[[], float]
    """Take the steps after it; gives their seconds."""


def make_arms(model: Path, tokens: Sequence[np.ndarray], masks: Sequence[np.ndarray], steps: int) -> dict[str, Arm]:
    """The arms by name, for the first 1 + `steps` global batches of the rows (the same examples in each arm)."""
    longest = max(len(row) for row in tokens)
    dataset = Dataset([str(i) for i in range(len(tokens))], tokens, masks)
    configs = {packing: _config(model, longest, packing) for packing in (True, False)}
    arms: dict[str, Arm] = {}
    join_alone()
    for name, packing in ((OURS_PACKED, True), (OURS_PADDED, False)):
        arms[name] = _ours(model, dataset, configs[packing], steps)
    for variable in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        # Or the Trainer would take itself for one of several workers.
        os.environ.pop(variable, None)
    batches = _batches(dataset, configs[True], steps)
    for name, packing in ((PLAIN_PACKED, True), (PLAIN_PADDED, False)):
        arms[name] = _plain(model, dataset, batches, configs[packing])
    for rows in TRAINER_ROWS:
        arms[trainer_arm(rows)] = _trainer(model, tokens, masks, batches, configs[False], rows)
    return arms


def join_alone() -> None:
    """A process group of this process alone, which DeepSpeed wants."""
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
            # As much as the padded micro-batch of all rows of a step needs.
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


def _ours(model: Path, dataset: Dataset, config: TrainingConfig, steps: int) -> Arm:
    torch.manual_seed(0)
    engine = load_engine(config, str(model), device=CPU, rank=0, world_size=1)
    stepper = Stepper(engine, dataset, config, DivergenceMonitor(DivergenceConfig()), world_size=1)

    def timed() -> float:
        begin = time.perf_counter()
        for step in range(1, 1 + steps):
            stepper.step(step, 0)
        return time.perf_counter() - begin

    return Arm(lambda: float(stepper.step(0, 0).metrics["loss"]), timed)


def _load(model: Path, implementation: str = "sdpa") -> Any:
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
        inputs = collate(dataset, rows, packing=config.packing, flash=False, device=CPU)
        labels = inputs.pop("labels")
        if not config.packing:
            widths = torch.tensor([dataset.lengths[index] for index in rows]).unsqueeze(1)
            inputs["attention_mask"] = (torch.arange(labels.shape[1]) < widths).long()
            del inputs["position_ids"]
        # `shift_labels`: already moved by one, as in packed rows nothing else would be right.
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

    class Clock(TrainerCallback):
        """When training began, everything being built, and when each optimizer step ended."""

        def __init__(self) -> None:
            self.begin = 0.0
            self.ends: list[float] = []

        def on_train_begin(self, *arguments: Any, **keywords: Any) -> None:
            self.begin = time.perf_counter()

        def on_step_end(self, *arguments: Any, **keywords: Any) -> None:
            self.ends.append(time.perf_counter())

    class InOrder(Trainer):
        """Takes the rows in the order given, so that all arms have the same batches."""

        def _get_train_sampler(self, *arguments: Any) -> Any:
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
