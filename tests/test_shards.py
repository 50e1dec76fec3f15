"""Shards of work: what failed is done again, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s1ray.schemas import write_table
from s1ray.shards import HOPELESS, PARTIAL, _complete, _hopeless, check_failures


def results(**errors: str | None) -> pa.Table:
    """Two samples a row, of which the second carries the error."""
    rows = [(name, sample, error if sample else None) for name, error in errors.items() for sample in range(2)]
    columns = {"id": [row[0] for row in rows], "sample": [row[1] for row in rows], "error": [row[2] for row in rows]}
    return pa.table(columns, schema=pa.schema([("id", pa.string()), ("sample", pa.int64()), ("error", pa.string())]))


def test_only_rows_that_failed_are_done_again(tmp_path: Path) -> None:
    rows = pa.table({"id": ["c", "a", "b"]})
    asked: list[list[str]] = []

    class Worker:
        def __init__(self, **errors: str):
            self.errors = errors

        def __call__(self, rows: pa.Table) -> pa.Table:
            asked.append(rows.column("id").to_pylist())
            return results(**{name: self.errors.get(name) for name in asked[-1]})

        def close(self) -> None:
            pass

    first = _complete(rows, None, Worker(a="429"))
    file = tmp_path / "key.parquet"
    write_table(first, file)
    with pytest.raises(ConnectionError, match=r"1 of 6 requests failed, .* the first: 429\. What came is kept"):
        check_failures([file], 0.1, "traces")
    assert not file.exists()
    earlier = pq.read_table(file.with_suffix(PARTIAL))
    again = _complete(rows, earlier, Worker())
    assert asked == [["c", "a", "b"], ["a"]]
    assert again.equals(results(c=None, a=None, b=None))


def test_failures_below_the_share_stay_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "key.parquet"
    write_table(results(a="429", b=None), file)
    check_failures([file], 0.25, "traces")
    assert file.exists()


def test_a_shard_without_one_answer_ends_the_run() -> None:
    def failed(number: int) -> pa.Table:
        return pa.table({"id": [str(n) for n in range(number)], "error": ["401: no such key"] * number})

    assert _hopeless(failed(HOPELESS - 1)) is None
    assert _hopeless(results(**{str(n): "x" for n in range(HOPELESS)})) is None
    assert _hopeless(failed(HOPELESS)) == f"all {HOPELESS} requests of a shard failed; the first: 401: no such key"
