"""Passes over the parts of a run on workers that die, and on a disk that is full."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from s1ray.curation.parts import map_parts, write_part
from s1ray.manifests import RunError
from tests.support import mounts

if TYPE_CHECKING:
    import pyarrow as pa

pytestmark = [pytest.mark.end_to_end, pytest.mark.usefixtures("ray_session")]


@pytest.fixture(scope="module", autouse=True)
def _workers_get_this_module_by_value(ray_session: None) -> None:
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def _parts(folder: Path, count: int) -> list[Path]:
    import pyarrow as pa

    files = [folder / f"part-{number}.parquet" for number in range(count)]
    for number, file in enumerate(files):
        write_part(pa.table({"number": list(range(1000 * number, 1000 * number + 1000))}), file)
    return files


def _copied(rows: pa.Table, part: str, *, dies: str = "", marker: Path | None = None) -> pa.Table:
    """The rows; the process that gets the part `dies` dies, where there is a marker only once."""
    if part == dies and (marker is None or not marker.exists()):
        if marker is not None:
            marker.touch()
        os._exit(1)
    return rows


def test_a_worker_that_dies_is_replaced_and_leaves_nothing(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    parts, marker = _parts(tmp_path / "parts", 3), tmp_path / "died"
    results = map_parts("copying", _copied, parts, tmp_path / "copies", dies=parts[1].name, marker=marker)
    assert marker.exists()
    assert [pq.read_table(file) for file in results] == [pq.read_table(file) for file in parts]
    assert sorted((tmp_path / "copies").iterdir()) == results


@pytest.mark.slow
def test_a_part_over_which_workers_always_die_ends_the_run(tmp_path: Path) -> None:
    parts = _parts(tmp_path / "parts", 2)
    with pytest.raises(RunError, match=r"^curate: copying: 4 workers died over .*part-1.parquet; see that there is m"):
        map_parts("copying", _copied, parts, tmp_path / "copies", dies=parts[1].name)
    results = map_parts("copying", _copied, parts, tmp_path / "copies")
    assert sorted((tmp_path / "copies").iterdir()) == results


def test_results_that_are_cut_or_gone_are_made_again(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    parts = _parts(tmp_path / "parts", 4)
    results = map_parts("copying", _copied, parts, tmp_path / "copies")
    results[0].unlink()
    results[1].write_bytes(b"")
    results[2].write_bytes(results[2].read_bytes()[:-9])
    whole = results[3].stat().st_mtime
    assert map_parts("copying", _copied, parts, tmp_path / "copies") == results
    assert [pq.read_table(file) for file in results] == [pq.read_table(file) for file in parts]
    assert results[3].stat().st_mtime == whole


@pytest.mark.skipif(not mounts.available(), reason="needs to mount")
def test_a_full_disk_is_said_and_the_rest_is_done_later(tmp_path: Path) -> None:
    parts, copies = _parts(tmp_path / "parts", 4), tmp_path / "copies"
    copies.mkdir()
    with mounts.small_disk(copies, mebibytes=1):
        filler = copies / "filler"
        filler.write_bytes(b" " * ((1 << 20) - 16_384))
        with pytest.raises(RunError, match=r"^curate: copying: .*cannot be written, as the disk is full; make room"):
            map_parts("copying", _copied, parts, copies)
        assert {file.suffix for file in copies.iterdir()} <= {"", ".parquet", ".tries"}
        filler.unlink()
        results = map_parts("copying", _copied, parts, copies)
        assert sorted(copies.iterdir()) == results
