"""The golden loss curve: twenty optimizer steps of the miniature, whose losses are kept in golden_curve.json.

It pins everything that decides a loss: texts and masks, the order of the examples, loss, schedule and optimizer. After
a deliberate change to one of them, or with a new base model, write it again:

    python -m tests.support.golden_curve
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from s1ray.schemas import Trace
from tests.support.training_runs import trace, training_config

FILE = Path(__file__).with_suffix(".json")
STEPS = 20
GLOBAL_BATCH = 8


def base_model_digest() -> str:
    """Identifies the packaged base model, so that a curve of another one is not used."""
    from s1ray.miniature import BASE_MODEL_DIR

    return hashlib.sha256((Path(BASE_MODEL_DIR) / "model.safetensors").read_bytes()).hexdigest()


def train(model_folder: str | None = None, *, rank: int, world_size: int) -> list[float]:
    """The losses of the steps; exports the model to a folder, if one is given."""
    import torch

    from s1ray.training.data.collate import Dataset
    from s1ray.training.data.examples import build_examples
    from s1ray.training.data.preparation import load_renderer
    from s1ray.training.model.export import export
    from s1ray.training.model.loading import load_engine
    from s1ray.training.monitoring.divergence import DivergenceMonitor
    from s1ray.training.steps import Stepper

    config = training_config(
        model="miniature-base",
        max_length=1024,
        epochs=1,
        global_batch=GLOBAL_BATCH,
        optimizer={"learning_rate": 1e-3},
        num_workers=world_size,
        zero_stage=3,
        precision="fp32",
        export_dtype="float32",
    )
    renderer = load_renderer(config)
    examples, unusable = build_examples(make_traces(), renderer, config.max_length)
    assert not unusable, unusable
    dataset = Dataset(
        [example.id for example in examples],
        [example.input_ids for example in examples],
        [example.loss_mask for example in examples],
    )
    torch.manual_seed(0)
    engine = load_engine(config, device=torch.device("cpu"), rank=rank, world_size=world_size)
    stepper = Stepper(engine, dataset, config, DivergenceMonitor(config.divergence), world_size=world_size)
    assert stepper.total == STEPS
    losses = [stepper.step(step, 0).metrics["loss"] or float("nan") for step in range(STEPS)]
    if model_folder is not None:
        export(engine, renderer.tokenizer, renderer.turn_end, config, Path(model_folder), rank=rank)
    return losses


def make_traces() -> list[Trace]:
    """The procedural teacher's, on questions of the miniature's benchmark."""
    from s1ray.miniature.pool import build_benchmark
    from s1ray.miniature.teacher import ProceduralTeacher

    teacher = ProceduralTeacher(seed=0)
    return [trace(row.id, row.question, *teacher.solve(row)) for row in build_benchmark(STEPS * GLOBAL_BATCH, seed=0)]


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
