"""Files and folders are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from s1ray.storage import write_json, writing


def test_a_failing_writer_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "new" / "result.json"
    write_json(file, {"a": "ä"})
    with pytest.raises(OSError, match="disk full"), writing(file) as temporary:
        _fill(temporary)
    assert file.read_text(encoding="utf-8") == '{\n  "a": "ä"\n}\n'
    assert list(file.parent.iterdir()) == [file]


def test_a_folder_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for name in ("old", "new"):
        with writing(folder) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [entry.name for entry in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "runs" / "eval").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        write_json(tmp_path / "runs", {})
    assert [entry.name for entry in tmp_path.rglob("*")] == ["runs", "eval"]


def _fill(path: Path) -> None:
    path.write_text("half")
    raise OSError("disk full")
