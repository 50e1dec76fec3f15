"""Sources that are read on Ray: the same rows as in one process, also where a worker or the driver dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from s1ray.curation import staging
from s1ray.curation.file_source import FileSource
from s1ray.reading import pieces
from s1ray.reading.items import Items
from s1ray.reading.pieces import Piece, ReadOptions
from tests.support.curation import quarantined, staged

pytestmark = [pytest.mark.end_to_end, pytest.mark.usefixtures("ray_session")]

BAD_LINES = [1, 700, 2500]


@pytest.fixture(scope="module", autouse=True)
def _workers_get_this_module_by_value(ray_session: None) -> None:
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files that is cut into dozens of pieces."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr(pieces, "PIECE_BYTES", 8000)
    monkeypatch.setattr(staging, "PIECE_BYTES", 8000)
    folder = tmp_path / "pool"
    folder.mkdir()
    lines = [json.dumps({"question": f"What is {i} + {i}?", "answer": 2 * i}) for i in range(2500)]
    for line in BAD_LINES:
        lines[line - 1] = '{"question": "cut'
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    rows = [{"question": f"What is {i} * {i}?", "answer": i * i} for i in range(2500)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "b.parquet", row_group_size=400)
    return folder


def source(pool: Path, **changes: object) -> dict[str, object]:
    return {"kind": "files", "path": str(pool), "columns": {"answer": "answer"}} | changes


def in_this_process(pool: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    with monkeypatch.context() as patch:
        patch.setattr(staging, "ray_is_connected", lambda: False)
        return staged(folder, source(pool))[0]


def test_rows_and_bad_lines_are_those_of_one_process(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = in_this_process(pool, tmp_path / "alone", monkeypatch)
    assert len(alone) == 5000 - len(BAD_LINES)
    rows, done = staged(tmp_path / "ray", source(pool))
    assert len(done.parts) > 20
    assert rows == alone
    assert [entry["line"] for entry in quarantined(tmp_path / "ray")] == BAD_LINES


class Dying(FileSource):
    """The process that reads the second Parquet piece dies once."""

    marker: str

    def records(self, piece: Piece, options: ReadOptions) -> Items:
        if piece.file.format == "parquet" and piece.start > 0 and not os.path.exists(self.marker):
            Path(self.marker).touch()
            os._exit(1)
        return super().records(piece, options)


def test_a_worker_that_dies_costs_nothing(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = in_this_process(pool, tmp_path / "alone", monkeypatch)
    marker = tmp_path / "died"
    rows, _ = staged(tmp_path / "ray", source(pool, kind=f"{__name__}:Dying", marker=str(marker)))
    assert marker.exists()
    assert rows == alone


def test_a_killed_driver_leaves_tasks_that_the_next_one_takes_up(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = in_this_process(pool, tmp_path / "alone", monkeypatch)
    script = textwrap.dedent(f"""
        import os
        from pathlib import Path
        from s1ray.curation import staging
        from s1ray.reading import pieces
        from tests.support.curation import staged
        pieces.PIECE_BYTES = staging.PIECE_BYTES = 8000
        do, done = staging.do, []
        def counted(task, folder):
            if len(done) == 9:
                os._exit(9)
            done.append(task)
            return do(task, folder)
        staging.do = counted
        staged(Path({str(tmp_path / "killed")!r}), {source(pool)!r})
    """)
    killed = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], timeout=120, check=False)
    assert killed.returncode == 9
    work = tmp_path / "killed" / "work"
    finished = {file: file.stat().st_mtime_ns for file in work.glob("task-*.json")}
    assert len(finished) == 9
    rows, _ = staged(tmp_path / "killed", source(pool))
    assert rows == alone
    assert {file: file.stat().st_mtime_ns for file in finished} == finished, "what was done is not done again"
