"""Row types: the Arrow schema follows the dataclass, and a wrong row or file is named."""

from __future__ import annotations

import dataclasses
import os
import typing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s1ray import schemas
from s1ray.errors import InputError, MissingError
from s1ray.schemas import Question, arrow_schema, question_id, read_table, to_table, write_table


@pytest.mark.parametrize("row_type", typing.get_args(schemas.Row), ids=lambda t: t.__name__)
def test_every_row_type_has_an_arrow_schema_with_its_fields_in_order(row_type: type) -> None:
    assert arrow_schema(row_type).names == [f.name for f in dataclasses.fields(row_type)]


def test_question_id_is_the_hash_that_s1_uses() -> None:
    # The first 16 digits of SHA-256("abc") are published in FIPS 180-4's examples.
    assert question_id("abc") == "ba7816bf8f01cfea"


def test_rows_survive_a_round_trip(tmp_path: Path) -> None:
    rows = [
        Question(id="1", question="2+2?", answer="4", solved_by=["m"]),
        Question(id="2", question="é\n", solution=None, length=7, solved_by=[]),
    ]
    write_table(to_table(rows, Question), tmp_path / "q.parquet")
    back = [Question(**row) for row in read_table(tmp_path / "q.parquet", Question).to_pylist()]
    assert back == rows
    assert [p.name for p in tmp_path.iterdir()] == ["q.parquet"]


def test_a_missing_or_wrong_value_names_row_and_column() -> None:
    with pytest.raises(ValueError, match=r"row 1 \(id 'b'\).*'question'.*missing"):
        to_table([{"id": "a", "question": "x"}, {"id": "b"}], Question)
    with pytest.raises(ValueError, match=r"row 0 \(id 'a'\).*'length'.*int64.*'long'"):
        to_table([{"id": "a", "question": "x", "length": "long"}], Question)


def test_a_file_that_does_not_fit_is_named_with_its_column(tmp_path: Path) -> None:
    file = tmp_path / "q.parquet"
    pq.write_table(pa.table({"id": ["1"]}), file)
    with pytest.raises(ValueError, match=r"q\.parquet: column 'question' is missing"):
        read_table(file, Question)
    pq.write_table(pa.table({"id": ["1", "2"], "question": ["x", None]}), file)
    with pytest.raises(ValueError, match=r"'question' is null in row 1"):
        read_table(file, Question)
    pq.write_table(pa.table({"id": ["1"], "question": ["x"], "length": ["seven"]}), file)
    with pytest.raises(ValueError, match=r"'length' is string, but Question needs int64"):
        read_table(file, Question)
    file.write_text("no parquet")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        read_table(file, Question)
    with pytest.raises(FileNotFoundError, match="no Parquet file here"):
        read_table(tmp_path / "absent", Question)


def test_each_file_of_a_folder_gives_the_columns_that_it_has(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["1"], "question": ["x"]}), tmp_path / "a.parquet")
    pq.write_table(
        pa.table({"answer": ["4"], "question": ["y"], "id": pa.array(["2"], pa.large_string()), "more": [1]}),
        tmp_path / "b.parquet",
    )
    table = read_table(tmp_path, Question)
    assert table.schema == arrow_schema(Question)
    assert table.select(["id", "answer"]).to_pylist() == [{"id": "1", "answer": None}, {"id": "2", "answer": "4"}]
    pq.write_table(pa.table({"id": ["3"], "question": ["z"], "answer": pa.nulls(1)}), tmp_path / "a.parquet")
    assert read_table(tmp_path, Question).column("answer").to_pylist() == [None, "4"]


@pytest.mark.parametrize("bad", ["a", "b"])
def test_of_several_files_the_one_that_does_not_fit_is_named(tmp_path: Path, bad: str) -> None:
    for name in "ab":
        pq.write_table(pa.table({"id": ["1"], "question": ["x"]}), tmp_path / f"{name}.parquet")
    file = tmp_path / f"{bad}.parquet"
    pq.write_table(pa.table({"id": ["1"]}), file)
    with pytest.raises(InputError, match=rf"{bad}\.parquet: column 'question' is missing"):
        read_table(tmp_path, Question)
    pq.write_table(pa.table({"id": ["1"], "question": ["x"], "answer": [4]}), file)
    assert read_table(tmp_path, Question).num_rows == 2, "a number is written as text"
    pq.write_table(pa.table({"id": ["1"], "question": [["x"]]}), file)
    with pytest.raises(InputError, match=rf"{bad}\.parquet: column 'question' is list"):
        read_table(tmp_path, Question)
    file.unlink()
    file.symlink_to("nowhere")
    with pytest.raises(InputError, match=rf"{bad}\.parquet: cannot be read"):
        read_table(tmp_path, Question)


def test_a_damaged_page_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "q.parquet"
    pq.write_table(pa.table({"id": ["1", "2"], "question": ["x" * 500, "y" * 500]}), file, compression="zstd")
    content = bytearray(file.read_bytes())
    for start in range(4, len(content) // 2):
        content[start] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"q\.parquet: cannot be read as Parquet"):
        read_table(file, Question)


@pytest.mark.parametrize("column", ["id", "question", "answer"])
def test_text_that_is_no_text_is_named_with_column_and_row(tmp_path: Path, column: str) -> None:
    bad = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"\xff\xfe"]).buffers())
    texts = pa.array(["1", "2"])
    columns = {name: bad if name == column else texts for name in ("id", "question", "answer")}
    pq.write_table(pa.table(columns), tmp_path / "q.parquet")
    with pytest.raises(InputError, match=rf"q\.parquet: column '{column}' is damaged in row 1"):
        read_table(tmp_path / "q.parquet", Question)


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + "/a.parquet", "a\0b", "a\0b/c.parquet"])
def test_what_is_no_name_of_a_file_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingError):
        read_table(tmp_path / name, Question)


def test_a_folder_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(MissingError, match="cannot be read: Permission denied"):
        read_table(tmp_path, Question)
