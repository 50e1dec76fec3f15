"""`s1ray curate export --push` against a Hub on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from s1ray.storage import StorePath
from tests.support.curated import curated
from tests.support.fake_hub import FakeHub, fake_hub
from tests.support.object_store import bucket, objects, s3_environment, s3_server

__all__ = ["bucket", "s3_environment", "s3_server"]

TOKEN = "hf_of_this_test"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as running:
        yield running


def pushed(
    hub: FakeHub, run: Path, output: Path | StorePath, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """What the command does; the hub's client reads its environment when it is imported."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    known |= {"HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HOME": str(run.parent / "hf"), "NO_PROXY": "*"}
    command = [sys.executable, "-m", "s1ray.cli", "curate", "export", str(run), "-o", str(output), *options]
    return subprocess.run(command, env=known | environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_data_set_is_published_privately_and_published_again(hub: FakeHub, tmp_path: Path) -> None:
    run = curated(tmp_path)
    done = pushed(hub, run, tmp_path / "set", "--as", "datasets", "--push", "me/questions")
    assert done.returncode == 0, done.stderr
    assert f"me/questions: {hub.address}/datasets/me/questions/commit/1" in done.stdout
    assert hub.repositories == {"me/questions": True}
    written = {
        path.relative_to(tmp_path / "set").as_posix(): path.read_bytes()
        for path in (tmp_path / "set").rglob("*")
        if path.is_file()
    }
    assert hub.files == written
    assert f"Bearer {TOKEN}" in hub.tokens
    hub.files["data/train-00001.parquet"] = b"of a larger one"
    again = pushed(hub, run, tmp_path / "again", "--as", "s1k", "--push", "me/questions")
    assert again.returncode == 0, again.stderr
    assert sorted(hub.files) == ["README.md", "data/train-00000.parquet"]


def test_a_data_set_in_a_store_is_published_from_there(hub: FakeHub, bucket: StorePath, tmp_path: Path) -> None:
    options, cache = ("--as", "datasets", "--push", "me/questions"), {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = pushed(hub, curated(tmp_path), bucket / "set", *options, **cache)
    assert done.returncode == 0, done.stderr
    assert hub.files == objects(bucket / "set")


def test_what_cannot_be_published_is_refused_before_anything_is_written(hub: FakeHub, tmp_path: Path) -> None:
    run, output = curated(tmp_path), tmp_path / "set"
    hub.repositories["me/open"] = False
    for options, message, environment in (
        (("--push", "me/open"), "everybody can read it; say --public", {}),
        (("--push", "questions"), "give owner/name", {}),
        (("--push", "me/q"), "no Hugging Face token here", {"HF_TOKEN": ""}),
        (("--push", "me/q"), "HF_HUB_OFFLINE or HF_DATASETS_OFFLINE is set", {"HF_HUB_OFFLINE": "1"}),
        (("--push", "me/q"), "does not answer", {"HF_ENDPOINT": "http://127.0.0.1:9"}),
        (("--public",), "give --push OWNER/NAME", {}),
    ):
        done = pushed(hub, run, output, "--as", "datasets", *options, **environment)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    done = pushed(hub, run, tmp_path / "a.jsonl", "--as", "jsonl", "--push", "me/q")
    assert "a data set is a folder with a card" in done.stderr
    assert not output.exists()
    assert hub.files == {}


def test_a_failing_upload_leaves_the_folder_and_says_what_to_do(hub: FakeHub, tmp_path: Path) -> None:
    hub.failing = True
    done = pushed(hub, curated(tmp_path), tmp_path / "set", "--as", "datasets", "--push", "me/questions")
    assert done.returncode == 2
    assert "hf upload me/questions" in done.stderr
    assert (tmp_path / "set" / "README.md").is_file()


def test_nothing_is_published_unasked(hub: FakeHub, tmp_path: Path) -> None:
    assert pushed(hub, curated(tmp_path), tmp_path / "set", "--as", "datasets").returncode == 0
    assert hub.tokens == set()
