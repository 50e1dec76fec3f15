"""Saves and restores the training engine's state, in every ZeRO stage and precision, on the same and other workers.

Three rounds of worker processes. Two workers go on undisturbed, and again from their checkpoint; one worker goes on
from it; two go on from what the one saved.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.training_cases import config_of, make_dataset

SAVED_AFTER, AGAIN_SAVED_AFTER, STEPS = 2, 3, 4
TAG = "state"
LORA = {"rank": 4, "alpha": 8, "target_modules": ["q_proj", "down_proj"]}
CASES: dict[str, dict[str, Any]] = {
    "fp32, zero 0": {"precision": "fp32", "zero_stage": 0},
    "fp32, zero 2": {"precision": "fp32", "zero_stage": 2},
    "fp32, zero 3": {"precision": "fp32", "zero_stage": 3},
    "bf16, zero 0": {"precision": "bf16", "zero_stage": 0},
    "bf16, zero 1": {"precision": "bf16", "zero_stage": 1},
    "bf16, zero 2, LoRA": {"precision": "bf16", "zero_stage": 2, "lora": LORA},
    "bf16, zero 3": {"precision": "bf16", "zero_stage": 3},
}


def run_round(name: str, model: str, folder: str, *, rank: int, world_size: int) -> dict[str, dict[str, Any]]:
    """One round: weights by case and by what was done ("saved", "undisturbed", "resumed", ...)."""
    act = {"two": _two, "one": _one, "two again": _two_again}[name]
    return {case: act(_Case(model, Path(folder, case), changes, rank, world_size)) for case, changes in CASES.items()}


def convert_all(folder: Path, name: str) -> None:
    """Convert what was saved under a name, in all cases that need it."""
    from s1ray.training.checkpoint import universal

    sharded = [folder / case for case, changes in CASES.items() if changes["zero_stage"] > 0]
    with ThreadPoolExecutor(2) as pool:
        done = [
            pool.submit(universal.convert, case / name, case / f"{name}_converted", tag=TAG, processes=1)
            for case in sharded
        ]
        for conversion in done:
            conversion.result()


def _two(case: _Case) -> dict[str, Any]:
    engine = case.engine()
    case.go_on(engine, 0, SAVED_AFTER)
    case.save(engine, "saved_by_two")
    saved = case.weights(engine)
    case.go_on(engine, SAVED_AFTER, STEPS)
    undisturbed = case.weights(engine)
    resumed = case.engine()
    case.load(resumed, "saved_by_two", converted=False)
    case.go_on(resumed, SAVED_AFTER, STEPS)
    # The same engine once more, as when the best checkpoint is taken for export; a step that is left out on the way.
    case.load(engine, "saved_by_two", converted=False)
    case.leave_out_a_step(engine)
    case.go_on(engine, SAVED_AFTER, STEPS)
    return {
        "saved": saved,
        "undisturbed": undisturbed,
        "resumed": case.weights(resumed),
        "rewound": case.weights(engine),
    }


def _one(case: _Case) -> dict[str, Any]:
    engine = case.engine()
    case.load(engine, "saved_by_two", converted=True)
    case.go_on(engine, SAVED_AFTER, AGAIN_SAVED_AFTER)
    case.save(engine, "saved_by_one")
    case.go_on(engine, AGAIN_SAVED_AFTER, STEPS)
    return {"by one": case.weights(engine)}


def _two_again(case: _Case) -> dict[str, Any]:
    engine = case.engine()
    case.load(engine, "saved_by_one", converted=True)
    case.go_on(engine, AGAIN_SAVED_AFTER, STEPS)
    return {"by two": case.weights(engine)}


class _Case:
    """One config, on one worker."""

    def __init__(self, model: str, folder: Path, changes: dict[str, Any], rank: int, world_size: int):
        # Decay shows whether groups keep their own; so high a rate, whether AdamW counts its steps right.
        optimizer = {"learning_rate": 1e-2, "weight_decay": 0.5}
        changes = {"export_dtype": "bfloat16", "optimizer": optimizer} | changes
        self.config = config_of(model, num_workers=world_size, **changes)
        self.dataset = make_dataset()
        self._model = model
        self._folder = folder
        self._rank = rank
        self._world_size = world_size

    def engine(self) -> Any:
        import torch

        from s1ray.training.model.loading import load_engine

        torch.manual_seed(0)
        device = torch.device("cpu")
        return load_engine(self.config, self._model, device=device, rank=self._rank, world_size=self._world_size)

    def go_on(self, engine: Any, first: int, last: int) -> None:
        from s1ray.training.monitoring.divergence import DivergenceMonitor
        from s1ray.training.steps import Stepper

        monitor = DivergenceMonitor(self.config.divergence)
        stepper = Stepper(engine, self.dataset, self.config, monitor, world_size=self._world_size)
        for step in range(first, last):
            assert stepper.step(step, 0).problem is None

    def leave_out_a_step(self, engine: Any) -> None:
        """Everything of a step but the update."""
        before = self.weights(engine)
        engine.accumulate([engine.inputs(self.dataset, [engine.row_group])], 100)
        norms: list[float] = []
        assert engine.step(1.0, lambda norm: norms.append(norm) is None) == norms[0] > 0
        for name, weight in self.weights(engine).items():
            np.testing.assert_array_equal(weight, before[name], err_msg=name)

    def save(self, engine: Any, name: str) -> None:
        engine.deepspeed.save_checkpoint(self._folder / name, tag=TAG, exclude_frozen_parameters=self._has_frozen)

    def load(self, engine: Any, name: str, *, converted: bool) -> None:
        from s1ray.training.checkpoint import universal

        if converted and self.config.zero_stage > 0:
            assert universal.load(engine.deepspeed, self._folder / f"{name}_converted", tag=TAG) is not None
        else:
            source = str(self._folder / name)
            engine.deepspeed.load_checkpoint(source, tag=TAG, load_module_strict=not self._has_frozen)

    def weights(self, engine: Any) -> dict[str, np.ndarray]:
        import deepspeed

        found = {}
        for name, parameter in engine.model.named_parameters():
            with deepspeed.zero.GatheredParameters([parameter]):
                found[name] = parameter.detach().float().numpy().copy()
        return found

    @property
    def _has_frozen(self) -> bool:
        return self.config.lora is not None
