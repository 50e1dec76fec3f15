from __future__ import annotations

import json
from pathlib import Path

import pytest

from s1ray.serving.replica.adapters import UnknownAdapterError, adapter_path, names_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, rank in (("algebra", 8), ("geometry.v2", 64)):
        (tmp_path / "adapters" / name).mkdir(parents=True)
        (tmp_path / "adapters" / name / "adapter_config.json").write_text(json.dumps({"r": rank}))
    (tmp_path / "adapters" / "notes").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "adapter_config.json").write_text("{}")
    return tmp_path / "adapters"


def test_adapters_are_the_subfolders_that_hold_one(folder: Path) -> None:
    assert names_in(folder) == ["algebra", "geometry.v2"]
    assert names_in(folder / "missing") == []
    assert adapter_path(folder, "geometry.v2") == folder / "geometry.v2"


@pytest.mark.parametrize("name", ["notes", "Algebra", "", "../secret", "..", "algebra/../../secret", "/etc"])
def test_what_is_no_adapter_is_refused_with_the_names_there_are(folder: Path, name: str) -> None:
    with pytest.raises(UnknownAdapterError, match=r"algebra, geometry\.v2"):
        adapter_path(folder, name)
