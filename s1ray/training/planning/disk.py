"""How much room a run needs where its folder is: checkpoints, and the models that it writes."""

from __future__ import annotations

import dataclasses
import shutil

from s1ray.manifests import RunError
from s1ray.storage import Location, StorePath, location
from s1ray.training.checkpoint.folder import CHECKPOINTS_FOLDER, newest
from s1ray.training.config import TrainingConfig
from s1ray.training.planning.memory import Architecture
from s1ray.training.planning.memory_advice import size

CONVERSION = 2
"""Checkpoints' worth that DeepSpeed writes to convert one for another number of workers: its parts, and the whole."""
SNAPSHOTS = 2
"""Models of intermediate steps at a time under `accuracy`: the one that is measured, and the best."""


@dataclasses.dataclass(frozen=True)
class DiskNeed:
    """Bytes that a run will still write, and those that are free; nothing that it deletes on the way counts twice."""

    folder: Location
    checkpoint: int
    """One checkpoint."""
    checkpoints: int
    """How many exist at most at once, the one that is being written included; 0: there are no more steps."""
    present: int
    """Bytes of the checkpoints that are there already, which later ones replace."""
    model: int
    """One exported model."""
    models: int
    conversions: int
    """Checkpoints' worth that a conversion writes, because another number of workers resumes."""
    free: int | None
    """On the file system of the folder; None: it does not say."""

    @property
    def total(self) -> int:
        """Bytes that must be free."""
        written = max(0, self.checkpoints * self.checkpoint - self.present) + self.models * self.model
        # It is deleted at the end, and the checkpoints that replace it come later.
        return written + self.conversions * self.checkpoint

    @property
    def enough(self) -> bool | None:
        """Whether they are; None: not known."""
        return None if self.free is None else self.total <= self.free

    def __str__(self) -> str:
        parts = [f"{self.checkpoints} checkpoint(s) of {size(self.checkpoint)}"] if self.checkpoints else []
        if self.conversions:
            parts.append(
                f"the conversion of one for another number of workers ({size(self.conversions * self.checkpoint)})"
            )
        parts.append(f"{self.models} model(s) of {size(self.model)}")
        there = f" ({size(self.present)} of checkpoints are there)" if self.checkpoints and self.present else ""
        free = "an unknown amount" if self.free is None else size(self.free)
        return f"{size(self.total)} of {free} free in {self.folder} for {', '.join(parts)}{there}"


def disk_need(config: TrainingConfig, architecture: Architecture, *, total_steps: int) -> DiskNeed:
    """The room that a run needs, given what its folder holds.

    Args:
        config: its precision decided.
    """
    folder = location(config.output).absolute()
    checkpoints = folder / CHECKPOINTS_FOLDER
    done = newest(checkpoints)
    # Under validation the newest is kept in addition to the best ones.
    kept = config.checkpoints.keep + (config.validation is not None)
    return DiskNeed(
        folder,
        checkpoint_bytes(architecture, config),
        0 if done is not None and done.finished_steps >= total_steps else kept + 1,
        sum(file.stat().st_size for file in checkpoints.rglob("*") if file.is_file()),
        model_bytes(architecture, config),
        1 if config.accuracy is None else 1 + SNAPSHOTS,
        CONVERSION if done is not None and config.zero_stage > 0 and done.world_size != config.num_workers else 0,
        _free(folder),
    )


def check_disk(need: DiskNeed) -> None:
    """Refuse a run that would fill its disk.

    Raises:
        RunError: there is too little room.
    """
    if need.enough is False:
        raise RunError(
            f"output: the run needs {need}; make room there, choose another output, or set checkpoints.keep to a "
            "smaller number"
        )


def disk_line(need: DiskNeed) -> str:
    """The same for a plan."""
    return f"disk: {need}" + {True: "", False: "; it is NOT enough", None: ""}[need.enough]


def checkpoint_bytes(architecture: Architecture, config: TrainingConfig) -> int:
    """A checkpoint of all workers: the trained weights, and AdamW's moments and master weights in fp32.

    ZeRO-3 writes the weights as master weights only; plain fp32 has none.
    """
    plain = config.zero_stage == 0 and config.precision == "fp32"
    weights = 0 if config.zero_stage == 3 else 4 if config.precision == "fp32" else 2
    return (weights + (8 if plain else 12)) * architecture.trainable


def model_bytes(architecture: Architecture, config: TrainingConfig) -> int:
    """An exported model, or adapter."""
    adapter = config.lora is not None and config.lora.export == "adapter"
    width = 4 if config.export_dtype == "float32" else 2
    return width * (architecture.trainable if adapter else architecture.parameters)


def _free(folder: Location) -> int | None:
    if isinstance(folder, StorePath):
        return None
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    usage = shutil.disk_usage(there)
    # Some network storage reports no size at all.
    return usage.free if usage.total else None
