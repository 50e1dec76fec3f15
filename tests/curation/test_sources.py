import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from s1ray.config import ConfigError, validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.pipeline import curate, inputs, plan
from s1ray.curation.sources import Source
from s1ray.curation.staging import check_sources, stage
from s1ray.errors import MissingError, UnreachableError
from s1ray.schemas import Question, question_id


def config(**changes: object) -> CurationConfig:
    data = {"output": "unused", "sources": [{"kind": "miniature", "size": 10}]}
    return validate_config(CurationConfig, data | changes, "test")


def source(path: Path, **changes: object) -> dict[str, object]:
    return {"kind": "files", "path": str(path), "columns": {"question": "problem", "solution": "solution"}} | changes


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    path = tmp_path / "pool.jsonl"
    rows = [
        {"problem": "One?", "solution": ["1", "one"], "level": 3, "metadata": "{'year': 1983}", "easy": True},
        {"problem": "Two?", "solution": None, "level": 4, "metadata": '{"year": 1984}', "easy": False},
        {"problem": "Three?", "solution": "3", "level": 5, "metadata": "no dict", "easy": None},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    return path


def test_a_files_name_decides_the_run_and_its_folder_does_not(jsonl: Path, tmp_path: Path) -> None:
    other, moved = tmp_path / "other.jsonl", tmp_path / "elsewhere" / "pool.jsonl"
    moved.parent.mkdir()
    for copy in (other, moved):
        copy.write_bytes(jsonl.read_bytes())

    def run_of(path: Path, leaks: Path = jsonl) -> str:
        settings = {"sources": [source(path)], "decontamination": {"benchmarks": [{"path": str(leaks)}]}}
        return curate.open(config(output=str(tmp_path / "run"), **settings)).digest

    assert run_of(jsonl) == run_of(moved) == run_of(jsonl, moved)
    assert len({run_of(jsonl), run_of(other), run_of(jsonl, other)}) == 3
    assert rows_of(other)[0].source == "other"


def test_every_file_that_is_read_decides_the_run(jsonl: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "mixed"
    folder.mkdir()
    pq.write_table(pa.table({"problem": ["a?"], "solution": ["s"]}), folder / "a.parquet")
    lines = jsonl.rename(folder / "b.jsonl")

    def runs() -> set[str]:
        paths = (folder, folder / "*", [str(folder)])
        found = (
            source(folder, name="pool") | {"path": path if isinstance(path, list) else str(path)} for path in paths
        )
        return {curate.open(config(output=str(tmp_path / "run"), sources=[each])).digest for each in found}

    before = runs()
    assert inputs(config(sources=[source(folder)])) == {
        "sources.0 (mixed)": str(folder / "a.parquet"),
        "sources.0.1 (mixed)": str(lines),
    }
    lines.write_text(lines.read_text().replace("Two?", "2?"))
    assert not before & runs()


def test_tokenizers_and_weights_are_inputs_where_they_are_local(tmp_path: Path) -> None:
    models = {"small": {"kind": "vllm", "engine": {"model": "owner/name", "tokenizer": str(tmp_path)}}}
    found = inputs(config(length={"tokenizer": str(tmp_path)}, difficulty={"kind": "model", "models": models}))
    assert found == {"length.tokenizer": str(tmp_path), "difficulty.small teacher.tokenizer": str(tmp_path)}


def rows_of(path: Path, **changes: object) -> list[Question]:
    (only,) = config(sources=[source(path, **changes)]).sources
    return list(only.rows())


def test_columns_are_mapped_and_metadata_comes_along_where_it_is_asked_for(jsonl: Path) -> None:
    assert {row.metadata for row in rows_of(jsonl)} == {"{}"}
    mapped = {"question": "problem", "solution": "solution", "metadata": "all"}
    rows = rows_of(jsonl, name="pool", columns=mapped)
    assert [row.question for row in rows] == ["One?", "Two?", "Three?"]
    assert [row.solution for row in rows] == ["1", None, "3"], "of a list the first element counts"
    assert rows[0].id == question_id("One?")
    assert rows[0].source == "pool"
    metadata = [json.loads(row.metadata) for row in rows]
    assert metadata[0] == {"level": 3, "year": 1983, "easy": True}
    assert metadata[1]["year"] == 1984
    assert metadata[2]["metadata"] == "no dict"
    named = rows_of(jsonl, columns=mapped | {"metadata": ["level", "metadata.year"]})
    assert [json.loads(row.metadata) for row in named] == [
        {"level": 3, "metadata.year": 1983},
        {"level": 4, "metadata.year": 1984},
        {"level": 5},
    ]


def test_what_later_steps_need_of_the_metadata_comes_along_by_itself(jsonl: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    staged = stage(
        config(sources=[source(jsonl)]).sources,
        tmp_path / "work",
        tmp_path / "quarantine.jsonl",
        needed=["year", "level", "nothing"],
    )
    (metadata,) = (pq.read_table(part).column("metadata").to_pylist() for part in staged.parts)
    assert [json.loads(each) for each in metadata] == [
        {"level": 3, "year": 1983},
        {"level": 4, "year": 1984},
        {"level": 5},
    ]
    rule = {"source": "pool", "metadata": {"year": 1983}}
    assert config(selection={"trusted": [rule]}).needed_metadata == ["answer_kind", "year"]


def test_labels_say_who_solved_it(jsonl: Path) -> None:
    mapped = {"question": "problem", "solved_by": {"small": "easy"}}
    assert [row.solved_by for row in rows_of(jsonl, columns=mapped)] == [["small"], [], None]
    inverse = {"question": "problem", "unsolved_by": {"small": "easy"}}
    assert [row.solved_by for row in rows_of(jsonl, columns=inverse)] == [[], ["small"], None]


def test_pass_rates_say_who_solved_it_how_often(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rates = [(0.25, True), ("0", False), (1, None), (None, True)]
    path.write_text("".join(json.dumps({"question": f"{rate}?", "r": rate, "b": b}) + "\n" for rate, b in rates))
    columns = {"question": "question", "pass_rates": {"small": "r"}}
    rows = rows_of(path, columns=columns)
    assert [row.solved_by for row in rows] == [["small"], [], ["small"], None]
    assert [row.pass_rates for row in rows] == ['{"small": 0.25}', '{"small": 0.0}', '{"small": 1.0}', None]
    rows = rows_of(path, columns=columns | {"solved_by": {"big": "b"}})
    assert [row.solved_by for row in rows] == [["big", "small"], [], None, None]
    assert rows[0].pass_rates == '{"big": 1.0, "small": 0.25}'


@pytest.mark.parametrize(
    ("columns", "cell", "problem"),
    [
        ({"solved_by": {"small": "x"}}, "No", "column 'x' must be true or false"),
        ({"length": "x"}, "many", "column 'x' must be a whole number"),
        ({"pass_rates": {"small": "x"}}, "1.5", "column 'x' must be a share from 0 to 1, not '1.5'"),
        ({"pass_rates": {"small": "x"}}, "many", "column 'x' must be a share from 0 to 1"),
    ],
)
def test_a_cell_that_cannot_be_read_is_named(
    tmp_path: Path, columns: dict[str, object], cell: str, problem: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "a?", "x": cell}) + "\n")
    with pytest.raises(ConfigError, match=problem):
        rows_of(path, columns={"question": "question"} | columns)
    path.write_text('{"question": "a?", "x": NaN}\n')
    (row,) = rows_of(path, columns={"question": "question"} | columns)
    assert (row.length, row.solved_by) == (None, None)


def test_where_and_limit(jsonl: Path) -> None:
    assert [row.question for row in rows_of(jsonl, where={"level": 4})] == ["Two?"]
    with pytest.raises(ConfigError, match="no column 'split'"):
        rows_of(jsonl, where={"split": "train"})


def test_parquet_folders_are_read_in_order(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part in (1, 0):
        pq.write_table(pa.table({"problem": [f"part {part}"], "solution": ["x"]}), tmp_path / f"{part}.parquet")
    assert [row.question for row in rows_of(tmp_path)] == ["part 0", "part 1"]


def test_mistakes_name_the_file_the_line_and_the_column(tmp_path: Path, jsonl: Path) -> None:
    with pytest.raises(MissingError, match="nowhere"):
        rows_of(tmp_path / "nowhere")
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"problem": "a", "solution": "b"}\n{"problem"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken.jsonl: line 2: not JSON"):
        rows_of(broken)
    with pytest.raises(ConfigError, match=r"sources.0: .*pool.jsonl: no column 'probem'; did you mean 'problem'"):
        plan(config(sources=[source(jsonl, columns={"question": "probem", "solution": "solution"})]))
    text = tmp_path / "pool.txt"
    text.write_text("words")
    with pytest.raises(ConfigError, match=r"pool.txt: not a file of rows; rows are read from .parquet, "):
        rows_of(text)
    several = [source(tmp_path / "nowhere"), source(jsonl), source(text)]
    with pytest.raises(ConfigError, match=r"(?s)2 problems.*sources.0: .*nowhere.*sources.2: .*pool.txt.*--root"):
        plan(config(sources=several))
    with pytest.raises(ConfigError, match=r"pool.txt: not a file of rows[^\n]*$"):
        plan(config(sources=several[1:]))


def test_the_plan_looks_at_the_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_text('{"problem": "a?", "solution": "s", "lang": "ZH"}\n{"prob\n')
    (line,) = check_sources(config(sources=[source(path, where={"lang": "EN"})]).sources, [])
    assert line.startswith("source pool: 1 file(s) (1 json lines); ")
    assert "line 2: not JSON" in line
    path.write_text('{"prob\n')
    (line,) = check_sources(config(sources=[source(path)]).sources, [])
    assert "line 1: not JSON" in line
    path.write_text('{"prob\n' * 11)
    with pytest.raises(ConfigError, match=r"line 1: not JSON.*; 11 of 11 rows cannot be used \(11 not JSON\)"):
        check_sources(config(sources=[source(path)]).sources, [])
    many = "".join(json.dumps({"problem": f"{i}?", "solution": "s"}) + "\n" for i in range(200))
    path.write_text(many + '{"problem": "last?", "solution": "s", "late": 1}\n')
    (line,) = check_sources(config(sources=[source(path, where={"late": {"missing": True}})]).sources, [])
    assert line.endswith("; the first rows have no column late")
    folder = tmp_path / "pool"
    folder.mkdir()
    path.rename(folder / "a.jsonl")
    (folder / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match=r"b.parquet: cannot be read as Parquet"):
        check_sources(config(sources=[source(folder)]).sources, [])
    (line,) = check_sources(config(sources=[source(folder, on_bad_file="skip")]).sources, [])
    assert "b.parquet: cannot be read as Parquet" in line


def test_required_fields_must_be_mapped(jsonl: Path) -> None:
    with pytest.raises(ConfigError, match=r"sources.0: columns.answer: not set, but quality.missing_answer is on"):
        plan(config(sources=[source(jsonl)], quality={"missing_answer": True}))


class TwoQuestions(Source):
    """What another package would register."""

    words: list[str]

    def rows(self) -> Iterator[Question]:
        for word in self.words:
            text = f"What is {word}?"
            yield Question(id=question_id(text), question=text, source=self.label)


OWN = f"{__name__}:TwoQuestions"


def test_a_source_of_ones_own_is_one_class(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    data = {"kind": OWN, "words": ["a ring", "a field", "a set"], "limit": 2, "name": "mine"}
    loaded = config(sources=[data])
    dumped = loaded.model_dump(mode="json")["sources"]
    assert dumped == [data | {"max_bad_share": 0.01}], "a manifest has all of its fields"
    assert check_sources(loaded.sources, []) == ["source mine"]
    (part,) = stage(loaded.sources, tmp_path / "work", tmp_path / "quarantine.jsonl").parts
    assert pq.read_table(part).column("question").to_pylist() == ["What is a ring?", "What is a field?"]
    assert set(pq.read_table(part).column("source").to_pylist()) == {"mine"}


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"kind": "filse", "path": "a"}, "no source is called 'filse'; did you mean 'files'.*hub, .*miniature"),
        ({"path": "a"}, "needs `kind`: one of files, hub, .*miniature"),
        ({"kind": "files", "path": "a", "pth": "b"}, r"sources.0.pth: unknown field; the fields here are .*where"),
        ({"kind": OWN}, r"sources.0.words: required, but not given"),
    ],
)
def test_a_source_that_cannot_be_is_refused_with_what_there_is(source: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        config(sources=[source])


def test_the_plan_says_what_would_run_and_warns(jsonl: Path) -> None:
    lines = plan(config(sources=[source(jsonl)]))
    assert any("nothing is decontaminated" in line for line in lines)
    assert any("domains: a row that has none" in line for line in lines)
    open_domains = config(sources=[source(jsonl)], domains={"otherwise": "any"})
    assert not any("is dropped" in line for line in plan(open_domains))
    small = {"kind": "vllm", "engine": {"model": "some/model", "device": "cpu"}, "max_tokens": 100}
    difficulty = {"kind": "model", "models": {"small": small}, "samples": 2}
    lines = plan(config(sources=[source(jsonl)], difficulty=difficulty, cap_per_domain=7))
    asked = "difficulty: small (some/model) answers at most"
    tokens = "for every 1,000 rows at most 200,000 tokens generated"
    assert f"{asked} 7 rows of each domain, 2 sample(s) each: {tokens}" in lines
    lines = plan(config(sources=[source(jsonl, limit=3)], difficulty=difficulty))
    assert f"{asked} 3 rows, 2 sample(s) each: at most 600 tokens generated" in lines


def test_a_missing_difficulty_model_is_found_before_anything_starts(jsonl: Path, tmp_path: Path) -> None:
    engine = {"model": str(tmp_path / "nowhere")}
    difficulty = {"kind": "model", "models": {"small": {"kind": "vllm", "engine": engine}}}
    with pytest.raises(ConfigError, match="no such folder; train a model first"):
        plan(config(sources=[source(jsonl)], difficulty=difficulty))


def test_hub_data_sets_go_through_the_same_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(path: str, subset: str | None, *, split: str, revision: str, streaming: bool) -> object:
        assert (path, subset, split, revision, streaming) == ("simplescaling/openaimath", None, "train", "abc", True)
        return iter([{"problem": "One?", "solution": "1", "subject": "Algebra", "level": 2}])

    # The library itself takes seconds to import.
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    columns = {"question": "problem", "solution": "solution", "domain": "subject", "source": "subject"}
    hub = {"kind": "hub", "path": "simplescaling/openaimath", "revision": "abc", "columns": columns}
    (row,) = config(sources=[hub]).sources[0].rows()
    assert (row.source, row.domain) == ("simplescaling/openaimath/Algebra", "Algebra")
    (row,) = config(sources=[hub | {"where": {"level": {"ge": 2}}}]).sources[0].rows()
    with pytest.raises(ConfigError, match="no column 'lvel'; did you mean 'level'"):
        list(config(sources=[hub | {"where": {"lvel": {"missing": True}}}]).sources[0].rows())


def test_an_unreachable_hub_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: object, **__: object) -> object:
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(UnreachableError, match=r"export it to Parquet and use a source of kind `files`"):
        list(config(sources=[{"kind": "hub", "path": "a/b"}]).sources[0].rows())
