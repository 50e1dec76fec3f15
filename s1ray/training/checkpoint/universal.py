"""Resuming on another number of workers: DeepSpeed's universal checkpoint, and two repairs after loading it.

ZeRO's checkpoint is partitioned for the workers that wrote it. DeepSpeed's converter joins each parameter's weights and
moments again, and any number of workers can load its parts from there. Afterwards two things are wrong (DeepSpeed
0.19): under ZeRO-3 all parameter groups have the first one's settings, including weight decay, and share one step
counter, which AdamW would then advance once for each group at every step.

Imports torch at the top: for training workers only. As a program it is DeepSpeed's converter, which takes nothing but
tensors and plain values from the checkpoint (`tensors_only`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from s1ray.manifests import RunError
from s1ray.storage import remove, writing
from s1ray.training.checkpoint.tensors_only import tensors_only

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

POLL_SECONDS = 0.5
REFUSED = 3
"""Exit status of the converter if a file holds more than tensors and plain values."""


def convert(source: Path, target: Path, *, tag: str, processes: int) -> None:
    """Write a universal checkpoint of `source/tag` to `target/tag`, whole or not at all.

    Args:
        processes: how many shards are read at once; each takes about one shard's memory.

    Raises:
        RunError: the conversion failed; with the last lines of the converter's output.
    """
    for left in target.parent.glob(f".{target.name}.*.tmp"):
        # Of an attempt that was killed: as large as the checkpoint, and nothing else deletes it.
        remove(left)
    with writing(target) as temporary:
        temporary.mkdir()
        # In a process of its own, as the converter forks: this one, with a CUDA context and Ray's threads, should not.
        command = [sys.executable, "-m", __spec__.name, "--inject_missing_state"]
        command += ["--input_folder", str(source / tag), "--output_folder", str(temporary / tag)]
        command += ["--num_extract_workers", str(processes), "--num_merge_workers", str(processes)]
        environment = os.environ | {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        # For processes of the converter that would not inherit `tensors_only`.
        environment |= {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode == REFUSED:
            raise RunError(done.stdout.strip().splitlines()[-1])
        if done.returncode:
            said = "\n".join(done.stdout.strip().splitlines()[-5:])
            raise RunError(f"{source}: cannot be converted for another number of workers:\n{said}")


def wait_for(folder: Path) -> None:
    """Wait until another worker has converted a checkpoint.

    A collective would time out on large models; if that worker fails, Ray Train ends this one as well.
    """
    while not folder.exists():
        time.sleep(POLL_SECONDS)


def load(engine: DeepSpeedEngine, folder: Path, *, tag: str) -> str | None:
    """Load a universal checkpoint into a DeepSpeed engine of ZeRO 1, 2 or 3; every worker must call it.

    Returns:
        The path that DeepSpeed loaded from; None if it found nothing.
    """
    groups = engine.optimizer.param_groups
    settings = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    # DeepSpeed reads this when it loads; when the engine is made it is not known yet whether it is needed.
    engine._config.load_universal_checkpoint = True
    try:
        with tensors_only():
            path, _ = engine.load_checkpoint(str(folder), tag=tag)
    finally:
        engine._config.load_universal_checkpoint = False
    for group, before in zip(groups, settings, strict=True):
        group.update(before)
    for parameter, state in engine.optimizer.optimizer.state.items():
        if torch.is_tensor(state.get("step")):
            # A counter for each parameter, where fused AdamW looks for it.
            state["step"] = state["step"].detach().to(parameter.device, torch.float32, copy=True)
    return cast("str | None", path)


def _main() -> None:
    from deepspeed.checkpoint import ds_to_universal

    try:
        with tensors_only():
            ds_to_universal.main(ds_to_universal.parse_arguments())
    except RunError as error:
        print(error)
        sys.exit(REFUSED)


if __name__ == "__main__":
    _main()
