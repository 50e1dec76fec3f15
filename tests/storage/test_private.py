"""Files that are for their owner alone, from their first byte, and for the group where a folder is shared."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from s1ray.storage import private, write_json, write_text


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o755, 0o600), (0o2775, 0o640)])
def test_a_private_file_is_for_its_owner_or_for_the_group_that_shares_the_folder(
    folder_mode: int, file_mode: int, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    folder.chmod(folder_mode)
    before = os.umask(0o022)
    try:
        write_json(folder / "manifest.json", {"a": 1}, is_private=True)
        with open(folder / "journal.jsonl", "ab", opener=private) as stream:
            stream.write(b"{}\n")
        write_text(folder / "report.html", "for all")
    finally:
        os.umask(before)
    assert (mode(folder / "manifest.json"), mode(folder / "journal.jsonl")) == (file_mode, file_mode)
    assert mode(folder / "report.html") == 0o644
    assert (folder / "manifest.json").read_text() == '{\n  "a": 1\n}\n'
