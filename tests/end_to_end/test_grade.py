"""`s1ray grade` on a Ray cluster."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s1ray.grading.files import grade_file, quarantine_of
from s1ray.grading.rows import Job
from s1ray.manifests import RunError

pytestmark = pytest.mark.end_to_end


def source(folder: Path, damaged: bool = False) -> Path:
    path = folder / "a.parquet"
    responses = [None if i == 17 else f"\\boxed{{{i % 5}}}" for i in range(60)]
    pq.write_table(pa.table({"gold": ["1"] * 60, "response": responses}), path, row_group_size=20)
    if damaged:
        data = bytearray(path.read_bytes())
        offset = pq.ParquetFile(path).metadata.row_group(2).column(1).dictionary_page_offset
        data[offset : offset + 40] = bytes(40)
        path.write_bytes(data)
    return path


def test_a_cluster_gives_the_rows_that_one_machine_gives(ray_session: None, tmp_path: Path) -> None:
    file = source(tmp_path)
    here, there = tmp_path / "here.parquet", tmp_path / "there.parquet"
    one, other = grade_file(Job(file, here), 1), grade_file(Job(file, there), 2, on_ray=True)
    assert one == other
    assert (one.rows, one.quarantined, one.verdicts["correct"]) == (59, 1, 12)
    assert pq.read_table(here).equals(pq.read_table(there))
    assert quarantine_of(here).read_bytes() == quarantine_of(there).read_bytes()


def test_a_part_that_cannot_be_read_is_told_and_the_others_are_kept(ray_session: None, tmp_path: Path) -> None:
    file, output = source(tmp_path, damaged=True), tmp_path / "there.parquet"
    with pytest.raises(RunError, match=r"a\.parquet: cannot be read to its end.*run again to go on"):
        grade_file(Job(file, output), 1, on_ray=True)
    assert not output.exists()
    done = {path.name for path in (tmp_path / ".there.parquet.parts").glob("*.json")}
    assert done <= {"000000.json", "000001.json"}
