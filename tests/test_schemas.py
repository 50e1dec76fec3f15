"""Row types: the Arrow schema follows the dataclass, and a wrong row or file is named."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s1ray import schemas
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
