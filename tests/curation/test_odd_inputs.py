"""Files as people have them: each is read, or its rows are put aside with file and line, or it is refused in words."""

from __future__ import annotations

import datetime
import gzip
import json
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from s1ray.config import ConfigError, validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.staging import check_sources
from s1ray.errors import S1rayError
from tests.support.curation import quarantined, staged

Content = bytes | Callable[[Path], object]
SOUND = {"question": "What is 1+1?", "answer": "2"}


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def sound(**other: object) -> dict[str, object]:
    return SOUND | other


SOUND_LINE = lines(SOUND)


def zstd(content: bytes) -> bytes:
    import pyarrow as pa

    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(content)
    compressed: bytes = out.getvalue().to_pybytes()
    return compressed


def many() -> bytes:
    rng = random.Random(0)
    return lines(*(sound(question=f"{number}: {rng.randbytes(30).hex()}") for number in range(2000)))


def parquet(**columns: Any) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), path)

    return write


def typed(values: list[object], kind: str) -> Any:
    import pyarrow as pa

    kinds = {"map": pa.map_(pa.string(), pa.string()), "large list": pa.large_list(pa.string()), "bytes": pa.binary()}
    return pa.array(values, kinds[kind])


def arrow(path: Path) -> None:
    import pyarrow as pa

    table = pa.Table.from_pylist([SOUND, SOUND])
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table)


def saved(*splits: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        datasets = pytest.importorskip("datasets")
        rows = datasets.Dataset.from_list([SOUND, SOUND, SOUND])
        (datasets.DatasetDict(dict.fromkeys(splits, rows)) if splits else rows).save_to_disk(str(path))

    return write


def two_of_a_name(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.array([text]) for text in ("A?", "B?", "1")]
    pq.write_table(pa.Table.from_arrays(columns, names=["question", "question", "answer"]), path)


def cut(path: Path) -> None:
    parquet(question=["A?"] * 1000, answer=["1"] * 1000)(path)
    path.write_bytes(path.read_bytes()[:-50])


def hub_folder(path: Path) -> None:
    (path / "data").mkdir(parents=True)
    (path / "README.md").write_text("---\nlicense: mit\n---\n")
    (path / ".gitattributes").write_text("*.parquet filter=lfs\n")
    (path / "dataset_infos.json").write_text("{}")
    parquet(question=["A?"], answer=["1"])(path / "data" / "train-00000-of-00001.parquet")


def links(path: Path) -> None:
    path.mkdir()
    (path / "a.jsonl").write_bytes(SOUND_LINE)
    (path / "again.jsonl").symlink_to(path / "a.jsonl")
    (path / "loop").symlink_to(path, target_is_directory=True)
    (path / "nowhere.jsonl").symlink_to(path / "gone.jsonl")


def folders(path: Path) -> None:
    (path / "x.jsonl").mkdir(parents=True)
    (path / "x.jsonl" / "y.jsonl").write_bytes(SOUND_LINE)
    (path / "z.jsonl").write_bytes(SOUND_LINE)
    (path / "state.json").write_text("not what datasets writes")
    (path / "empty").mkdir()


ANSWER = {"answer": "answer"}
NESTED = {"question": "row.q.text", "answer": "row.gold[0].v"}
JOINED = {"question": "{passage}\n{question}\n{options:letters}", "answer": "answer"}
CHAT = {"question": "{conversations:user}", "solution": "{conversations:assistant}"}

# Name, content, more of the source, rows that are staged, and kind and place of each that is put aside.
READ: list[tuple[str, Content, dict[str, Any], int, list[tuple[str, int | None]]]] = [
    ("zst.jsonl.zst", zstd(SOUND_LINE * 2), {}, 2, []),
    ("two gzips.jsonl.gz", gzip.compress(SOUND_LINE) * 2, {}, 2, []),
    ("cut.jsonl.gz", gzip.compress(many())[:-2000], {"on_bad_file": "skip"}, -1, [("cut or damaged", None)]),
    ("told.jsonl", '{"question": "Café?", "answer": "é"}\n'.encode("latin-1"), {"encoding": "latin-1"}, 1, []),
    ("utf-16.jsonl", '{"question": "Q?", "answer": "1"}\n'.encode("utf-16"), {"encoding": "utf-16"}, 1, []),
    ("latin-1.jsonl", '{"question": "Café?"}\n'.encode("latin-1") + SOUND_LINE, {}, 1, [("not UTF-8", 1)]),
    ("line ends.jsonl", (SOUND_LINE * 2).replace(b"\n", b"\r\n"), {}, 2, []),
    ("quotes.csv", b'question,answer\n"He said ""go""\nnow, then?",2\n"a;b",3\n', {}, 2, []),
    ("semicolons.csv", b"question;answer\n1,5?;2\n", {}, 1, []),
    ("tabs.tsv", b"question\tanswer\nQ, with comma?\t2\n", {}, 1, []),
    ("mark.csv", b"\xef\xbb\xbfquestion,answer\nQ,1\n", {}, 1, []),
    ("cells.csv", b'question,answer\nQ,1\nQ,1,2\nQ\n"Q" x,1\nQ,5\n', {}, 2,
     [("not as the header", 3), ("not as the header", 4), ("not CSV", 5)]),
    ("open quote.csv", b'question,answer\nQ1,1\n"Q2,2\nQ3,3\n', {}, 1, [("not CSV", 3)]),
    ("names twice.jsonl", b'{"question": "A?", "question": "B?", "answer": "1"}\n' + SOUND_LINE, {}, 1,
     [("not JSON", 1)]),
    ("not numbers.jsonl", b'{"question": "A?", "answer": NaN}\n{"question": "B?", "answer": -Infinity}\n', {}, 2, []),
    ("truth.jsonl", lines(sound(answer=True), sound(answer=False)), {}, 2, []),
    ("numbers.jsonl", lines(sound(question=12), sound(question=1.5), sound(question=None)), {}, 2,
     [("no question", 3)]),
    ("dates.parquet", lambda path: parquet(question=["When?"], answer=[datetime.date(2020, 1, 2)])(path), {}, 1, []),
    ("decimals.parquet", lambda path: parquet(question=["N?"], answer=[Decimal("1.50")])(path), {}, 1, []),
    ("floats.parquet", lambda path: parquet(question=["A?", "B?"], answer=[3.0, float("nan")])(path), {}, 2, []),
    ("images.parquet", parquet(question=["A?"], answer=["1"], image=[{"bytes": b"\x89PNG\xff", "path": "x.png"}]),
     {"columns": {"answer": "answer", "metadata": "all"}}, 1, []),
    ("bytes.parquet", lambda path: parquet(question=typed([b"\xff\xfe", b"ok?"], "bytes"), answer=["1", "1"])(path), {},
     1, [("wrong type", 1)]),
    ("lists.parquet", lambda path: parquet(question=["A?", "B?", "C?"], answer=typed([["1"], ["1", "2"], []],
     "large list"))(path), {}, 2, [("wrong type", 2)]),
    ("maps.parquet", lambda path: parquet(question=["A?"], answer=typed([[("k", "v")]], "map"))(path),
     {"columns": {"answer": "answer.k"}}, 1, []),
    ("NUL.parquet", parquet(question=["a\0b?", "B?"], answer=["1", "1"]), {}, 1, [("NUL", 1)]),
    ("objects.parquet", parquet(question=["A?"], r=[{"gt": "5"}]), {"columns": {"answer": "r.gt"}}, 1, []),
    ("two cases.jsonl", lines({"Question": "A?", "question": "B?", "answer": "1"}), {}, 1, []),
    ("huge line.jsonl", lines(sound(question="x" * (33 << 20)), SOUND), {}, 1, [("too long", 1)]),
    ("deep.jsonl", b'{"question":' + b"[" * 99_999 + b"]" * 99_999 + b"}\n" + SOUND_LINE, {}, 1, [("not JSON", 1)]),
    ("long number.jsonl", b'{"question": "A?", "answer": ' + b"9" * 5000 + b"}\n" + SOUND_LINE, {}, 1,
     [("not JSON", 1)]),
    ("pretty.json", json.dumps([SOUND, SOUND], indent=2).encode(), {}, 2, []),
    ("cut.json", json.dumps([SOUND, SOUND, SOUND]).encode()[:-20], {"on_bad_file": "skip"}, 2,
     [("element 3 has no end (the file is cut, or a bracket or quote is not closed)", None)]),
    ("scalars.json", b'[1, "a", null, {"question": "A?", "answer": "1"}]', {}, 1,
     [("not a JSON object", 1), ("not a JSON object", 2), ("not a JSON object", 3)]),
    ("blank lines.jsonl", b"\n\n" + SOUND_LINE + b"\n   \n" + SOUND_LINE, {}, 2, []),
    ("comments.jsonl", b"// a comment\n" + SOUND_LINE + b"{'question': 'A?'}\n", {}, 1,
     [("not JSON", 1), ("not JSON", 3)]),
    ("batches.arrow", arrow, {}, 2, []),
    ("saved", saved(), {}, 3, []),
    ("saved with one split", saved("train"), {}, 3, []),
    ("from the hub", hub_folder, {}, 1, []),
    ("folders/*", folders, {"name": "folders"}, 2, [("not JSON", 1)]),
    ("folders", folders, {}, 2, [("not JSON", 1)]),
    ("links", links, {}, 1, []),
    ("links/**/*", links, {"name": "links below"}, 1, []),
    ("nested.jsonl", lines({"row": {"q": {"text": "A?"}, "gold": [{"v": "7"}]}}, {"row": None},
     {"row": {"q": {"text": "B?"}, "gold": []}}), {"columns": NESTED}, 2, [("no question", 2)]),
    ("pieces.jsonl", lines({"passage": "P", "question": "A?", "options": ["x", "y"]}, {"question": "B?", "options": []},
     {"passage": None, "question": None, "options": None}), {"columns": {"question": JOINED["question"]}}, 2,
     [("no question", 3)]),
    ("share.jsonl", lines({"conversations": [{"from": "human", "value": "A?"}, {"from": "gpt", "value": "1"}]},
     {"conversations": []}, {"conversations": "x"}), {"columns": CHAT}, 1, [("no question", 2), ("wrong type", 3)]),
    ("lengths.jsonl", lines(*(sound(length=each) for each in ("12", 12.0, None, 12.5, "x", -3, 1e30))),
     {"columns": {"answer": "answer", "length": "length"}}, 3, [("wrong type", place) for place in (4, 5, 6, 7)]),
    ("labels.jsonl", lines(*(sound(s=each) for each in (True, "False", 0.0, None, "maybe"))),
     {"columns": {"answer": "answer", "solved_by": {"m": "s"}}}, 4, [("wrong type", 5)]),
    ("levels.jsonl", lines(*(sound(level=each) for each in ("5", 5, None, [1]))), {"where": {"level": {"ge": 4}}}, 2,
     [("not comparable", 4)]),
    ("metadata.jsonl", lines(*(sound(metadata=each) for each in ({"a": [1, {"b": None}]}, "{'a': 1}", "plain", 7))),
     {"columns": {"answer": "answer", "metadata": "all"}}, 4, []),
    ("dots.jsonl", lines({"a.b": "A?", "answer": "1"}), {"columns": {"question": "a.b", "answer": "answer"}}, 1, []),
    ("sp ace ü [x].JSONL", SOUND_LINE, {}, 1, []),
    ("nothing.jsonl", b"", {}, 0, []),
    ("a header.csv", b"question,answer\n", {}, 0, []),
    ("an empty array.json", b"[]", {}, 0, []),
    ("an empty gzip.jsonl.gz", gzip.compress(b""), {}, 0, []),
]  # fmt: skip

# Name, content, more of the source, words of the refusal.
REFUSED: list[tuple[str, Content, dict[str, Any], str]] = [
    ("cut.jsonl.gz", gzip.compress(many())[:-2000], {}, r"cut\.jsonl\.gz: cut or damaged .*on_bad_file: skip"),
    ("no gzip.jsonl.gz", SOUND_LINE, {}, "by its content this is JSON; name it .jsonl"),
    ("gzip.jsonl", gzip.compress(SOUND_LINE), {}, "compressed with gzip; add .gz to its name"),
    ("parquet.jsonl", parquet(question=["A?"]), {}, "by its content this is Parquet; name it .parquet"),
    ("json.parquet", SOUND_LINE, {}, "by its content this is JSON; name it .jsonl"),
    ("pointer.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\n", {}, "`git lfs pull`"),
    ("page.json", b"<!DOCTYPE html><html><body>404</body></html>\n", {}, "by its content this is a web page"),
    ("cut.parquet", cut, {}, "cannot be read as Parquet"),
    ("empty.parquet", b"", {}, "cannot be read as Parquet"),
    ("utf-16.jsonl", '{"question": "Q?"}\n'.encode("utf-16"), {}, "set the source's `encoding: utf-16`"),
    ("no header.csv", b"1+1?,2\n2+2?,4\n", {}, r"no column 'answer'; there are 1\+1\?, 2"),
    ("header.csv", b"question,question,answer\na,b,c\n", {}, "the header names a column twice"),
    ("columns.parquet", two_of_a_name, {}, "has two columns 'question'; rename one"),
    ("capitals.jsonl", lines({"Question": "A?", "Answer": "1"}), {}, "no column 'answer'; did you mean 'Answer'"),
    ("a piece.jsonl", SOUND_LINE, {"columns": JOINED}, "no column '(passage|options)'"),
    ("a table.json", json.dumps({"question": ["A?", "B?"], "answer": ["1", "2"]}).encode(), {"max_bad_share": 0},
     "is this a whole table, a list for each column"),
    ("rows inside.json", json.dumps({"data": [SOUND], "version": 1}).encode(), {"columns": {}, "max_bad_share": 0},
     "no column 'question'"),
    ("an image.parquet", parquet(question=[{"bytes": b"\xff", "path": "x.png"}], answer=["1"]), {"max_bad_share": 0},
     r"'question' is an object \(bytes, path\)"),
    ("splits", saved("train", "test"), {}, "a data set with the splits train, test"),
    ("nothing", lambda path: path.mkdir(), {}, "no file of rows here"),
    ("rows.zip", b"PK\x03\x04abc", {}, "not a file of rows; rows are read from"),
]  # fmt: skip


def source(folder: Path, name: str, content: Content, more: dict[str, Any]) -> dict[str, Any]:
    path = folder / name.partition("/")[0]
    if not path.exists():
        path.write_bytes(content) if isinstance(content, bytes) else content(path)
    return {"kind": "files", "path": str(folder / name), "columns": ANSWER, "max_bad_share": 1.0} | more


def checked(tmp_path: Path, *sources: dict[str, Any]) -> list[str]:
    config = validate_config(CurationConfig, {"output": str(tmp_path), "sources": list(sources)}, "odd inputs")
    return check_sources(config.sources, [])


@pytest.mark.parametrize(("name", "content", "more", "rows", "bad"), READ, ids=[case[0] for case in READ])
def test_what_can_be_read_is_and_the_rest_is_put_aside(
    name: str,
    content: Content,
    more: dict[str, Any],
    rows: int,
    bad: list[tuple[str, int | None]],
    tmp_path: Path,
) -> None:
    odd, beside = tmp_path / "odd", tmp_path / "beside"
    odd.mkdir()
    beside.mkdir()
    sources = [source(odd, name, content, more), source(beside, "sound.jsonl", SOUND_LINE, {})]
    assert len(checked(tmp_path, *sources)) == 2
    found, _ = staged(tmp_path, *sources)
    assert len(found) == rows + 1 if rows >= 0 else len(found) > 1000
    aside = [(each["reason"].split(":")[0].split(" (Trunc")[0], each) for each in quarantined(tmp_path)]
    assert [(kind, each.get("line", each.get("row"))) for kind, each in aside] == bad
    assert all(each["file"] for _, each in aside)
    assert not any(str(row[field]).startswith(("{'", "['", "b'")) for row in found for field in ("question", "answer"))


@pytest.mark.parametrize(("name", "content", "more", "words"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_cannot_be_read_is_refused_in_words(
    name: str, content: Content, more: dict[str, Any], words: str, tmp_path: Path
) -> None:
    refused = source(tmp_path, name, content, more)

    def run() -> None:
        checked(tmp_path, refused)
        staged(tmp_path, refused)

    with pytest.raises(S1rayError, match=words):
        run()


def test_odd_inputs_are_one_pool(tmp_path: Path) -> None:
    sources = []
    for number, (name, content, more, _, _) in enumerate(READ):
        folder = tmp_path / str(number)
        folder.mkdir()
        sources.append(source(folder, name, content, more))
    assert len(checked(tmp_path, *sources)) == len(READ)
    found, done = staged(tmp_path, *sources)
    assert len(done.read) == len(READ)
    assert len(quarantined(tmp_path)) == sum(len(bad) for *_, bad in READ)
    assert len(found) > 1000 + sum(rows for *_, rows, _ in READ if rows > 0)


def test_a_pool_of_bad_rows_says_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b"{\n")
    with pytest.raises(ConfigError, match=r"none of them has a row that can be used; 1 rows and files are in .*jsonl"):
        staged(tmp_path, source(tmp_path, "bad.jsonl", b"", {}))
