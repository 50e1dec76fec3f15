"""Nothing in a checkpoint is run when it is loaded, whatever the caller of torch.load allows."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from s1ray.manifests import RunError
from s1ray.training.checkpoint.tensors_only import tensors_only
from tests.support.crafted import Payload, craft


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


def test_a_crafted_file_runs_nothing_and_is_named(tmp_path: Path, mark: Path) -> None:
    craft(tmp_path / "state.pt", mark)
    with tensors_only(), pytest.raises(RunError, match=r"state\.pt: refused, .*posix\.system.*delete this checkpoint"):
        torch.load(tmp_path / "state.pt", map_location="cpu", weights_only=False)
    assert not mark.exists()
    torch.load(tmp_path / "state.pt", weights_only=False)
    assert mark.exists(), "the file was harmless in any case"


def test_an_open_file_another_reader_and_older_formats_are_no_way_around_it(tmp_path: Path, mark: Path) -> None:
    file = tmp_path / "state.pt"
    torch.save(Payload(mark), file, _use_new_zipfile_serialization=False)
    with tensors_only():
        with pytest.raises(RunError, match=r"state\.pt: refused"):
            torch.load(file, pickle_module=pickle, weights_only=False)
        with file.open("rb") as stream, pytest.raises(RunError, match=r"state\.pt: refused"):
            torch.load(stream, weights_only=False)
        file.write_bytes(pickle.dumps(Payload(mark)))
        with pytest.raises(RunError, match=r"state\.pt: refused"):
            torch.load(file, weights_only=False)
    assert not mark.exists()


def test_a_program_in_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "state.pt")
    with tensors_only(), pytest.raises(RunError, match=r"state\.pt: refused"):
        torch.load(tmp_path / "state.pt", weights_only=False)


def test_tensors_and_deepspeeds_records_are_loaded(tmp_path: Path) -> None:
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    state = {"weights": torch.arange(3.0), "stage": ZeroStageEnum.weights, "where": fragment_address(3, 1)}
    torch.save(state | {"scale": LossScaler(2.0)}, tmp_path / "state.pt")
    load = torch.load
    with tensors_only():
        loaded = torch.load(tmp_path / "state.pt", weights_only=False)
    assert torch.load is load
    assert loaded["weights"].equal(state["weights"])
    assert (loaded["stage"], loaded["where"]) == (state["stage"], state["where"])
    assert loaded["scale"].loss_scale == 2.0
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "state.pt")
