"""The golden loss curve: twenty optimizer steps of the miniature, whose losses are kept in golden_curve.json.

It pins everything that decides a loss: texts and masks, the order of the examples, loss, schedule and optimizer. After
a change that is meant to alter one of them, or with a new base model, write it anew:

    python -m tests.support.golden_curve
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")
STEPS = 20
GLOBAL_BATCH = 8


def base_model_digest() -> str:
    """Says whether the curve was made with the base model that is packaged now."""
    from s1ray.miniature import BASE_MODEL_DIR

    return hashlib.sha256((Path(BASE_MODEL_DIR) / "model.safetensors").read_bytes()).hexdigest()


def train(*, rank: int, world_size: int) -> list[float]:
    """The losses of the steps."""
    import torch
    from transformers import AutoTokenizer

    from s1ray.miniature import BASE_MODEL_DIR
    from s1ray.schemas import Example, to_table, write_table
    from s1ray.thinking.format import ThinkingFormat
    from s1ray.training.config import DivergenceConfig, TrainingConfig
    from s1ray.training.data.collate import Dataset
    from s1ray.training.data.examples import ChatRenderer, build_examples
    from s1ray.training.model.loading import load_engine
    from s1ray.training.monitoring.divergence import DivergenceMonitor
    from s1ray.training.steps import Stepper

    config = TrainingConfig.model_validate(
        {
            "output": "unused",
            "model": "miniature-base",
            "traces": "unused",
            "max_length": 1024,
            "epochs": 1,
            "global_batch": GLOBAL_BATCH,
            "optimizer": {"learning_rate": 1e-3},
            "num_workers": world_size,
            "precision": "fp32",
            "export_dtype": "float32",
        }
    )
    renderer = ChatRenderer(AutoTokenizer.from_pretrained(BASE_MODEL_DIR), ThinkingFormat.preset("s1"))
    examples, unusable = build_examples(make_traces(), renderer, config.max_length)
    assert not unusable, unusable
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "examples.parquet"
        write_table(to_table(examples, Example), path)
        dataset = Dataset.read(str(path))
    torch.manual_seed(0)
    engine = load_engine(config, str(BASE_MODEL_DIR), device=torch.device("cpu"), rank=rank, world_size=world_size)
    stepper = Stepper(engine, dataset, config, DivergenceMonitor(DivergenceConfig()), world_size=world_size)
    assert stepper.total == STEPS
    return [stepper.step(step, 0).metrics["loss"] for step in range(STEPS)]


def make_traces() -> list[Any]:
    """The procedural teacher's, on questions of the miniature's benchmark."""
    from s1ray.miniature.pool import build_benchmark
    from s1ray.miniature.teacher import ProceduralTeacher
    from s1ray.schemas import Trace

    teacher = ProceduralTeacher(seed=0)
    traces = []
    for row in build_benchmark(STEPS * GLOBAL_BATCH, seed=0):
        thinking, attempt = teacher.solve(row)
        traces.append(
            Trace(
                id=f"{row.id}-0",
                question_id=row.id,
                sample=0,
                question=row.question,
                answer=None,
                thinking=thinking,
                attempt=attempt,
                teacher="procedural",
                thinking_tokens=0,
                attempt_tokens=0,
                finish_reason="stop",
            )
        )
    return traces


def main() -> None:
    """Write the curve."""
    from tests.support.training_cases import in_workers

    with tempfile.TemporaryDirectory() as folder:
        (losses,) = in_workers(train, 1, Path(folder) / "store")
    curve = {"base_model_sha256": base_model_digest(), "losses": [round(loss, 6) for loss in losses]}
    FILE.write_text(json.dumps(curve, indent=1) + "\n", encoding="utf-8")
    print(f"{FILE.name}: {losses[0]:.4f} to {losses[-1]:.4f}")


if __name__ == "__main__":
    main()
