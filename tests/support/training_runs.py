"""What the tests of training train: a model of a few thousand weights, on counting."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.config import validate_config
from s1ray.miniature.tokenizer import train_tokenizer
from s1ray.runs import Run
from s1ray.schemas import Trace, question_id, to_table, write_table
from s1ray.storage import Location, local_copy
from s1ray.training.config import TrainingConfig
from s1ray.training.monitoring.metrics import read_metrics
from tests.support.random_qwen import make_random_model

if TYPE_CHECKING:
    import torch

STEPS = 12


def training_config(**changes: object) -> TrainingConfig:
    """A config of which only the changes matter."""
    return validate_config(TrainingConfig, {"output": "x", "model": "x", "traces": "x"} | changes, "test")


def trace(name: str, question: str, thinking: str, attempt: str) -> Trace:
    """A teacher's trace."""
    return Trace(
        id=name,
        question_id=question_id(question),
        sample=0,
        question=question,
        thinking=thinking,
        attempt=attempt,
        teacher="test",
        thinking_tokens=0,
        attempt_tokens=0,
        finish_reason="stop",
    )


def changed(row: Trace, **changes: str) -> Trace:
    return Trace(**(dataclasses.asdict(row) | changes))


def make_base_model(folder: Path, *, hidden_size: int = 32) -> Path:
    """A random model with a tokenizer; vLLM serves it on CPUs where its heads are 32 wide."""
    tokenizer = train_tokenizer(documents_read=100)
    tokenizer.save_pretrained(folder)
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    return make_random_model(folder, vocab_size=len(tokenizer) + 8, hidden_size=hidden_size, **ids)


def make_traces(path: Path) -> Path:
    rows = [
        trace(
            f"count-{number}",
            f"What is {number} + 3?",
            "\n".join(f"Count on: {number + i}" for i in range(number % 9 + 1)),
            f"Answer: {number + 3}",
        )
        for number in range(46)
    ]
    write_table(to_table(rows, Trace), path)
    return path


def config_of(base_model: Path, traces: Path, output: Location, **changes: object) -> TrainingConfig:
    settings = {
        "output": str(output),
        "model": str(base_model),
        "traces": str(traces),
        "max_length": 256,
        "epochs": 2,
        "global_batch": 8,
        "optimizer": {"learning_rate": 3e-3},
        "device": "cpu",
        "num_workers": 2,
        "precision": "fp32",
        "export_dtype": "float32",
        "checkpoints": {"every": 4},
        "max_restarts": 0,
    }
    return training_config(**(settings | changes))


def weights(run: Run) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = load_file(local_copy(run.path / "model" / "model.safetensors"))
    return found


def losses(run: Run) -> list[float | None]:
    return [line["loss"] for line in read_metrics(run.path / "metrics.jsonl")]
