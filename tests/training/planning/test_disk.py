"""The room that a run needs in its folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from s1ray.manifests import RunError
from s1ray.training.checkpoint.folder import STATE_FILE, write_file_list
from s1ray.training.planning.disk import DiskNeed, check_disk, checkpoint_bytes, disk_line, disk_need, model_bytes
from s1ray.training.planning.memory import Architecture
from tests.support.training_runs import training_config

GIB = 2**30
MODEL = Architecture(
    parameters=32 * 10**9,
    largest_module=10**9,
    layers=64,
    hidden_size=5120,
    attention_size=5120,
    key_value_size=1024,
    heads=40,
    intermediate_size=27648,
    vocabulary=152064,
)


def need(free: int | None = 2000 * GIB, present: int = 0, conversions: int = 0) -> DiskNeed:
    return DiskNeed(Path("/runs/x"), 400 * GIB, 2, present, 60 * GIB, 1, conversions, free)


def test_a_checkpoint_holds_weights_moments_and_master_weights_by_precision_stage_and_lora() -> None:
    def bytes_each(**changes: object) -> float:
        return checkpoint_bytes(MODEL, training_config(**changes)) / MODEL.parameters

    assert bytes_each(precision="bf16") == 14
    assert bytes_each(precision="bf16", zero_stage=3) == 12
    assert bytes_each(precision="fp32") == 16
    assert bytes_each(precision="fp32", zero_stage=0) == 12
    updates = dataclasses.replace(MODEL, trained=10**8)
    lora = training_config(precision="bf16", lora={"export": "adapter"})
    assert checkpoint_bytes(updates, lora) == 14 * 10**8
    assert model_bytes(updates, lora) == 2 * 10**8
    assert model_bytes(updates, training_config(lora={})) == 2 * MODEL.parameters


def test_too_little_room_is_refused_with_the_numbers_and_an_unknown_amount_is_not() -> None:
    check_disk(need())
    check_disk(need(free=None))
    with pytest.raises(RunError, match=r"output: the run needs 860.0 GiB of 859.0 GiB free in /runs/x for 2"):
        check_disk(need(free=859 * GIB))
    line = disk_line(need(free=859 * GIB))
    assert line.endswith("for 2 checkpoint(s) of 400.0 GiB, 1 model(s) of 60.0 GiB; it is NOT enough")
    assert "860.0 GiB of an unknown amount free" in disk_line(need(free=None))


def test_checkpoints_that_are_there_already_need_no_room_again() -> None:
    assert need(present=400 * GIB).total == 460 * GIB
    assert need(present=1200 * GIB).total == 60 * GIB
    assert "(400.0 GiB of checkpoints are there)" in str(need(present=400 * GIB))


def test_a_run_whose_steps_are_all_done_needs_room_for_its_model_only(tmp_path: Path) -> None:
    config = training_config(output=str(tmp_path), precision="bf16", validation={"size": 4})
    assert disk_need(config, MODEL, total_steps=8).checkpoints == 3
    folder = tmp_path / "checkpoints" / "step_000008"
    folder.mkdir(parents=True)
    (folder / STATE_FILE).write_text(json.dumps({"finished_steps": 8, "world_size": 1}))
    write_file_list(folder, 0, [folder / STATE_FILE])
    left = disk_need(config, MODEL, total_steps=8)
    assert (left.checkpoints, left.total) == (0, 2 * MODEL.parameters)
    assert left.present > 0
    assert disk_need(config, MODEL, total_steps=9).checkpoints == 3


def test_another_number_of_workers_needs_room_to_convert_the_checkpoint(tmp_path: Path) -> None:
    assert need(conversions=2).total == need().total + 800 * GIB
    assert "the conversion of one for another number of workers (800.0 GiB)" in str(need(conversions=2))
    folder = tmp_path / "checkpoints" / "step_000008"
    folder.mkdir(parents=True)
    (folder / STATE_FILE).write_text(json.dumps({"finished_steps": 8, "world_size": 2}))
    for rank in range(2):
        write_file_list(folder, rank, [folder / STATE_FILE] if rank == 0 else [])
    for workers, stage, conversions in ((2, 2, 0), (4, 2, 2), (1, 0, 0)):
        config = training_config(output=str(tmp_path), precision="fp32", num_workers=workers, zero_stage=stage)
        assert disk_need(config, MODEL, total_steps=9).conversions == conversions


def test_a_folder_that_does_not_exist_yet_has_the_room_of_its_parent(tmp_path: Path) -> None:
    found = disk_need(training_config(output=str(tmp_path / "a" / "b"), precision="fp32"), MODEL, total_steps=1)
    assert found.free is not None
    assert found.free > 0
    assert not (tmp_path / "a").exists()
