"""Staging: what is read, what is put aside, and that neither workers nor kills change it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s1ray.config import ConfigError
from s1ray.curation import staging, tasks
from s1ray.curation.sources import Source
from s1ray.curation.staging import stage
from s1ray.errors import InputError
from s1ray.reading import pieces
from s1ray.schemas import Question, question_id
from s1ray.storage import StoreError, StorePath
from s1ray.storage import paths as storage_paths
from tests.reading.test_formats import CONTENTS
from tests.support.curation import quarantined, sources_of, staged
from tests.support.object_store import bucket, s3_environment, s3_server

__all__ = ["bucket", "s3_environment", "s3_server"]


def jsonl(path: Path, rows: list[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def files(path: Path | str, **changes: object) -> dict[str, object]:
    return {"kind": "files", "path": str(path)} | changes


def good(count: int) -> list[object]:
    return [{"question": f"What is {i} + {i}?", "answer": 2 * i} for i in range(count)]


def test_rows_grow_in_order_over_sources_files_and_lines(tmp_path: Path) -> None:
    folder = tmp_path / "pool"
    jsonl(folder / "b.jsonl", [{"question": "b1"}, {"question": "b2"}])
    jsonl(folder / "a" / "z.jsonl", [{"question": "a1"}])
    first = jsonl(tmp_path / "first.jsonl", good(3))
    rows, done = staged(tmp_path, files(first, limit=2), files(folder), {"kind": "miniature", "size": 5})
    assert [row["question"] for row in rows[:5]] == ["What is 0 + 0?", "What is 1 + 1?", "a1", "b1", "b2"]
    assert [row["source_index"] for row in rows] == [0] * 2 + [1] * 3 + [2] * 5
    orders = [row["order"] for row in rows]
    assert orders == sorted(set(orders))
    assert done.read["1 (pool)"] == {"read": 3, "staged": 3, "quarantined": {}}


def test_pieces_of_any_size_give_the_same_rows_and_the_lines_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = '{"question": "cut'
    rows: list[Any] = good(60)
    for line in (0, 7, 30, 59):
        rows[line] = bad
    rows[20] = ""
    path = jsonl(tmp_path / "pool.jsonl", rows)
    whole, _ = staged(tmp_path / "whole", files(path))
    lines = [entry["line"] for entry in quarantined(tmp_path / "whole")]
    assert lines == [1, 8, 31, 60]
    for size in (11, 37, 1000):
        monkeypatch.setattr(pieces, "PIECE_BYTES", size)
        monkeypatch.setattr(staging, "PIECE_BYTES", size)
        cut, done = staged(tmp_path / str(size), files(path))
        assert [row["question"] for row in cut] == [row["question"] for row in whole]
        assert [entry["line"] for entry in quarantined(tmp_path / str(size))] == lines
        assert done.read["0 (pool)"]["quarantined"] == {"not JSON": 4}


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_row_ranges_of_any_size_give_the_same_rows(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([{"question": f"q{i}", "level": i % 5} for i in range(1000)])
    path = tmp_path / f"pool.{kind}"
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=170)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=170)
    expected = [f"q{i}" for i in range(1000) if i % 5 >= 3]
    for size in (1, 500, 1 << 20):
        monkeypatch.setattr(pieces, "PIECE_BYTES", size)
        monkeypatch.setattr(staging, "PIECE_BYTES", size)
        rows, done = staged(tmp_path / str(size), files(path, where={"level": {"ge": 3}}))
        assert [row["question"] for row in rows] == expected
        assert done.read["0 (pool)"] == {"read": 1000, "staged": 400, "quarantined": {}, "not wanted": 600}


def test_parts_are_bounded_by_rows_and_by_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    path = jsonl(tmp_path / "pool.jsonl", good(25))
    monkeypatch.setattr(staging, "PART_ROWS", 10)
    assert [pq.read_metadata(part).num_rows for part in staged(tmp_path / "rows", files(path))[1].parts] == [
        10,
        10,
        5,
    ]
    monkeypatch.setattr(tasks, "PART_CHARACTERS", 40)
    assert all(pq.read_metadata(part).num_rows <= 4 for part in staged(tmp_path / "text", files(path))[1].parts)


def test_too_many_bad_rows_fail_and_say_where_they_are(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "pool.jsonl", [*good(100), *["{"] * 11])
    with pytest.raises(
        ConfigError, match=r"sources.0: 11 of 111 rows cannot be used \(11 not JSON\), more than max_bad_share"
    ):
        staged(tmp_path / "a", files(path))
    assert len(quarantined(tmp_path / "a")) == 11, "they can be looked at all the same"
    rows, _ = staged(tmp_path / "b", files(path, max_bad_share=0.1))
    assert len(rows) == 100
    few = jsonl(tmp_path / "few.jsonl", [*good(3), "{"])
    assert len(staged(tmp_path / "c", files(few))[0]) == 3, "a few are no reason to fail"
    with pytest.raises(ConfigError, match="1 of 4 rows"):
        staged(tmp_path / "d", files(few, max_bad_share=0))


def test_a_damaged_file_fails_the_run_or_is_skipped_and_named(tmp_path: Path) -> None:
    import gzip

    folder = tmp_path / "pool"
    jsonl(folder / "good.jsonl", good(5))
    (folder / "bad.parquet").write_bytes(b"PAR1 and no more")
    packed = gzip.compress("\n".join(json.dumps(row) for row in good(20_000)).encode())
    (folder / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(
        ConfigError, match=r"(?s)2 problems.*bad.parquet: .*on_bad_file: skip.*cut.jsonl.gz: cut or damaged"
    ):
        staged(tmp_path / "a", files(folder))
    rows, done = staged(tmp_path / "b", files(folder, on_bad_file="skip"))
    assert 5_000 < len(rows) < 15_000
    assert [Path(file).name for file in done.read["0 (pool)"]["bad files"]] == ["bad.parquet", "cut.jsonl.gz"]
    assert [Path(entry["file"]).name for entry in quarantined(tmp_path / "b")] == ["bad.parquet", "cut.jsonl.gz"]


@pytest.mark.parametrize("name", ["pool.jsonl", "pool.parquet", "file.arrow", "pool.jsonl.gz"])
def test_what_a_store_does_not_give_is_not_damaged_and_is_read_on_the_next_start(
    name: str, bucket: StorePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bucket / name).write_bytes(CONTENTS[name])
    source, real, gone = files(f"{bucket}/{name}", on_bad_file="skip"), storage_paths._Reader.readinto, list[bool]()

    def fails(reader: storage_paths._Reader, buffer: Any) -> int:
        if gone:
            raise StoreError(reader._path, "503 Slow Down")
        return real(reader, buffer)

    def later(task: tasks.Task, folder: Path, do: Any = tasks.do) -> tasks.TaskRecord:
        gone.append(True)
        record: tasks.TaskRecord = do(task, folder)
        return record

    monkeypatch.setattr(storage_paths._Reader, "readinto", fails)
    with monkeypatch.context() as patch:
        patch.setattr(staging, "do", later)
        with pytest.raises(ConfigError, match="503 Slow Down"):
            staged(tmp_path, source)
    gone.clear()
    rows, done = staged(tmp_path, source)
    assert len(rows) == 2
    assert "bad files" not in next(iter(done.read.values()))


def test_the_problems_of_all_sources_are_told_at_once(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "pool.jsonl", good(3))
    broken = jsonl(tmp_path / "broken.jsonl", ["{"] * 20)
    with pytest.raises(ConfigError) as error:
        staged(
            tmp_path,
            files(tmp_path / "nowhere"),
            files(path, columns={"domain": "subject"}),
            files(broken),
            files(path, where={"anser": 1}),
            files(path),
        )
    message = str(error.value)
    assert "4 problems" in message
    assert "sources.0: " in message
    assert "sources.1: no column 'subject'" in message
    assert "sources.2: 20 of 20 rows" in message
    assert "sources.3: no column 'anser'; did you mean 'answer'" in message
    assert "sources.4" not in message


def test_a_column_that_only_some_rows_have_is_missing_in_the_others(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "pool.jsonl", [{"question": "a"}, {"question": "b", "answer": 4}, {"answer": 5}])
    rows, _ = staged(tmp_path, files(path, columns={"answer": "answer"}))
    assert [row["answer"] for row in rows] == [None, "4"]
    (bad,) = quarantined(tmp_path)
    assert bad["line"] == 3
    assert bad["reason"].startswith("missing column: no column 'question'")


def test_a_second_call_does_again_only_what_was_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 500)
    monkeypatch.setattr(staging, "PIECE_BYTES", 500)
    path = jsonl(tmp_path / "pool.jsonl", [*good(100), "{"])
    undisturbed, _ = staged(tmp_path / "a", files(path))
    folder = tmp_path / "b" / "work"

    class Killed(BaseException):
        pass

    did: list[int] = []

    def until_killed(task: tasks.Task, folder: Path, do: Any = tasks.do) -> tasks.TaskRecord:
        did.append(task.index)
        if len(did) == 4:
            raise Killed
        record: tasks.TaskRecord = do(task, folder)
        return record

    monkeypatch.setattr(staging, "do", until_killed)
    with pytest.raises(Killed):
        stage(sources_of(files(path)), folder, tmp_path / "quarantine.jsonl")
    finished = {file.name: file.stat().st_mtime_ns for file in folder.glob("task-*.json")}
    assert len(finished) == 3
    rows, done = staged(tmp_path / "b", files(path))
    assert rows == undisturbed
    assert done.read["0 (pool)"]["quarantined"] == {"not JSON": 1}
    assert did[:4] == [0, 1, 2, 3]
    assert did[4] == 3, "what was finished is not done again"
    assert {name: (folder / name).stat().st_mtime_ns for name in finished} == finished
    other, _ = staged(tmp_path / "b", files(path, where={"answer": {"ge": 100}}))
    assert len(other) == 50, "another config takes nothing over"


@pytest.mark.parametrize("lost", ["part-*.parquet", "bad-*.jsonl", "task-*.json"])
@pytest.mark.parametrize("cut", [True, False], ids=["cut", "gone"])
def test_what_was_lost_of_a_finished_task_is_made_again(
    lost: str, cut: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 500)
    monkeypatch.setattr(staging, "PIECE_BYTES", 500)
    path = jsonl(tmp_path / "pool.jsonl", ["{", *good(100)])
    undisturbed, done = staged(tmp_path, files(path))
    file = min((tmp_path / "work").glob(lost))
    if not cut:
        file.unlink()
    elif file.suffix != ".jsonl":
        file.write_bytes(file.read_bytes()[:10])
    assert staged(tmp_path, files(path)) == (undisturbed, done)
    assert [each["line"] for each in quarantined(tmp_path)] == [1]


def test_a_limit_counts_usable_rows_from_the_first_on(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "pool.jsonl", ["{", *good(100)])
    rows, done = staged(tmp_path, files(path, limit=3, columns={"domain": "subject"}))
    assert [row["question"] for row in rows] == [f"What is {i} + {i}?" for i in range(3)]
    assert done.read["0 (pool)"]["quarantined"] == {"not JSON": 1}


def test_sources_without_rows(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(ConfigError, match="none of them has a row"):
        staged(tmp_path, files(empty))
    path = jsonl(tmp_path / "pool.jsonl", good(3))
    with pytest.raises(ConfigError, match="none of them has a row"):
        staged(tmp_path, files(path, where={"answer": 99}))
    assert len(staged(tmp_path, files(empty), files(path))[0]) == 3


class OddQuestions(Source):
    """What another package may get wrong."""

    fails: bool = False

    def rows(self) -> Iterator[Question]:
        for text in ("fine?", "a\0b?", "half \ud800?", "fine again?"):
            yield Question(id=question_id(text.replace("\ud800", "")), question=text, source=self.label)
        yield Question(id="x", question="of what?", source=self.label, domain=["a", "b"])  # type: ignore[arg-type]
        yield Question(id="y", question="how hard?", source=self.label, pass_rates='{"small": 7}')
        if self.fails:
            raise InputError("the archive is closed")


def test_rows_of_other_packages_are_checked_too(tmp_path: Path) -> None:
    own = {"kind": f"{__name__}:OddQuestions"}
    rows, done = staged(tmp_path, own)
    assert [row["question"] for row in rows] == ["fine?", "fine again?"]
    assert [(entry["row"], entry["reason"].split(":")[0]) for entry in quarantined(tmp_path)] == [
        (2, "NUL"),
        (3, "broken text"),
        (5, "wrong type"),
        (6, "wrong type"),
    ]
    (counts,) = done.read.values()
    assert counts == {"read": 6, "staged": 2, "quarantined": {"NUL": 1, "broken text": 1, "wrong type": 2}}
    with pytest.raises(ConfigError, match=r"sources.0: the archive is closed"):
        staged(tmp_path / "again", own | {"fails": True})


def test_a_file_that_goes_away_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = jsonl(tmp_path / "pool.jsonl", good(3))

    def gone(task: tasks.Task, folder: Path, do: Any = tasks.do) -> tasks.TaskRecord:
        path.unlink(missing_ok=True)
        record: tasks.TaskRecord = do(task, folder)
        return record

    monkeypatch.setattr(staging, "do", gone)
    with pytest.raises(ConfigError, match=r"pool.jsonl: No such file or directory on .*where every node can read them"):
        staged(tmp_path, files(path))
