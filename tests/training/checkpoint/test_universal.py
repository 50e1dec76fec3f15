"""Converting a checkpoint for another number of workers, without DeepSpeed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from s1ray.training.checkpoint import universal


def test_what_a_killed_conversion_left_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left, other = tmp_path / ".universal.7.tmp", tmp_path / ".other.7.tmp"
    for folder in (left, other):
        folder.mkdir()
        (folder / "part").touch()
    done: subprocess.CompletedProcess[str] = subprocess.CompletedProcess([], 0, "")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: done)
    universal.convert(tmp_path / "step_000001", tmp_path / "universal", tag="state", processes=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.7.tmp", "universal"]
