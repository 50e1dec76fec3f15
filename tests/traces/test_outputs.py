"""The files of a run, written while traces pass."""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1ray.manifests import RunError
from s1ray.schemas import Trace, read_table
from s1ray.sinks import GROUP_ROWS
from s1ray.traces.blocks import finished_schema
from s1ray.traces.outputs import write_traces

COUNT = 700


def rows(reasons: list[str | None]) -> pa.Table:
    records = [
        {
            **{"id": f"q{n // 2}-{n % 2}", "question_id": f"q{n // 2}", "sample": n % 2, "question": "q?"},
            **{"thinking": f"{n} " * (n % 50 + 1), "attempt": "4", "teacher": "t", "finish_reason": "stop"},
            **{"thinking_tokens": n, "attempt_tokens": 1, "correct": n % 3 == 0, "answer_source": "reference"},
            **{"answer": "4", "graded_by": "exact", "reason": reason},
        }
        for n, reason in enumerate(reasons)
    ]
    return pa.Table.from_pylist(records, schema=finished_schema())


ROWS = rows(["wrong" if n % 5 == 0 else None for n in range(COUNT)])


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, COUNT), max_size=8))
def test_the_files_do_not_depend_on_the_pieces(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    whole, pieces = (tmp_path_factory.mktemp(name) for name in ("whole", "pieces"))
    write_traces([ROWS], whole)
    ends = [0, *sorted(cuts), COUNT]
    write_traces((ROWS.slice(a, b - a) for a, b in itertools.pairwise(ends)), pieces)
    for name in ("traces.parquet", "dropped.parquet"):
        assert (pieces / name).read_bytes() == (whole / name).read_bytes()


def test_every_row_is_in_one_file_in_order_and_counted(tmp_path: Path) -> None:
    counts = write_traces([ROWS.slice(0, 300), ROWS.slice(300)], tmp_path)
    kept, dropped = read_table(tmp_path / "traces.parquet", Trace), pq.read_table(tmp_path / "dropped.parquet")
    assert kept.column("thinking_tokens").to_pylist() == [n for n in range(COUNT) if n % 5]
    assert dropped.column("thinking_tokens").to_pylist() == [n for n in range(COUNT) if n % 5 == 0]
    assert pq.ParquetFile(tmp_path / "traces.parquet").metadata.row_group(0).num_rows == GROUP_ROWS
    assert (counts.kept, counts.drops) == (len(kept), {"wrong": len(dropped)})
    right = [n for n in range(COUNT) if n % 5 and n % 3 == 0]
    assert counts.figures() == {
        "graded": len(kept),
        "correct_share": round(len(right) / len(kept), 4),
        "mean_thinking_tokens": round(sum(kept.column("thinking_tokens").to_pylist()) / len(kept), 1),
        "max_thinking_tokens": COUNT - 1,
        "truncated": 0,
    }


def test_where_nothing_is_dropped_the_file_has_no_rows(tmp_path: Path) -> None:
    write_traces([rows([None] * 3)], tmp_path)
    assert pq.read_table(tmp_path / "dropped.parquet").equals(finished_schema().empty_table())


def test_a_run_without_a_trace_has_the_dropped_ones_and_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"all were dropped: \{'no answer': 1, 'refused': 2\};.*responses_from="):
        write_traces([rows(["refused", "no answer", "refused"])], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["dropped.parquet"]
    assert pq.read_table(tmp_path / "dropped.parquet").column("reason").to_pylist() == [
        "refused",
        "no answer",
        "refused",
    ]


def test_a_failure_on_the_way_leaves_the_former_files(tmp_path: Path) -> None:
    write_traces([ROWS], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def failing() -> object:
        yield ROWS.slice(0, 600)
        raise RunError("a worker failed")

    with pytest.raises(RunError, match="a worker failed"):
        write_traces(failing(), tmp_path)  # type: ignore[arg-type]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
