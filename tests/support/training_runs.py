"""What the training tests train: a model of a few thousand weights, on counting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s1ray.config import validate_config
from s1ray.miniature.tokenizer import train_tokenizer
from s1ray.runs import Run
from s1ray.schemas import Trace, question_id, to_table, write_table
from s1ray.training.config import TrainingConfig
from s1ray.training.monitoring.metrics import read_metrics
from tests.support.random_model import make_random_model

STEPS = 12


def make_base_model(folder: Path) -> Path:
    tokenizer = train_tokenizer(documents_read=100)
    tokenizer.save_pretrained(folder)
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    return make_random_model(folder, vocab_size=len(tokenizer) + 8, **ids)


def make_traces(path: Path) -> Path:
    rows = []
    for number in range(46):
        question = f"What is {number} + 3?"
        rows.append(
            Trace(
                id=f"{question_id(question)}-0",
                question_id=question_id(question),
                sample=0,
                question=question,
                answer=str(number + 3),
                thinking="\n".join(f"Count on: {number + i}" for i in range(number % 9 + 1)),
                attempt=f"Answer: {number + 3}",
                teacher="test",
                thinking_tokens=0,
                attempt_tokens=0,
                finish_reason="stop",
                correct=True,
            )
        )
    write_table(to_table(rows, Trace), path)
    return path


def config_of(base_model: Path, traces: Path, output: Path, **changes: Any) -> TrainingConfig:
    data = {
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
    } | changes
    return validate_config(TrainingConfig, data, "test")


def weights(run: Run) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(run.path / "model" / "model.safetensors")


def losses(run: Run) -> list[float]:
    return [line["loss"] for line in read_metrics(run.path / "metrics.jsonl")]
