"""Resuming on another number of workers: DeepSpeed's universal checkpoint, and what it leaves to do.

ZeRO's checkpoint is cut for the workers that wrote it. DeepSpeed's converter puts each parameter's weights and moments
together again, and any number of workers takes its parts from there. Afterwards two things are not yet as they were
(DeepSpeed 0.19): under ZeRO-3 all parameter groups have the first one's settings, weight decay included, and share one
step counter, which AdamW would then advance once for each group at every step.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

POLL_SECONDS = 0.5


def convert(source: Path, target: Path, *, tag: str, processes: int) -> None:
    """Write a universal checkpoint of `source/tag` to `target/tag`, whole or not at all.

    Args:
        processes: how many shards are read at once; each takes about one shard's memory.

    Raises:
        RuntimeError: the conversion failed; with what the converter said last.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    # A process of its own: it forks, which this one, with its CUDA context and Ray's threads, should not.
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    command += ["--input_folder", str(source / tag), "--output_folder", str(temporary / tag)]
    command += ["--num_extract_workers", str(processes), "--num_merge_workers", str(processes)]
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        said = "\n".join(done.stdout.strip().splitlines()[-5:])
        shutil.rmtree(temporary, ignore_errors=True)
        raise RuntimeError(f"{source}: cannot be converted for another number of workers:\n{said}")
    os.replace(temporary, target)


def wait_for(folder: Path) -> None:
    """Wait until another worker has converted a checkpoint.

    A collective would time out on large models; if that worker fails, Ray Train ends this one too.
    """
    while not folder.exists():
        time.sleep(POLL_SECONDS)


def load(engine: Any, folder: Path, *, tag: str) -> str | None:
    """Load a universal checkpoint into a DeepSpeed engine of ZeRO 1, 2 or 3; every worker must call it.

    Returns:
        DeepSpeed's path of what was loaded; None if there was nothing.
    """
    groups = engine.optimizer.param_groups
    settings = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    # DeepSpeed reads this at the time of loading; whether it is needed is not known when the engine is made.
    engine._config.load_universal_checkpoint = True
    try:
        path, _ = engine.load_checkpoint(str(folder), tag=tag)
    finally:
        engine._config.load_universal_checkpoint = False
    for group, before in zip(groups, settings, strict=True):
        group.update(before)
    for parameter, state in engine.optimizer.optimizer.state.items():
        if torch.is_tensor(state.get("step")):
            # A counter for each, where fused AdamW looks for it.
            state["step"] = state["step"].detach().to(parameter.device, torch.float32, copy=True)
    return path
