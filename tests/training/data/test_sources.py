"""Where rows may lie is known before anything is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from s1ray.errors import MissingError
from s1ray.runs import digest
from s1ray.training.data.sources import check_there
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
