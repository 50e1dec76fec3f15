"""Files and folders are written whole or not at all."""

from __future__ import annotations

import gc
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

import pytest

from s1ray.storage import LostError, StorePath, download, move, remove, upload, write_json, writing
from tests.support.object_store import objects


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


def test_in_a_store_a_failing_writer_leaves_the_old_object(bucket: StorePath) -> None:
    file = bucket / "new" / "result.json"
    write_json(file, {"a": "ä"})
    with pytest.raises(OSError, match="disk full"), writing(file) as temporary:
        _fill(temporary)
    assert objects(bucket) == {"new/result.json": b'{\n  "a": "\xc3\xa4"\n}\n'}


def test_in_a_store_a_folder_takes_the_place_of_the_one_before_and_its_last_file_comes_last(bucket: StorePath) -> None:
    folder, order = bucket / "model", list[str]()
    for name in ("old", "new"):
        with writing(folder, last=["a-marker"]) as temporary:
            (temporary / "inner").mkdir(parents=True)
            for file in ("a-marker", name, "inner/same"):
                (temporary / file).write_text(name)
        order = sorted(objects(folder))
    assert order == ["a-marker", "inner/same", "new"]
    assert objects(folder)["inner/same"] == b"new"
    newest = max((path.stat().st_mtime, path.name == "a-marker") for path in folder.rglob("*") if path.is_file())
    assert newest[1]


def test_in_a_store_an_upload_that_is_cut_short_leaves_the_object_that_is_there(
    bucket: StorePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, source = bucket / "manifest.json", tmp_path / "manifest.json"
    source.write_text("our new one")
    real, chunks = BufferedReader.read, list[bytes]()

    class Reader(BufferedReader):
        def read(self, size: int | None = -1) -> bytes:
            if chunks:
                # By now another process has the lock.
                file.write_text("theirs")
                raise LostError("the lock was lost")
            chunks.append(real(self, 4))
            return chunks[0]

    monkeypatch.setattr(Path, "open", lambda path, mode: Reader(FileIO(path)))
    with pytest.raises(LostError):
        upload(source, file)
    with pytest.raises(KeyboardInterrupt), file.writing() as stream:
        _interrupted(stream)
    gc.collect()
    assert chunks == [b"our "]
    assert objects(bucket) == {"manifest.json": b"theirs"}


def test_in_a_store_the_bytes_of_a_compressed_file_stay_as_they_are(bucket: StorePath) -> None:
    (bucket / "one.gz").write_bytes(b"packed")
    with writing(bucket / "two.jsonl.gz") as temporary:
        temporary.write_bytes(b"packed")
    assert objects(bucket) == {"one.gz": b"packed", "two.jsonl.gz": b"packed"}


def test_in_a_store_a_file_does_not_take_the_place_of_a_folder(bucket: StorePath) -> None:
    (bucket / "runs" / "eval").write_text("x")
    with pytest.raises(IsADirectoryError, match="runs"):
        write_json(bucket / "runs", {})


def test_objects_are_moved_fetched_and_removed(bucket: StorePath, tmp_path: Path) -> None:
    (bucket / "a" / "one").write_text("1")
    (bucket / "a" / "in" / "two").write_text("2")
    move(bucket / "a", bucket / "b")
    download(bucket / "b", tmp_path / "here")
    assert (tmp_path / "here" / "in" / "two").read_text() == "2"
    assert objects(bucket) == {"b/one": b"1", "b/in/two": b"2"}
    remove(bucket / "b" / "one")
    remove(bucket / "b" / "none")
    assert objects(bucket) == {"b/in/two": b"2"}
    remove(bucket / "b")
    remove(bucket / "b")
    assert objects(bucket) == {}
    with pytest.raises(FileNotFoundError):
        download(bucket / "b", tmp_path / "none")


def _interrupted(stream: Any) -> None:
    stream.write(b"half")
    raise KeyboardInterrupt


def _fill(path: Path) -> None:
    path.write_text("half")
    raise OSError("disk full")
