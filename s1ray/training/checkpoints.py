"""Checkpoints to resume from: every worker writes its own part, Ray Train merges and keeps them.

A checkpoint holds DeepSpeed's state (weights, optimizer), the random state of each worker and the number of finished
steps. The data position needs nothing more: the examples of a step follow from the seed and the step
(`batching.global_batch`).

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s1ray.training.engine import Engine

TAG = "state"
"""Folder of DeepSpeed's files within a checkpoint."""


def report_checkpoint(engine: Engine, *, finished_steps: int, rank: int, metrics: dict[str, Any]) -> None:
    """Save the state after `finished_steps` optimizer steps and hand it to Ray Train; every worker must call it."""
    import ray.train

    with tempfile.TemporaryDirectory(prefix="s1ray-checkpoint-") as folder:
        engine.deepspeed.save_checkpoint(folder, tag=TAG, client_state={"finished_steps": finished_steps})
        torch.save(_random_state(), Path(folder) / f"random_{rank}.pt")
        ray.train.report(
            metrics,
            checkpoint=ray.train.Checkpoint.from_directory(folder),
            checkpoint_dir_name=f"step_{finished_steps:06d}",
        )


def restore_checkpoint(engine: Engine, *, rank: int) -> int:
    """Load the newest checkpoint of this run, if there is one; returns the number of finished steps."""
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        path, client_state = engine.deepspeed.load_checkpoint(folder, tag=TAG)
        if path is None:
            raise RuntimeError(f"{folder}: DeepSpeed found no state there; delete the folder to start again")
        # Written by this program; numpy's and Python's random states are not plain tensors.
        _set_random_state(torch.load(Path(folder) / f"random_{rank}.pt", weights_only=False))
    return int(client_state["finished_steps"])


def _random_state() -> dict[str, Any]:
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
