"""Saves and restores the training engine's state, in every ZeRO stage and precision, on the same and other workers.

Three rounds of worker processes: two workers train undisturbed, and again from their checkpoint; one worker resumes
from it; two workers resume from the checkpoint of the one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.support.training_cases import Weights, config_of, make_dataset, whole_weights

if TYPE_CHECKING:
    from s1ray.training.model.engine import Engine

SAVED_AFTER, AGAIN_SAVED_AFTER, STEPS = 2, 3, 4
TAG = "state"
LORA = {"rank": 4, "alpha": 8, "target_modules": ["q_proj", "down_proj"]}
CASES: dict[str, dict[str, object]] = {
    "fp32, zero 0": {"precision": "fp32", "zero_stage": 0},
    "fp32, zero 2": {"precision": "fp32", "zero_stage": 2},
    "fp32, zero 3": {"precision": "fp32", "zero_stage": 3},
    "bf16, zero 0": {"precision": "bf16", "zero_stage": 0},
    "bf16, zero 1": {"precision": "bf16", "zero_stage": 1},
    "bf16, zero 2, LoRA": {"precision": "bf16", "zero_stage": 2, "lora": LORA},
    "bf16, zero 2, QLoRA": {"precision": "bf16", "zero_stage": 2, "lora": LORA | {"quantize": "nf4"}},
    "bf16, zero 3": {"precision": "bf16", "zero_stage": 3},
}


def run_round(
    name: str, cases: tuple[str, ...], model: str, folder: str, *, rank: int, world_size: int
) -> dict[str, dict[str, Weights]]:
    """One round: weights by case and by what was done ("saved", "undisturbed", "resumed", ...)."""
    act = {"two": _two, "one": _one, "two again": _two_again}[name]
    return {case: act(Case(model, Path(folder, case), CASES[case], rank, world_size)) for case in cases}


def convert_all(folder: Path, cases: tuple[str, ...], name: str) -> None:
    """Convert the checkpoints of a name, in all cases that need it."""
    from s1ray.training.checkpoint import universal

    sharded = [folder / case for case in cases if CASES[case]["zero_stage"] != 0]
    with ThreadPoolExecutor(2) as pool:
        done = [
            pool.submit(universal.convert, case / name, case / f"{name}_converted", tag=TAG, processes=1)
            for case in sharded
        ]
        for conversion in done:
            conversion.result()


def _two(case: Case) -> dict[str, Weights]:
    engine = case.engine()
    case.train(engine, 0, SAVED_AFTER)
    case.save(engine, "saved_by_two")
    saved = whole_weights(engine)
    case.train(engine, SAVED_AFTER, STEPS)
    undisturbed = whole_weights(engine)
    resumed = case.engine()
    case.load(resumed, "saved_by_two", converted=False)
    case.train(resumed, SAVED_AFTER, STEPS)
    # The same engine again, as when the best checkpoint is restored for export; with a skipped step on the way.
    case.load(engine, "saved_by_two", converted=False)
    case.skip_a_step(engine)
    case.train(engine, SAVED_AFTER, STEPS)
    return {
        "saved": saved,
        "undisturbed": undisturbed,
        "resumed": whole_weights(resumed),
        "rewound": whole_weights(engine),
    }


def _one(case: Case) -> dict[str, Weights]:
    engine = case.engine()
    case.load(engine, "saved_by_two", converted=True)
    case.train(engine, SAVED_AFTER, AGAIN_SAVED_AFTER)
    case.save(engine, "saved_by_one")
    case.train(engine, AGAIN_SAVED_AFTER, STEPS)
    return {"by one": whole_weights(engine)}


def _two_again(case: Case) -> dict[str, Weights]:
    engine = case.engine()
    case.load(engine, "saved_by_one", converted=True)
    case.train(engine, AGAIN_SAVED_AFTER, STEPS)
    return {"by two": whole_weights(engine)}


class Case:
    """One config, on one worker."""

    def __init__(self, model: str, folder: Path, changes: dict[str, object], rank: int, world_size: int):
        # Weight decay shows whether groups keep their own; so high a rate, whether AdamW counts its steps correctly.
        optimizer = {"learning_rate": 1e-2, "weight_decay": 0.5}
        changes = {"export_dtype": "bfloat16", "optimizer": optimizer} | changes
        self.config = config_of(model, num_workers=world_size, **changes)
        self.dataset = make_dataset()
        self._folder = folder
        self._rank = rank
        self._world_size = world_size

    def engine(self) -> Engine:
        import torch

        from s1ray.training.model.loading import load_engine

        torch.manual_seed(0)
        device = torch.device("cpu")
        return load_engine(self.config, device=device, rank=self._rank, world_size=self._world_size)

    def train(self, engine: Engine, first: int, last: int) -> None:
        from s1ray.training.monitoring.divergence import DivergenceMonitor
        from s1ray.training.steps import Stepper

        monitor = DivergenceMonitor(self.config.divergence)
        stepper = Stepper(engine, self.dataset, self.config, monitor, world_size=self._world_size)
        for step in range(first, last):
            assert stepper.step(step, 0).problem is None

    def skip_a_step(self, engine: Engine) -> None:
        """Everything of a step but the update."""
        before = whole_weights(engine)
        engine.accumulate([engine.inputs(self.dataset, [engine.row_group])], 100)
        norms: list[float] = []

        def refuse(norm: float) -> bool:
            norms.append(norm)
            return True

        assert engine.step(1.0, refuse) == norms[0] > 0
        for name, weight in whole_weights(engine).items():
            np.testing.assert_array_equal(weight, before[name], err_msg=name)

    def save(self, engine: Engine, name: str) -> None:
        engine.deepspeed.save_checkpoint(self._folder / name, tag=TAG, exclude_frozen_parameters=self._has_frozen)

    def load(self, engine: Engine, name: str, *, converted: bool) -> None:
        from s1ray.training.checkpoint import universal

        if converted and self.config.zero_stage > 0:
            assert universal.load(engine.deepspeed, self._folder / f"{name}_converted", tag=TAG) is not None
        else:
            source = str(self._folder / name)
            engine.deepspeed.load_checkpoint(source, tag=TAG, load_module_strict=not self._has_frozen)

    @property
    def _has_frozen(self) -> bool:
        return self.config.lora is not None
