"""Checkpoints to resume from: every worker writes its own part, Ray Train puts the parts together and keeps them.

A checkpoint holds DeepSpeed's state (weights, optimizer), the random state of each worker, and the progress of the run.
All but DeepSpeed's files is JSON, and of those only tensors and plain values are loaded (`tensors_only`). It needs no
data position: the examples of a step follow from the seed and the step (`batching.global_batch`). Weights that are not
trained (under LoRA) are left out; they are the base model's.

A worker writes to its temporary folder, and Ray Train copies from there to the run folder while training continues. The
checkpoint counts, and an older one may be deleted, once all workers' parts have arrived. Until then no other checkpoint
is begun, so that the temporary folder holds at most one. Where it has no room, workers write to the run folder itself.

Imports torch at the top: for training workers only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from s1ray.manifests import RunError
from s1ray.storage import Location, StorePath, arrow_place
from s1ray.training.checkpoint import random_states, universal
from s1ray.training.checkpoint.folder import (
    CHECKPOINTS_FOLDER,
    STATE_FILE,
    UNIVERSAL_FOLDER,
    CheckpointMetrics,
    folder_name,
    write_file_list,
)
from s1ray.training.checkpoint.tensors_only import tensors_only
from s1ray.training.config import TrainingConfig
from s1ray.training.model.engine import Engine, barrier

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine
    from ray.train import Checkpoint

log = logging.getLogger("s1ray")

TAG = "state"
"""Folder of DeepSpeed's files in a checkpoint."""
NOT_MEASURED = 1e300
"""Score of a checkpoint without a validation loss: worse than all others, and a number, as Ray Train needs one."""
SPARE = 1.1
"""Free bytes needed in the temporary folder for each byte to be written."""


@dataclasses.dataclass
class RunState:
    """The progress of a run: everything in a checkpoint but tensors."""

    finished_steps: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)
    """Of the steps that the next ones are compared with (see `DivergenceMonitor`), oldest first."""
    norms: list[float] = dataclasses.field(default_factory=list)
    skipped: int = 0
    best_loss: float | None = None
    """Lowest validation loss so far."""
    best_step: int | None = None
    """Finished steps at that measurement."""


class Checkpointer:
    """Saves and restores the training state; every worker has one, and all of them must make the same calls."""

    def __init__(self, engine: Engine, config: TrainingConfig, output: Location, *, rank: int, world_size: int):
        """Delete what an earlier, killed attempt left in the temporary folder.

        Args:
            output: the run folder.
        """
        import ray.train

        context = ray.train.get_context()
        self._engine = engine
        self._config = config
        self._output = output
        self._rank = rank
        self._world_size = world_size
        self._local_workers = context.get_local_world_size()
        self._staging_prefix = f"s1ray-checkpoint-{hashlib.sha256(str(output).encode()).hexdigest()[:12]}-"
        self._frozen = any(not parameter.requires_grad for parameter in engine.deepspeed.module.parameters())
        if context.get_local_rank() == 0:
            for leftover in Path(tempfile.gettempdir()).glob(f"{self._staging_prefix}*"):
                shutil.rmtree(leftover, ignore_errors=True)
        barrier()

    def save(self, state: RunState, *, validation_loss: float | None = None) -> None:
        """Write the state and hand it to Ray Train; returns when training may continue.

        Args:
            validation_loss: measured after this step.

        Raises:
            RunError: the folder cannot be written to.
        """
        import ray.train

        self.wait()
        metrics: CheckpointMetrics = {
            "step": state.finished_steps,
            "validation_loss": NOT_MEASURED if validation_loss is None else validation_loss,
        }
        name = folder_name(state.finished_steps)
        background = self._config.checkpoints.background and self._has_room()
        shared = None if background or isinstance(self._output, StorePath) else self._output / CHECKPOINTS_FOLDER / name
        folder = shared or Path(tempfile.mkdtemp(prefix=self._staging_prefix))
        try:
            self._write(folder, state, metrics, shared=shared is not None)
        except (OSError, RuntimeError) as error:
            # torch.save reports a full disk as a RuntimeError.
            raise RunError(
                f"{folder}: the checkpoint after step {state.finished_steps} cannot be written: {error}; make room "
                "there, set TMPDIR on the nodes to a larger disk, or set checkpoints.background: false to write to the "
                "run folder only"
            ) from error
        mode = ray.train.CheckpointUploadMode
        ray.train.report(
            metrics,
            checkpoint=ray.train.Checkpoint.from_directory(folder),
            checkpoint_dir_name=name,
            checkpoint_upload_mode=mode.ASYNC if background else mode.SYNC if shared is None else mode.NO_UPLOAD,
            checkpoint_upload_fn=None if shared else self._upload,
        )

    def _upload(self, checkpoint: Checkpoint, name: str) -> Checkpoint:
        """Copy this worker's part to the run folder, as Ray Train would; in its thread, if it is in the background.

        Raises:
            RunError: it cannot be written there.
        """
        import ray.train

        try:
            uploaded: Checkpoint = ray.train.get_context().get_storage().persist_current_checkpoint(checkpoint, name)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise RunError(
                f"{self._output / CHECKPOINTS_FOLDER / name}: it cannot be written: {error}; make room there"
            ) from error
        return uploaded

    def wait(self) -> None:
        """Wait until Ray Train has every checkpoint that was begun whole in the run folder."""
        import ray.train

        ray.train.get_all_reported_checkpoints(consistency_mode=ray.train.CheckpointConsistencyMode.COMMITTED)

    def restore(self) -> RunState | None:
        """Load the newest checkpoint of this run; None if there is none.

        Raises:
            RunError: it cannot be loaded, or does not fit the run.
        """
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        return None if checkpoint is None else self._restore(checkpoint)

    def restore_step(self, finished_steps: int) -> RunState:
        """Load the checkpoint of a number of finished steps; it must still exist."""
        import ray.train

        place, filesystem = arrow_place(self._output / CHECKPOINTS_FOLDER / folder_name(finished_steps))
        return self._restore(ray.train.Checkpoint(place, filesystem=filesystem))

    def _write(self, folder: Path, state: RunState, metrics: CheckpointMetrics, *, shared: bool) -> None:
        """Write this worker's part.

        Args:
            shared: all workers write to the same folder.
        """
        if shared:
            if self._rank == 0:
                shutil.rmtree(folder, ignore_errors=True)
            barrier()
        self._engine.deepspeed.save_checkpoint(folder, tag=TAG, exclude_frozen_parameters=self._frozen)
        random_states.write(folder / random_states.file_name(self._rank))
        if self._rank == 0:
            about = dataclasses.asdict(state) | {
                "world_size": self._world_size,
                "precision": self._config.precision,
                "metrics": metrics,
            }
            (folder / STATE_FILE).write_text(json.dumps(about, indent=2), encoding="utf-8")
        if shared:
            barrier()
        # In a shared folder the first worker vouches for all files.
        mine = not shared or self._rank == 0
        files = [file for file in folder.rglob("*") if file.is_file()] if mine else []
        write_file_list(folder, self._rank, files)

    def _restore(self, checkpoint: Checkpoint) -> RunState:
        with checkpoint.as_directory() as directory:
            folder = Path(directory)
            about = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
            if about["precision"] != self._config.precision:
                raise RunError(
                    f"{folder}: the checkpoint is in {about['precision']}, these workers would resume in "
                    f"{self._config.precision}; set precision: {about['precision']}"
                )
            written_by = about["world_size"]
            # Without ZeRO every worker has the whole state, so any number of workers can load it.
            if written_by == self._world_size or self._config.zero_stage == 0:
                with tensors_only():
                    path, _ = self._engine.deepspeed.load_checkpoint(
                        str(folder), tag=TAG, load_module_strict=not self._frozen
                    )
            else:
                path = self._load_converted(folder, written_by)
            if path is None:
                raise RunError(f"{folder}: DeepSpeed found no state there; delete the folder to start again")
            mine = folder / random_states.file_name(self._rank)
            if mine.exists() and written_by == self._world_size:
                random_states.read(mine)
            else:
                torch.manual_seed(hash((self._config.seed, about["finished_steps"], self._rank)))
        return RunState(**{field.name: about[field.name] for field in dataclasses.fields(RunState)})

    def _load_converted(self, folder: Path, written_by: int) -> str | None:
        """Load a checkpoint that another number of workers wrote, converted by the first worker."""
        assert not isinstance(self._output, StorePath), "refused when the run was resumed"
        converted = self._output / UNIVERSAL_FOLDER / folder.name
        if self._rank == 0 and not converted.exists():
            log.warning(
                "train: converting %s, written by %d workers, for %d", folder.name, written_by, self._world_size
            )
            universal.convert(folder, converted, tag=TAG, processes=min(written_by, self._config.cpus_per_worker))
        universal.wait_for(converted)
        path = universal.load(self._engine.deepspeed, converted, tag=TAG)
        barrier()
        if self._rank == 0:
            shutil.rmtree(converted.parent)
        return path

    def _has_room(self) -> bool:
        """Whether the temporary folders of all nodes have room for their workers' parts."""
        free = shutil.disk_usage(tempfile.gettempdir()).free
        enough = free > SPARE * _state_bytes(self._engine.deepspeed) * self._local_workers
        everywhere = torch.tensor(int(enough), device=self._engine.device)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(everywhere, op=torch.distributed.ReduceOp.MIN)
        if not everywhere.item() and self._rank == 0:
            log.warning("train: no room for a checkpoint in the workers' temporary folders; writing to the run folder")
        return bool(everywhere.item())


def _state_bytes(engine: DeepSpeedEngine) -> int:
    """About the bytes that a worker writes: its weights, master weights and optimizer states."""
    optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)
    tensors = [tensor for state in optimizer.state.values() for tensor in state.values() if torch.is_tensor(tensor)]
    tensors += optimizer.state.keys()
    # Frozen weights come from the base model's files.
    trained = [parameter for parameter in engine.module.parameters() if parameter.requires_grad]
    tensors += [getattr(parameter, "ds_tensor", parameter) for parameter in trained]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
