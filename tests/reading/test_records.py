"""Records of which none may be lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from s1ray.config import ConfigError
from s1ray.reading import pieces
from s1ray.reading.records import column_of, file_records, matching, text_of


def test_one_bad_record_is_an_error_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 40)
    path = tmp_path / "benchmark.jsonl"
    path.write_text("".join(f'{{"question": "{i}"}}\n' for i in range(20)))
    assert [record["question"] for record in file_records(str(path))] == [str(i) for i in range(20)]
    path.write_text(path.read_text() + '{"question"\n')
    with pytest.raises(ConfigError, match=r"benchmark.jsonl: line 21: not JSON"):
        list(file_records(str(path)))
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match=r"cut.parquet: cannot be read as Parquet"):
        list(file_records(str(tmp_path / "cut.parquet")))


def test_conditions_and_columns_are_checked() -> None:
    records: list[dict[str, object]] = [{"a": {"b": 1}}, {"a": {"b": 2}}]
    assert list(matching(records, {"a.b": {"ge": 2}}, "here")) == records[1:]
    with pytest.raises(ConfigError, match="here: no column 'c'; there are a"):
        list(matching(records, {"c": 1}, "here"))
    with pytest.raises(ConfigError, match="here: not comparable: column 'a' is"):
        list(matching(records, {"a": {"ge": 1}}, "here"))
    assert column_of(records[0], "a.b", "here") == 1
    with pytest.raises(ConfigError, match="here: no column 'x'"):
        column_of(records[0], "x", "here")
    assert column_of(records[0], "b is {a.b}", "here") == "b is 1"
    with pytest.raises(ConfigError, match="here: expected '}'"):
        column_of(records[0], "{a", "here")
    assert text_of(["first", "second"]) == "first"
    with pytest.raises(ConfigError, match="is an object"):
        text_of({"b": 1})
