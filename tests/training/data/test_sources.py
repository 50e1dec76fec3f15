"""Where rows may lie is known before anything is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from s1ray.errors import InputError, MissingError, S1rayError
from s1ray.manifests import digest
from s1ray.training.data.sources import check_there, conversations_of, open_source
from s1ray.training.planning.plan import plan
from tests.support.training_runs import make_base_model, training_config


def test_files_folders_and_names_of_the_hub_can_be_there(tmp_path: Path) -> None:
    chats = tmp_path / "chats"
    chats.mkdir()
    (chats / "a.jsonl").write_text("{}\n")
    assert check_there(str(chats)) is None
    assert check_there(str(chats / "a.jsonl")) is None
    found = check_there("org/name:train")
    assert found is not None
    assert (found["name"], found["split"]) == ("org/name", "train")
    (tmp_path / "empty").mkdir()
    for missing in (str(tmp_path / "none.parquet"), str(tmp_path / "empty"), "no name"):
        with pytest.raises(MissingError):
            check_there(missing)


def rows_in(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}\n")
    return folder


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("a.parquet", "b.jsonl"), r"holds rows of several kinds, .*a\.parquet and .*b\.jsonl; give"),
        (("a.json", "b.jsonl"), r"holds rows of several kinds, .*b\.jsonl and .*a\.json; give"),
        (("a.parquet", "in/b.jsonl.zst"), r"holds rows of several kinds, .*a\.parquet and .*in/b\.jsonl\.zst; give"),
        (
            ("a.csv", "README.md"),
            r"a\.csv: rows are read from Parquet .* and JSON Lines .* one object a line",
        ),
        (("README.md",), "no file of rows here; rows are read from Parquet"),
        ((".a.jsonl", ".ipynb_checkpoints/b.parquet"), "no file of rows here"),
    ],
)
def test_a_folder_holds_rows_of_one_kind(tmp_path: Path, names: tuple[str, ...], why: str) -> None:
    with pytest.raises(S1rayError, match=why):
        check_there(str(rows_in(tmp_path, *names)))


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.jsonl.zst", "a.CSV"])
def test_a_file_of_another_kind_is_answered_with_the_kinds(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}: rows are read from Parquet \(\.parquet\) and JSON Lines"):
        check_there(str(rows_in(tmp_path, name) / name))


def test_hidden_files_and_notes_about_the_rows_are_no_rows(tmp_path: Path) -> None:
    row = json.dumps({"question": "q", "thinking": "t", "attempt": "a"})
    names = (".a.parquet", ".ipynb_checkpoints/a.jsonl", "dataset_infos.json", "README.md", "b.jsonl")
    folder = rows_in(tmp_path / "rows", *names)
    (folder / "b.jsonl").write_text(row + "\n")
    assert len(list(conversations_of(open_source(str(folder))))) == 1
    assert digest(folder)


def test_a_folder_of_json_lines_is_planned_like_any_other_rows(tmp_path: Path) -> None:
    chats = tmp_path / "chats"
    chats.mkdir()
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {number} + 3?"},
                {"role": "assistant", "content": f"<think>Count on.</think>{number + 3}"},
            ]
        }
        for number in range(20)
    ]
    (chats / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = tmp_path / "model"
    model.mkdir()
    make_base_model(model)
    config = training_config(
        output=str(tmp_path / "run"), model=str(model), traces=str(chats), max_length=256, precision="fp32"
    )
    assert plan(config)[0].startswith("20 of 20 traces")
    before = digest(chats)
    shutil.copy(chats / "a.jsonl", chats / "b.jsonl")
    assert digest(chats) != before
