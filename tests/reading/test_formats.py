"""Every format of file that a source reads, and what is wrong with some of them."""

from __future__ import annotations

import glob
import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.config import ConfigError
from s1ray.errors import MissingError
from s1ray.reading import items, json_text, streams
from s1ray.reading.files import find_files, label_of
from s1ray.reading.items import Bad, BadFile
from s1ray.reading.json_text import read_values
from tests.support.curation import quarantined, staged

ROWS = [{"question": "What is 1+1?", "answer": "2"}, {"question": "Wie groß ist π?", "answer": "3.14"}]
COLUMNS: dict[str, Any] = {"columns": {"answer": "answer"}}


def zstd(data: bytes) -> bytes:
    import pyarrow as pa

    packed: bytes = pa.Codec("zstd").compress(data, asbytes=True)
    return packed


def parquet(rows: list[dict[str, str]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def arrow(rows: list[dict[str, str]], *, stream: bool) -> bytes:
    import pyarrow as pa

    table, sink = pa.Table.from_pylist(rows), io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
TABLE = "question,answer\n" + "".join(f'"{row["question"]}",{row["answer"]}\n' for row in ROWS)
CONTENTS: dict[str, bytes] = {
    "pool.jsonl": LINES,
    "pool.ndjson": LINES,
    "POOL.JSONL": LINES,
    "bom.jsonl": b"\xef\xbb\xbf" + LINES,
    "crlf.jsonl": LINES.replace(b"\n", b"\r\n"),
    "without_end.jsonl": LINES.rstrip(),
    "lines.json": LINES,
    "array.json": json.dumps(ROWS).encode(),
    "pretty.json": json.dumps(ROWS, indent=4).encode(),
    "objects.json": "\n".join(json.dumps(row, indent=1) for row in ROWS).encode(),
    "array.jsonl": json.dumps(ROWS).encode(),
    "bom.json": b"\xef\xbb\xbf" + json.dumps(ROWS).encode(),
    "pool.csv": TABLE.encode(),
    "bom.csv": b"\xef\xbb\xbf" + TABLE.encode(),
    "semicolons.csv": TABLE.replace(",", ";").encode(),
    "pool.tsv": TABLE.replace(",", "\t").encode(),
    "pool.jsonl.gz": gzip.compress(LINES),
    "members.jsonl.gz": b"".join(gzip.compress(line + b"\n") for line in LINES.splitlines()),
    "pool.json.gz": gzip.compress(json.dumps(ROWS).encode()),
    "pool.csv.gz": gzip.compress(TABLE.encode()),
    "pool.jsonl.zst": zstd(LINES),
    "pool.parquet": parquet(ROWS),
    "without_suffix": parquet(ROWS),
    "stream.arrow": arrow(ROWS, stream=True),
    "file.arrow": arrow(ROWS, stream=False),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_every_format_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(CONTENTS[name])
    rows, _ = staged(tmp_path, COLUMNS | {"kind": "files", "path": str(tmp_path / name)})
    assert [{key: row[key] for key in ("question", "answer")} for row in rows] == ROWS
    assert rows[0]["source"] == name.split(".")[0]
    assert not quarantined(tmp_path)


def test_a_single_object_is_one_row(tmp_path: Path) -> None:
    for number, indent in enumerate((None, 2)):
        path = tmp_path / f"one{number}.json"
        path.write_text(json.dumps(ROWS[0], indent=indent))
        rows, _ = staged(tmp_path / str(number), {"kind": "files", "path": str(path)})
        assert [row["question"] for row in rows] == ["What is 1+1?"]


def test_a_folder_is_read_with_all_its_formats_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    for number, (name, content) in enumerate(CONTENTS.items()):
        path = folder / f"{number % 3}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "README.md").write_text("words")
    (folder / ".hidden.jsonl").write_bytes(LINES)
    found = find_files(str(folder))
    assert len(found.files) == len(CONTENTS) - 1
    assert sorted(Path(path).name for path in found.ignored) == ["README.md", "without_suffix"]
    assert "2 file(s) not read: " in found.describe()
    rows, _ = staged(tmp_path, COLUMNS | {"kind": "files", "path": str(folder)})
    assert len(rows) == 2 * (len(CONTENTS) - 1)


def test_globs_and_lists_give_each_file_once_in_order(tmp_path: Path) -> None:
    for name in ("b/2.jsonl", "a/1.jsonl", "a/note.txt", "c.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"question": name}) + "\n")
    pattern = str(tmp_path / "**" / "*")
    assert [Path(file.path).name for file in find_files(pattern).files] == ["1.jsonl", "2.jsonl", "c.jsonl"]
    assert [Path(path).name for path in find_files(pattern).ignored] == ["note.txt"]
    listed = find_files([str(tmp_path / "c.jsonl"), pattern])
    assert [Path(file.path).name for file in listed.files] == ["c.jsonl", "1.jsonl", "2.jsonl"]
    assert label_of(str(tmp_path / "a" / "*.jsonl")) == "a"
    with pytest.raises(MissingError, match="no file matches"):
        find_files(str(tmp_path / "*.csv"))
    with pytest.raises(ConfigError, match="a source with several paths needs one"):
        staged(tmp_path, {"kind": "files", "path": [pattern, pattern]})


def test_a_file_that_is_written_in_two_ways_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jsonl").write_bytes(LINES)
    monkeypatch.chdir(tmp_path)
    (file,) = find_files(["./**/*", "a", "a/1.jsonl", str(tmp_path)]).files
    assert file.absolute == str(tmp_path / "a" / "1.jsonl")


def test_a_name_with_glob_characters_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pool [1].jsonl"
    path.write_bytes(LINES)
    rows, _ = staged(tmp_path, {"kind": "files", "path": str(path)})
    assert {row["source"] for row in rows} == {"pool [1]"}


def test_a_saved_data_set_is_read_and_its_caches_are_not(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(str(tmp_path / "one"), num_shards=2)
    (tmp_path / "one" / "cache-0123.arrow").write_bytes(b"old")
    rows, _ = staged(tmp_path, {"kind": "files", "path": str(tmp_path / "one")})
    assert [row["question"] for row in rows] == [row["question"] for row in ROWS]
    both = datasets.DatasetDict({"train": saved, "test": saved})
    both.save_to_disk(str(tmp_path / "both"))
    with pytest.raises(ConfigError, match=r"the splits train, test; give the path of one, for example .*both/train"):
        find_files(str(tmp_path / "both"))
    assert len(staged(tmp_path / "x", {"kind": "files", "path": str(tmp_path / "both" / "train")})[0]) == 2


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "shift_jis"])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".json"])
def test_other_encodings_are_read_where_they_are_named(encoding: str, suffix: str, tmp_path: Path) -> None:
    row = {"question": "質問?" if encoding == "shift_jis" else "Größe?", "answer": "2"}
    text = f"question,answer\n{row['question']},2\n" if suffix == ".csv" else json.dumps(row, ensure_ascii=False)
    path = tmp_path / f"pool{suffix}"
    path.write_bytes(text.encode(encoding))
    rows, _ = staged(tmp_path, {"kind": "files", "path": str(path), "encoding": encoding})
    assert [each["question"] for each in rows] == [row["question"]]


def test_another_encoding_is_refused_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.jsonl"
    path.write_bytes(LINES + '{"question": "Größe?"}\n'.encode("latin-1"))
    staged(tmp_path, {"kind": "files", "path": str(path)})
    (bad,) = quarantined(tmp_path)
    assert (bad["file"], bad["line"]) == (str(path), 3)
    assert "not UTF-8: byte 0xf6 at position 16; if the file has another encoding, set" in bad["reason"]
    path.write_bytes("".join(json.dumps(row) for row in ROWS).encode("utf-16"))
    with pytest.raises(ConfigError, match=r"latin.jsonl: line 1: not UTF-8, but utf-16; set the source's `encoding"):
        staged(tmp_path / "b", {"kind": "files", "path": str(path)})
    path.write_bytes(b"question\n" + "Größe?\nfine?\n".encode("latin-1"))
    table = path.rename(tmp_path / "latin.csv")
    rows, _ = staged(tmp_path / "c", {"kind": "files", "path": str(table)})
    assert [row["question"] for row in rows] == ["fine?"]
    assert [(bad["line"], bad["reason"].split(":")[0]) for bad in quarantined(tmp_path / "c")] == [(2, "broken text")]
    with pytest.raises(ConfigError, match="'latn' is no encoding"):
        staged(tmp_path, {"kind": "files", "path": str(path), "encoding": "latn"})


def test_bad_lines_of_json_are_each_named(tmp_path: Path) -> None:
    lines = [
        '{"question": "fine?"}',
        '{"question": "cut',
        "[1, 2]",
        '"words"',
        "",
        '{"question": "a" "b"}',
        "[" * 100_000,
    ]
    lines += ['{"question": "fine?", "n": ' + "9" * 5000 + "}", '{"question": "fine?", "n": NaN}']
    path = tmp_path / "pool.jsonl"
    path.write_text("\n".join(lines))
    rows, _ = staged(tmp_path, {"kind": "files", "path": str(path)})
    assert [row["question"] for row in rows] == ["fine?", "fine?"]
    bad = {entry["line"]: entry["reason"].split(":")[0] for entry in quarantined(tmp_path)}
    assert bad == {
        2: "not JSON",
        3: "not a JSON object",
        4: "not a JSON object",
        6: "not JSON",
        7: "not JSON",
        8: "not JSON",
    }


def test_bad_rows_of_csv_are_each_named(tmp_path: Path) -> None:
    path = tmp_path / "pool.csv"
    path.write_text('question,answer\n"two\nlines",1\nmore,2,3\n"not" closed,4\nfine,5\n\n"open,6\n')
    rows, _ = staged(tmp_path, COLUMNS | {"kind": "files", "path": str(path)})
    assert [(row["question"], row["answer"]) for row in rows] == [("two\nlines", "1"), ("fine", "5")]
    bad = [(entry["line"], entry["reason"].split(":")[0]) for entry in quarantined(tmp_path)]
    assert bad == [(4, "not as the header"), (5, "not CSV"), (8, "not CSV")]
    path.write_text("question,question\n")
    with pytest.raises(ConfigError, match=r"line 1: the header names a column twice \(question\)"):
        staged(tmp_path / "b", {"kind": "files", "path": str(path)})


def test_an_element_of_an_array_is_bad_alone_and_a_cut_array_fails(tmp_path: Path) -> None:
    path = tmp_path / "pool.json"
    path.write_text('[{"question": "a [{"}, {"question": "b" "c"}, 17, "x", {"question": "d\\""}]')
    rows, _ = staged(tmp_path, {"kind": "files", "path": str(path)})
    assert [row["question"] for row in rows] == ["a [{", 'd"']
    assert [entry["row"] for entry in quarantined(tmp_path)] == [2, 3, 4]
    for text, problem in (
        ('[{"question": "a"}, {"question": "b"', "element 2 has no end"),
        ('[{"question": "a"},', "cut after element 1"),
        ('[{"question": "a"}] {}', "the array has ended, but the file goes on"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=problem):
            staged(tmp_path / "b", {"kind": "files", "path": str(path)})


def test_what_is_too_long_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (items, json_text, streams):
        monkeypatch.setattr(module, "MAX_BYTES", 1000)
    monkeypatch.setattr(json_text, "_CHUNK", 64)
    monkeypatch.setattr(streams.lines, "__defaults__", (1000,))
    values = [{"question": "a"}, {"question": "long", "x": ["y" * 10] * 200}, {"question": "b"}]
    for name, text in (("a.jsonl", "\n".join(map(json.dumps, values))), ("a.json", json.dumps(values))):
        (tmp_path / name).write_text(text)
        rows, _ = staged(tmp_path / f"{name}.run", {"kind": "files", "path": str(tmp_path / name)})
        assert [row["question"] for row in rows] == ["a", "b"]
        (bad,) = quarantined(tmp_path / f"{name}.run")
        assert bad["reason"].startswith("too long")
        assert bad["text"].startswith('{"question": "long"')


def test_parquet_cells_that_are_no_text_are_bad_rows(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    broken = pa.array([b"fine?", b"Gr\xf6\xdfe?"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"question": broken, "image": [b"\x89PNG", b"\x89PNG"]}), tmp_path / "pool.parquet")
    rows, _ = staged(
        tmp_path, {"kind": "files", "path": str(tmp_path / "pool.parquet"), "columns": {"metadata": "all"}}
    )
    assert [row["question"] for row in rows] == ["fine?"]
    assert json.loads(rows[0]["metadata"]) == {"image": "<4 bytes>"}
    assert [(bad["row"], bad["reason"]) for bad in quarantined(tmp_path)] == [(2, "not UTF-8: byte 0xf6")]


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
OBJECTS = st.lists(st.dictionaries(st.text(), JSON, max_size=4), max_size=6)


@given(OBJECTS, st.sampled_from([None, 1]), st.integers(1, 50), st.booleans())
def test_arrays_are_read_in_chunks_of_any_size(rows: list[object], indent: int | None, chunk: int, raw: bool) -> None:
    before, json_text._CHUNK = json_text._CHUNK, chunk
    try:
        text = json.dumps(rows, indent=indent, ensure_ascii=not raw).encode()
        assert [value for _, value in read_values(io.BytesIO(text), "utf-8")] == rows
    finally:
        json_text._CHUNK = before


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        values = [value for _, value in read_values(io.BytesIO(data), "utf-8")]
    except BadFile:
        return
    assert all(isinstance(value, dict | Bad) for value in values)


def test_a_run_folder_gives_its_result_and_not_what_it_dropped(tmp_path: Path) -> None:
    (tmp_path / "questions.parquet").write_bytes(parquet(ROWS))
    (tmp_path / "dropped.parquet").write_bytes(parquet(ROWS))
    assert len(find_files(str(tmp_path)).files) == 2
    (tmp_path / "manifest.json").write_text("{}")
    assert [Path(file.path).name for file in find_files(str(tmp_path)).files] == ["questions.parquet"]


def test_parquet_files_of_one_folder_may_differ_in_their_columns_and_types(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "pool"
    folder.mkdir()
    tables = [
        {"question": ["a"], "answer": pa.nulls(1)},
        {"question": ["b"], "answer": [5], "extra": [1]},
        {"question": pa.array(["c"]).dictionary_encode(), "answer": [2.0]},
        {"question": pa.array([], pa.string()), "answer": pa.array([], pa.string())},
        {"question": ["d"]},
        {"question": pa.array(["e"], pa.large_string()), "answer": [[7]], "image": [b"\x89PNG"]},
    ]
    for number, table in enumerate(tables):
        pq.write_table(pa.table(table), folder / f"{number}.parquet")
    rows, _ = staged(tmp_path, COLUMNS | {"kind": "files", "path": str(folder)})
    assert {row["question"]: row["answer"] for row in rows} == {"a": None, "b": "5", "c": "2", "d": None, "e": "7"}
    assert not quarantined(tmp_path)


@pytest.mark.parametrize(
    "pattern", ["**/*.jsonl", "pool/**/*.jsonl", "pool/**", "pool/**/q/*", "**/[ab].jsonl", "./**/*.csv", "pool/**/*.*"]
)
def test_globs_of_all_depths_find_what_pythons_find(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jsonl", "pool/b.jsonl", "pool/q/c.jsonl", "pool/q/d.csv", ".hidden/e.jsonl", "pool/.x.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"question": "Q?"}\n')
    monkeypatch.chdir(tmp_path)
    expected = {os.path.abspath(path) for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)}
    for wanted in (pattern, f"{tmp_path}/{pattern}"):
        assert {file.absolute for file in find_files(wanted).files} == expected
