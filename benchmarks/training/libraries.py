"""The arms that are libraries: transformers' Trainer and TRL's SFTTrainer, on the same rows, in fp32 on one thread.

- Trainer pads, in micro-batches of 16, 4 or 1 rows, with accumulation up to 16; it makes all logits at once.
- TRL has a loss of its own that does not. By default it pads, 8 rows at once. With `packing` it fills rows of its
  default `max_length`; where flash attention is missing, as on CPUs, transformers separates their examples by a mask
  over the whole row. Two of its defaults are not used, as no other arm has them: bf16 and gradient checkpointing.

Both use torch's scaled dot product attention.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.training.arms import Arm, load, step_rows
from benchmarks.training.workload import GLOBAL_BATCH
from s1ray.training.data.collate import IGNORE

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast, Trainer

TRL_PACKED = "TRL, packed"
TRL_PADDED = "TRL, 8 rows"
TRL_ROWS = 8
TRL_LENGTH = 1024
"""TRL's defaults."""
TRAINER_ROWS = (16, 4, 1)
"""Rows of the Trainer's micro-batches."""


def trainer_arm(rows: int) -> str:
    """Name of the Trainer with micro-batches of this many rows."""
    return f"Trainer, {rows} rows" if rows > 1 else "Trainer, 1 row"


def make_library_arms(
    model: Path, tokens: Sequence[np.ndarray], masks: Sequence[np.ndarray], steps: int
) -> dict[str, Arm]:
    """The arms by name, for the same steps as those of `arms.make_arms`."""
    batches = step_rows(len(tokens), steps)
    arms = {
        TRL_PACKED: _trl(model, tokens, masks, batches, packing=True),
        TRL_PADDED: _trl(model, tokens, masks, batches, packing=False),
    }
    return arms | {trainer_arm(rows): _trainer(model, tokens, masks, batches, rows) for rows in TRAINER_ROWS}


def _settings(model: Path, steps: int) -> dict[str, object]:
    """Arguments of both trainers."""
    return {
        "output_dir": str(model.parent / "trainer"),
        "max_steps": steps,
        "optim": "adamw_torch_fused",
        "learning_rate": 1e-5,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "disable_tqdm": True,
    }


def _clocked(trainer: Trainer) -> tuple[float, float]:
    """Train; the seconds from its first step's begin to its last step's end, and the first step's loss."""
    from transformers import PrinterCallback, TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]  # transformers is not type-checked
        """When training began, after everything was built, and when the last optimizer step ended."""

        begin = end = 0.0

        def on_train_begin(self, *arguments: object, **keywords: object) -> None:
            self.begin = time.perf_counter()

        def on_step_end(self, *arguments: object, **keywords: object) -> None:
            self.end = time.perf_counter()

    clock = Clock()
    trainer.add_callback(clock)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    loss = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    return clock.end - clock.begin, float(loss)


def _trl(
    model: Path,
    tokens: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    batches: Sequence[Sequence[int]],
    *,
    packing: bool,
) -> Arm:
    from trl import SFTConfig, SFTTrainer, pack_dataset

    network, tokenizer = load(model), _tokenizer()

    def run(rows_of: Sequence[Sequence[int]]) -> tuple[float, float]:
        rows = _rows(tokens, masks, [index for batch in rows_of for index in batch])
        if packing:
            # All packed rows of a run are shared out among its steps, which the packing does not know.
            packed = len(pack_dataset(rows.select_columns(["input_ids"]), TRL_LENGTH))
            batch, accumulation = 1, -(-packed // len(rows_of))
        else:
            batch, accumulation = TRL_ROWS, GLOBAL_BATCH // TRL_ROWS
        arguments = SFTConfig(
            packing=packing,
            max_length=TRL_LENGTH,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            completion_only_loss=True,
            bf16=False,
            gradient_checkpointing=False,
            **_settings(model, len(rows_of)),
        )
        return _clocked(SFTTrainer(model=network, args=arguments, train_dataset=rows, processing_class=tokenizer))

    return Arm(lambda: run(batches[:1])[1], lambda: run(batches[1:])[0])


def _rows(tokens: Sequence[np.ndarray], masks: Sequence[np.ndarray], chosen: Sequence[int]) -> Dataset:
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    columns = {
        "input_ids": [tokens[index].tolist() for index in chosen],
        "completion_mask": [masks[index].astype(int).tolist() for index in chosen],
    }
    return Dataset.from_dict(columns)


def _tokenizer() -> PreTrainedTokenizerFast:
    """TRL asks for one, and uses it only for the id of the padding: rows are given as ids."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"pad": 0, "end": 1}, unk_token="pad"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="pad", eos_token="end")


def _trainer(
    model: Path,
    tokens: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    batches: Sequence[Sequence[int]],
    rows: int,
) -> Arm:
    from transformers import Trainer, TrainingArguments

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

    def run(rows_of: Sequence[Sequence[int]]) -> tuple[float, float]:
        arguments = TrainingArguments(
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=GLOBAL_BATCH // rows,
            **_settings(model, len(rows_of)),
            remove_unused_columns=False,
        )
        ordered = [{"tokens": tokens[index], "mask": masks[index]} for batch in rows_of for index in batch]
        return _clocked(InOrder(model=network, args=arguments, train_dataset=ordered, data_collator=pad))

    network = load(model)

    return Arm(lambda: run(batches[:1])[1], lambda: run(batches[1:])[0])
