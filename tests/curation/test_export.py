"""The questions of a run as files and data sets of others."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from s1ray.cli import app
from s1ray.config import ConfigError
from s1ray.curation.card import plain
from s1ray.curation.export import export
from s1ray.errors import InputError, MissingError
from s1ray.manifests import digest
from s1ray.schemas import Question, arrow_schema, read_table, to_table, write_table
from tests.support.curated import CHOSEN, CHOSEN_ROWS, SCRIPT, curated

S1K = ["solution", "question", "cot_type", "source_type", "metadata", "cot", "thinking_trajectories", "attempt"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return curated(tmp_path)


def test_parquet_and_json_lines_have_the_questions(run: Path, tmp_path: Path) -> None:
    expected = read_table(run / "questions.parquet", Question).to_pylist()
    assert export(run, "parquet", tmp_path / "a.parquet").rows == 2
    assert read_table(tmp_path / "a.parquet", Question).to_pylist() == expected
    assert export(run, "jsonl", tmp_path / "new" / "a.jsonl").unknown == ["solved_by", "pass_rates"]
    assert [json.loads(line) for line in (tmp_path / "new" / "a.jsonl").read_text().split("\n")[:-1]] == expected


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "folder"])
def test_s1k_has_s1s_columns_and_null_for_what_is_unknown(run: Path, tmp_path: Path, name: str) -> None:
    exported = export(run, "s1k", tmp_path / name)
    assert exported.unknown == ["cot", "thinking_trajectories", "attempt"]
    if name == "a.jsonl":
        rows = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
    else:
        rows = pq.read_table(
            tmp_path / (name if name == "a.parquet" else "folder/data/train-00000.parquet")
        ).to_pylist()
    assert [list(row) for row in rows] == [S1K, S1K]
    first = {"solution": "Add.", "question": CHOSEN, "cot_type": "math", "source_type": "pool|a"}
    assert {name: rows[0][name] for name in first} == first
    # There is no working, so the answer stands for it.
    assert (rows[1]["solution"], rows[1]["cot_type"]) == ("1", None)


@pytest.mark.parametrize("kind", ["datasets", "s1k"])
def test_load_dataset_reads_the_folder(run: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset

    export(run, kind, tmp_path / "my.set")
    loaded = load_dataset(str(tmp_path / "my.set"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert loaded["train"]["question"][:] == [CHOSEN, SCRIPT]
    assert loaded["train"].column_names == (S1K if kind == "s1k" else arrow_schema(Question).names)


def test_a_large_data_set_has_several_files(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s1ray.curation.export.GROUP_ROWS", 1)
    monkeypatch.setattr("s1ray.curation.export.SHARD_ROWS", 1)
    assert export(run, "datasets", tmp_path / "set").rows == 2
    files = sorted((tmp_path / "set" / "data").iterdir())
    assert [file.name for file in files] == ["train-00000.parquet", "train-00001.parquet"]
    assert [pq.read_table(file)["question"].to_pylist() for file in files] == [[CHOSEN], [SCRIPT]]


def test_the_card_says_where_the_questions_come_from_and_names_no_file(run: Path, tmp_path: Path) -> None:
    export(run, "datasets", tmp_path / "set")
    header, card = (tmp_path / "set" / "README.md").read_text().removeprefix("---\n").split("---\n", 1)
    assert yaml.safe_load(header)["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    for line in (
        r"| 0 \(pool\) | 16 | 1 | 6 |",
        "| quality | 4 | 4 missing solution, 1 too long |",
        "| seed | 0 |",
        "| decontamination | against bench; rows are dropped by the tiers whole, letters |",
        "| last look for benchmark questions | against bench by the tiers letters, whole: nothing was found |",
        r"| other\</td\> | 1 |",
    ):
        assert line in card
    assert "s1ray 0.1.0" in card
    assert "/secret" not in card
    assert str(tmp_path) not in card


def test_no_name_breaks_a_table_of_the_card() -> None:
    assert plain("a | b\n---\n# <script> `x`\0") == r"a \| b --- \# \<script\> \`x\`␀"


@pytest.mark.parametrize("target", ["run/questions.parquet", "run/new.parquet", "pool.parquet", "linked.parquet"])
def test_neither_the_run_nor_its_inputs_are_written_over(run: Path, tmp_path: Path, target: str) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    (tmp_path / "pool.jsonl").rename(tmp_path / "pool.parquet")
    manifest["inputs"]["sources.0 (pool)"]["path"] = str(tmp_path / "pool.parquet")
    (run / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "linked.parquet").symlink_to(run / "questions.parquet")
    before = digest(run), digest(tmp_path / "pool.parquet")
    with pytest.raises(InputError, match="over or into"):
        export(run, "parquet", tmp_path / target)
    assert (digest(run), digest(tmp_path / "pool.parquet")) == before


def test_a_folder_that_holds_something_stays(run: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("mine")
    for target in (tmp_path / "set", tmp_path, tmp_path / "pool.jsonl" / ".."):
        with pytest.raises(InputError, match="holds something"):
            export(run, "datasets", target)
    assert (tmp_path / "set" / "mine.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert export(run, "datasets", tmp_path / "empty").rows == 2


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("csv", "a.csv", "give one of parquet, jsonl, datasets, s1k"),
        ("parquet", "a.jsonl", r"as parquet it must end in \.parquet"),
        ("jsonl", "a", r"as jsonl it must end in \.jsonl"),
        ("datasets", "a.parquet", "as datasets it must be a folder"),
    ],
)
def test_a_name_that_does_not_fit_is_refused(run: Path, tmp_path: Path, kind: str, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        export(run, kind, tmp_path / name)


def test_a_failing_export_leaves_nothing(run: Path, tmp_path: Path) -> None:
    (run / "questions.parquet").write_bytes(b"PAR1")
    for kind, name in (("datasets", "set"), ("parquet", "a.parquet")):
        with pytest.raises(InputError, match="damaged"):
            export(run, kind, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.jsonl", "pool.jsonl", "run"]
    with pytest.raises(MissingError, match="no run folder"):
        export(tmp_path / "nothing", "jsonl", tmp_path / "a.jsonl")


ASKED = "What is the sum of all of the primes that are below nine?"
LEAK = {"id": "1f" * 8, "question": f"Please tell: {ASKED}", "source": "pool|a", "domain": "algebra", "length": 3}


@pytest.fixture
def leaking(run: Path, tmp_path: Path) -> Path:
    """A run that holds a question which `new.jsonl` asks, too."""
    write_table(to_table([*CHOSEN_ROWS, LEAK], Question), run / "questions.parquet")
    (tmp_path / "new.jsonl").write_text(json.dumps({"problem": ASKED}) + "\n")
    return run


@pytest.mark.parametrize(("kind", "name"), [("jsonl", "a.jsonl"), ("datasets", "set")])
def test_an_export_with_benchmark_questions_is_refused(leaking: Path, tmp_path: Path, kind: str, name: str) -> None:
    assert export(leaking, kind, tmp_path / "before" / name).rows == 3
    with pytest.raises(
        InputError, match=r"1 of 3 rows hold benchmark questions: 1f1f\w+ \(new/0\); nothing was written"
    ):
        export(leaking, kind, tmp_path / name, benchmarks=[f"{tmp_path}/new.jsonl:problem"])
    assert not (tmp_path / name).exists()


def test_benchmark_questions_are_left_out_and_the_card_says_so(leaking: Path, tmp_path: Path) -> None:
    further = [f"{tmp_path}/new.jsonl:problem"]
    exported = export(leaking, "s1k", tmp_path / "set", benchmarks=further, drop_leaks=True)
    assert (exported.rows, exported.leaks) == (2, 1)
    assert pq.read_table(tmp_path / "set" / "data")["question"].to_pylist() == [CHOSEN, SCRIPT]
    card = (tmp_path / "set" / "README.md").read_text()
    assert "| against bench, new by the tiers letters, whole: 1 rows were left out |" in card
    assert "# 2 questions" in card


@pytest.mark.parametrize(("kind", "name"), [("datasets", "set"), ("jsonl", "set.jsonl")])
def test_an_export_of_no_row_is_refused(run: Path, tmp_path: Path, kind: str, name: str) -> None:
    benchmark = tmp_path / "benchmark.jsonl"
    export(run, "jsonl", benchmark)
    before = {*tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"no row would be exported \(.*rows were left out\); nothing was written"):
        export(run, kind, tmp_path / name, benchmarks=[str(benchmark)], drop_leaks=True)
    assert {*tmp_path.iterdir()} == before


def test_a_name_that_no_file_can_have_is_refused(run: Path, tmp_path: Path) -> None:
    for kind, ending in (("parquet", ".parquet"), ("datasets", "")):
        with pytest.raises(InputError, match="cannot be written: File name too long"):
            export(run, kind, tmp_path / ("x" * 300 + ending))


def test_a_benchmark_that_has_been_mended_is_looked_for(leaking: Path, tmp_path: Path) -> None:
    (tmp_path / "bench.jsonl").write_text(json.dumps({"question": ASKED}) + "\n")
    with pytest.raises(InputError, match=r"\(bench/0\)"):
        export(leaking, "jsonl", tmp_path / "a.jsonl")
    (tmp_path / "bench.jsonl").unlink()
    with pytest.raises(MissingError, match="put the file back, or say --unchecked"):
        export(leaking, "jsonl", tmp_path / "a.jsonl")
    exported = export(leaking, "datasets", tmp_path / "set", unchecked=True)
    assert (exported.rows, exported.checked) == (3, "not made, as was asked")
    assert "not made, as was asked" in (tmp_path / "set" / "README.md").read_text()
    with pytest.raises(InputError, match="goes with neither"):
        export(leaking, "jsonl", tmp_path / "a.jsonl", unchecked=True, drop_leaks=True)


def test_a_benchmark_without_the_column_says_how_to_name_it(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.jsonl"
    file.write_text(json.dumps({"problem": ASKED}) + "\n")
    with pytest.raises(ConfigError, match=r"no column 'question'; .*--benchmark .*other\.jsonl:COLUMN"):
        export(run, "jsonl", tmp_path / "a.jsonl", benchmarks=[str(file)])
    with pytest.raises(ConfigError, match=r"no column 'problm'; did you mean 'problem'.*other\.jsonl:COLUMN"):
        export(run, "jsonl", tmp_path / "a.jsonl", benchmarks=[f"{file}:problm"])


def test_relative_paths_of_the_run_start_from_the_root(
    leaking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = json.loads((leaking / "manifest.json").read_text())
    manifest["inputs"]["benchmarks.0 (bench)"]["path"] = "bench.jsonl"
    (leaking / "manifest.json").write_text(json.dumps(manifest))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with pytest.raises(MissingError, match=r"put the file back in .*elsewhere, or give the run's --root"):
        export(leaking, "jsonl", tmp_path / "a.jsonl")
    command = ["curate", "export", leaking.name, "--as", "jsonl", "-o", "a.jsonl", "--root"]
    assert "no such folder" in CliRunner().invoke(app, [*command, "nowhere"]).output
    result = CliRunner().invoke(app, [*command, str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a.jsonl").is_file()


def test_a_run_whose_tiers_drop_nothing_says_so(leaking: Path, tmp_path: Path) -> None:
    manifest = json.loads((leaking / "manifest.json").read_text())
    manifest["config"]["decontamination"]["drop"] = []
    (leaking / "manifest.json").write_text(json.dumps(manifest))
    exported = export(leaking, "jsonl", tmp_path / "a.jsonl", benchmarks=[f"{tmp_path}/new.jsonl:problem"])
    assert (exported.rows, exported.checked) == (3, "not made: no tier drops")


def test_the_command(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["curate", "export", str(run), "--as", "s1k", "-o", str(tmp_path / "a.jsonl")])
    assert result.exit_code == 0, result.output
    assert "2 rows as s1k" in result.output
    assert "last look for benchmark questions: against bench by the tiers letters, whole: nothing" in result.output
    assert "null, because nobody knows: cot, thinking_trajectories, attempt" in result.output
