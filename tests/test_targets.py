"""What a command writes never takes the place of what it reads, or of a run's own files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from s1ray.errors import InputError
from s1ray.manifests import RunError
from s1ray.targets import check_page, check_target


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run" / "deep").mkdir(parents=True)
    (tmp_path / "run" / "manifest.json").write_text(json.dumps({"stage": "toy"}))
    (tmp_path / "read").mkdir()
    (tmp_path / "read" / "rows.jsonl").write_text("{}\n")
    os.link(tmp_path / "read" / "rows.jsonl", tmp_path / "hard.jsonl")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "read" / "rows.jsonl")
    (tmp_path / "linked-run").symlink_to(tmp_path / "run")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    "target",
    ["read/rows.jsonl", "read/../read/rows.jsonl", "hard.jsonl", "link.jsonl"],
)
def test_a_file_that_is_read_is_never_the_target(folder: Path, target: str) -> None:
    with pytest.raises(InputError, match=r"over or into .*rows\.jsonl"):
        check_target(folder / target, [folder / "read" / "rows.jsonl"])


def test_nothing_is_written_into_a_folder_that_is_read(folder: Path) -> None:
    with pytest.raises(InputError, match="over or into"):
        check_target(folder / "read" / "more.jsonl", [folder / "read"])


@pytest.mark.parametrize("target", ["run/traces.parquet", "run/deep/x", "linked-run/x", "run/manifest.json"])
def test_a_run_folder_keeps_its_own_files(folder: Path, target: str) -> None:
    with pytest.raises(InputError, match="lies in the run folder"):
        check_target(folder / target)
    check_target(folder / target, in_runs=True)


@pytest.mark.parametrize("target", ["x.parquet", "nowhere/x", "web/x", "runs.parquet"])
def test_other_places_are_free(folder: Path, target: str) -> None:
    check_target(folder / target, [folder / "read", folder / "absent"])


def test_a_page_takes_the_place_of_no_other_file_of_any_run(folder: Path, tmp_path: Path) -> None:
    """Also not under a name that looks like a page's, nor of a run that is not read."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.json").write_text(json.dumps({"stage": "eval"}))
    (tmp_path / "link.html").symlink_to(other / "manifest.json")
    (folder / "evaluations.parquet").write_text("rows")
    for target in (folder / "evaluations.parquet", other / "manifest.json", tmp_path / "link.html", folder / "page"):
        with pytest.raises(InputError, match=r"its name must end in \.html"):
            check_page(target, [folder])
    for name in ("a\0.html", "x" * 300 + ".html"):
        with pytest.raises(InputError, match="is no name of a file"):
            check_page(tmp_path / name, [folder])
    with pytest.raises(RunError, match="is a folder"):
        check_page(tmp_path, [folder])
    check_page(folder / "report.html", [folder])
