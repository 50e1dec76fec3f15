"""Models of a store as folders of this machine."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from s1ray.errors import MissingError
from s1ray.models import ModelRef
from s1ray.storage import StoreError, StorePath, local_copy, local_model
from s1ray.training.data.dataset import Dataset


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_model_is_fetched_once_and_anew_when_it_was_written_anew(
    bucket: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, fetched = bucket / "runs" / "model", list[object]()
    (model / "config.json").write_text("{}")
    (model / "inner" / "weights").write_bytes(b"123")
    real = StorePath.open

    def open_(path: StorePath, *args: Any) -> Any:
        fetched.append(path)
        return real(path, *args)

    monkeypatch.setattr(StorePath, "open", open_)
    with ThreadPoolExecutor(4) as pool:
        (folder,) = set(pool.map(local_model, [str(model)] * 4))
    assert (Path(folder) / "inner" / "weights").read_bytes() == b"123"
    assert len(fetched) == 2
    (model / "inner" / "weights").write_bytes(b"12345")
    assert (Path(local_model(str(model))) / "inner" / "weights").read_bytes() == b"12345"
    assert (Path(folder) / "inner" / "weights").read_bytes() == b"123"
    assert stat.S_IMODE(Path(folder).parent.stat().st_mode) == 0o700, "others may have no right to read the store"
    found = [path.name for path in Path(folder).parent.iterdir() if not path.name.endswith(".lock")]
    assert len(found) == 2


def test_other_names_stay_and_single_files_are_fetched(bucket: StorePath, tmp_path: Path) -> None:
    assert local_model("Qwen/Qwen3-8B") == "Qwen/Qwen3-8B"
    assert local_copy(tmp_path) == tmp_path
    (bucket / "rows.arrow").write_bytes(b"rows")
    assert local_copy(bucket / "rows.arrow").read_bytes() == b"rows"
    with pytest.raises(MissingError, match="nothing is there"):
        local_model(str(bucket / "none"))


def test_a_store_that_does_not_give_a_model_is_no_full_disk(bucket: StorePath, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: StorePath, *args: Any) -> Any:
        raise StoreError(path, "503 Slow Down")

    (bucket / "rows.arrow").write_bytes(b"rows")
    monkeypatch.setattr(StorePath, "open", fails)
    for read in (local_copy, Dataset.read):
        with pytest.raises(StoreError, match="503 Slow Down"):
            read(bucket / "rows.arrow")


def test_a_config_of_a_model_in_a_store_is_one_of_a_folder_here(bucket: StorePath) -> None:
    (bucket / "model" / "config.json").write_text("{}")
    ref = ModelRef(model=str(bucket / "model"))
    assert ref.inputs("model") == {"model": str(bucket / "model")}
    assert Path(ref.with_local_models().model, "config.json").is_file()
    assert ref.with_local_models().tokenizer is None
