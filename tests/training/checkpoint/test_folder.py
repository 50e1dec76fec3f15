"""What a killed run leaves in its checkpoint folder, and how it is repaired before the run resumes."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from s1ray.manifests import RunError
from s1ray.storage import StoreError, StorePath
from s1ray.training.checkpoint.folder import RAY_TRAIN_LIST, STATE_FILE, is_whole, newest, repair, write_file_list
from tests.support.object_store import bucket, s3_environment, s3_server

__all__ = ["bucket", "s3_environment", "s3_server"]

UNKNOWN = 1e300


def checkpoint(folder: Path, step: int, *, loss: float = UNKNOWN, workers: int = 2) -> Path:
    path = folder / f"step_{step:06d}"
    (path / "state").mkdir(parents=True)
    state = {"finished_steps": step, "world_size": workers, "metrics": {"step": step, "validation_loss": loss}}
    (path / STATE_FILE).write_text(json.dumps(state))
    for rank in range(workers):
        shard = path / "state" / f"shard_{rank}.pt"
        shard.write_bytes(bytes(100 + rank))
        write_file_list(path, rank, [shard, *([path / STATE_FILE] if rank == 0 else [])])
    return path


def write_list(folder: Path, *steps: int) -> None:
    results = [{"version": 0, "checkpoint_dir_name": f"step_{step:06d}", "metrics": {}} for step in steps]
    content = {"checkpoint_results": results, "latest_checkpoint_result": results[-1] if results else None}
    (folder / RAY_TRAIN_LIST).write_text(json.dumps(content))


def listed(folder: Path) -> list[str]:
    return [
        result["checkpoint_dir_name"]
        for result in json.loads((folder / RAY_TRAIN_LIST).read_text())["checkpoint_results"]
    ]


def test_a_checkpoint_is_whole_only_with_every_workers_files_in_full_size(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 4)
    assert is_whole(path)
    shard = path / "state" / "shard_1.pt"
    shard.write_bytes(bytes(60))
    assert not is_whole(path)
    shard.write_bytes(bytes(101))
    assert is_whole(path)
    (path / "files_1.json").unlink()
    assert not is_whole(path)


def test_without_a_folder_there_is_nothing_to_resume_from(tmp_path: Path) -> None:
    assert repair(tmp_path / "checkpoints") is None
    assert not (tmp_path / "checkpoints").exists()


def test_an_intact_folder_stays_as_it_is(tmp_path: Path) -> None:
    checkpoint(tmp_path, 4)
    checkpoint(tmp_path, 8)
    write_list(tmp_path, 4, 8)
    before = (tmp_path / RAY_TRAIN_LIST).read_text()
    newest = repair(tmp_path)
    assert newest is not None
    assert (newest.finished_steps, newest.world_size) == (8, 2)
    assert (tmp_path / RAY_TRAIN_LIST).read_text() == before


def test_an_unfinished_upload_is_deleted_so_that_nothing_mixes_with_its_files(tmp_path: Path) -> None:
    checkpoint(tmp_path, 4)
    write_list(tmp_path, 4)
    cut = checkpoint(tmp_path, 8)
    (cut / "state" / "shard_1.pt").write_bytes(b"")
    newest = repair(tmp_path)
    assert newest is not None
    assert newest.finished_steps == 4
    assert not cut.exists()
    assert listed(tmp_path) == ["step_000004"]


def test_a_run_resumes_from_a_whole_checkpoint_that_was_not_listed_yet(tmp_path: Path) -> None:
    checkpoint(tmp_path, 4)
    write_list(tmp_path, 4)
    checkpoint(tmp_path, 8, workers=1)
    newest = repair(tmp_path)
    assert newest is not None
    assert (newest.finished_steps, newest.world_size) == (8, 1)
    assert listed(tmp_path) == ["step_000004", "step_000008"]


def test_the_first_checkpoint_survives_a_kill_before_there_was_a_list(tmp_path: Path) -> None:
    checkpoint(tmp_path, 4)
    newest = repair(tmp_path)
    assert newest is not None
    assert newest.finished_steps == 4
    assert listed(tmp_path) == ["step_000004"]


@pytest.mark.parametrize("torn", ["", '{"ray_version": "2.60.0", "checkpoint_res', "[]"])
def test_a_list_cut_off_in_the_middle_is_rewritten(tmp_path: Path, torn: str) -> None:
    checkpoint(tmp_path, 4, loss=1.0)
    checkpoint(tmp_path, 8, loss=2.0)
    (tmp_path / RAY_TRAIN_LIST).write_text(torn)
    newest = repair(tmp_path)
    assert newest is not None
    assert newest.finished_steps == 8
    # Ordered by score, the best last, as Ray Train keeps it; the newest is named separately.
    assert listed(tmp_path) == ["step_000008", "step_000004"]
    content = json.loads((tmp_path / RAY_TRAIN_LIST).read_text())
    assert content["latest_checkpoint_result"]["checkpoint_dir_name"] == "step_000008"


def test_a_run_without_any_whole_checkpoint_left_is_refused_rather_than_started_over(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 4)
    write_list(tmp_path, 4)
    (path / "state" / "shard_0.pt").unlink()
    with pytest.raises(RunError, match="none of its 1 checkpoint"):
        repair(tmp_path)
    assert path.exists()


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [STATE_FILE, "files_1.json", RAY_TRAIN_LIST])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_what_cannot_be_read_is_neither_deleted_nor_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    checkpoint(tmp_path, 4)
    checkpoint(tmp_path, 8)
    write_list(tmp_path, 4, 8)
    before = everything(tmp_path)
    real = Path.read_text

    def fails(path: Path, *args: Any, **options: Any) -> str:
        if path.name == name and path.parent.name != "step_000004":
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", fails)
    with pytest.raises(RunError, match=f"{tmp_path}: its checkpoints cannot be read, .*{os.strerror(number)}"):
        repair(tmp_path)
    assert everything(tmp_path) == before


def test_a_folder_that_cannot_be_listed_does_not_count_as_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path, 4)
    write_list(tmp_path, 4)
    before = everything(tmp_path)

    def fails(*args: object) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", fails)
        patch.setattr(os, "scandir", fails)
        for look in (repair, newest):
            with pytest.raises(RunError, match="cannot be read"):
                look(tmp_path)
    assert everything(tmp_path) == before


def test_in_a_store_that_does_not_answer_every_checkpoint_stays(
    bucket: StorePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (4, 8):
        checkpoint(tmp_path, step)
    write_list(tmp_path, 4, 8)
    before = everything(tmp_path)
    for path, content in before.items():
        (bucket / str(path.relative_to(tmp_path))).write_bytes(content)
    real = StorePath.read_bytes

    def fails(path: StorePath) -> bytes:
        if path.suffix == ".json":
            raise StoreError(path, "503 Slow Down")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(StorePath, "read_bytes", fails)
        with pytest.raises(RunError, match="503 Slow Down"):
            repair(bucket)
    found = repair(bucket)
    assert found is not None
    assert found.finished_steps == 8
    assert {path.name for path in bucket.iterdir()} == {"step_000004", "step_000008", RAY_TRAIN_LIST}


def test_with_a_damaged_list_and_no_whole_checkpoint_nothing_is_started_over(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 4)
    (tmp_path / RAY_TRAIN_LIST).write_text("{")
    (path / "state" / "shard_0.pt").unlink()
    with pytest.raises(RunError, match="none of its 1 checkpoint"):
        repair(tmp_path)
    assert path.exists()


def test_ray_train_accepts_the_list_that_is_written(tmp_path: Path) -> None:
    from ray.train import CheckpointConfig
    from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import CheckpointManager
    from ray.train.v2._internal.execution.storage import StorageContext

    folder = tmp_path / "checkpoints"
    checkpoint(folder, 4, loss=1.0)
    checkpoint(folder, 8, loss=2.0)
    checkpoint(folder, 12)
    repair(folder)
    settings = CheckpointConfig(
        num_to_keep=1, checkpoint_score_attribute="validation_loss", checkpoint_score_order="min"
    )
    manager = CheckpointManager(settings, StorageContext(str(tmp_path), "checkpoints"))
    assert manager.latest_checkpoint_result.checkpoint.path == str(folder / "step_000012")
    assert [Path(kept.checkpoint.path).name for kept in manager._checkpoint_results][-1] == "step_000004"
