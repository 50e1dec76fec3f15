from __future__ import annotations

import fcntl
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from s1ray.cli import app
from s1ray.errors import InputError, MissingError, S1rayError
from s1ray.grading import Grade, grade
from s1ray.grading import rows as reading
from s1ray.grading.files import grade_file, output_of, quarantine_of
from s1ray.grading.rows import Job
from s1ray.grading.summary import Summary
from s1ray.manifests import RunError
from s1ray.thinking.format import ThinkingFormat

ROWS = [
    '{"gold": "7", "response": "so \\\\boxed{7}", "x": 1.50, "é": "é"}',
    '{"gold": 8, "response": "9"}',
    "no json",
    "",
    '{"gold": null, "response": "8"}',
    '{"gold": "7", "response": null}',
    "[1]",
    '{"response": "8"}',
    '{"gold": ".", "response": "8"}',
    '{"gold": ["7"], "response": "7"}',
    '{"gold": "1/2", "response": "\\ud800 \\\\boxed{0.5}"}',
]
PROBLEMS = {
    3: "no JSON",
    6: "column 'response' is null",
    7: "a JSON list, not an object",
    8: "no column 'gold'",
    9: "the reference answer '.' is empty",
    10: "column 'gold' is a list",
}
UNWELL: set[str] = set()
"""Texts on which `unwell` fails."""


def unwell(gold: str, text: str, *, kind: str | None = None) -> Grade:
    if text in UNWELL:
        raise KeyError(text)
    return grade(gold, text, kind=kind)


def lines(path: Path, rows: list[str] = ROWS) -> Path:
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def graded(path: Path) -> list[dict[str, object]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in data.splitlines()]


def run(source: Path, **changes: object) -> tuple[Summary, Path]:
    output = output_of(source)
    return grade_file(Job(source, output, **changes), 1), output  # type: ignore[arg-type]


def test_rows_stay_as_they_are_and_get_a_verdict(tmp_path: Path) -> None:
    summary, output = run(lines(tmp_path / "a.jsonl"))
    assert output == tmp_path / "a.graded.jsonl"
    written = output.read_text(encoding="utf-8").splitlines()
    assert written[0].startswith(ROWS[0][:-1]), "to the last digit"
    found = [(row["verdict"], row["extracted"]) for row in graded(output)]
    assert found == [("correct", "7"), ("incorrect", "9"), ("no gold", None), ("correct", "0.5")]
    assert (summary.rows, summary.quarantined, summary.lines) == (4, 6, 11)
    assert summary.verdicts == {"correct": 2, "incorrect": 1, "no gold": 1}
    assert sum(summary.rules.values()) == 4


def test_numbers_and_booleans_are_read_as_their_text(tmp_path: Path) -> None:
    rows = ['{"gold": 7, "response": 7.0}', '{"gold": true, "response": false}', '{"gold": "yes", "response": true}']
    _, output = run(lines(tmp_path / "a.jsonl", rows))
    assert [row["verdict"] for row in graded(output)] == ["correct", "incorrect", "correct"]
    source = tmp_path / "b.parquet"
    pq.write_table(pa.table({"gold": [7.0, 8.0], "response": [7.0, float("nan")]}), source)
    _, output = run(source)
    assert pq.read_table(output)["verdict"].to_pylist() == ["correct"]
    assert graded(quarantine_of(output))[0]["problem"] == "column 'response' is null"


def test_an_unknown_kind_names_its_column_and_the_option(tmp_path: Path) -> None:
    rows = ['{"gold": "7", "response": "7", "level": "number"}', '{"gold": "7", "response": "7", "level": "proof"}']
    summary, output = run(lines(tmp_path / "a.jsonl", rows), kind="level")
    assert (summary.rows, summary.quarantined) == (1, 1)
    problem = "column 'level' (--kind) is 'proof'; it must be one of number, choice, math, text"
    assert graded(quarantine_of(output))[0]["problem"] == problem


def test_what_cannot_be_graded_is_set_aside_with_file_and_line(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl")
    _, output = run(source)
    aside = graded(quarantine_of(output))
    assert {row["file"] for row in aside} == {str(source)}
    assert [row["line"] for row in aside] == list(PROBLEMS)
    for row, problem in zip(aside, PROBLEMS.values(), strict=True):
        assert str(row["problem"]).startswith(problem)
    run(lines(source, ROWS[:2]))
    assert not quarantine_of(output).exists()


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 400), end=st.sampled_from(["", "\n", "\n\n"]), bom=st.booleans())
def test_parts_of_any_size_give_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, size: int, end: str, bom: bool
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    source = folder / "a.jsonl"
    source.write_text("\n".join(ROWS) + end, encoding="utf-8-sig" if bom else "utf-8")
    whole, output = run(source)
    expected = output.read_bytes(), quarantine_of(output).read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PART_BYTES", size)
        parts, output = run(source)
    assert (output.read_bytes(), quarantine_of(output).read_bytes()) == expected
    assert parts == whole


def test_a_line_longer_than_any_row_is_set_aside_without_being_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LINE_BYTES", 60)
    source = lines(tmp_path / "a.jsonl", [ROWS[1], json.dumps({"gold": "7", "response": "7" * 200}), ROWS[1]])
    summary, output = run(source)
    assert (summary.rows, summary.lines) == (2, 3)
    (aside,) = graded(quarantine_of(output))
    assert (aside["line"], aside["problem"]) == (2, "the line has 230 bytes, more than 60")


def test_a_run_that_broke_off_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PART_BYTES", 1)
    source = lines(tmp_path / "a.jsonl", [json.dumps({"gold": "1", "response": str(i)}) for i in range(6)])
    grader = f"{__name__}:unwell"
    monkeypatch.setattr(f"{__name__}.UNWELL", {"4"})
    with pytest.raises(KeyError):
        run(source, grader=grader)
    assert not output_of(source).exists()
    # What is done is not graded again: these would fail now.
    monkeypatch.setattr(f"{__name__}.UNWELL", {"0", "1", "2", "3"})
    _, output = run(source, grader=grader)
    assert [row["verdict"] for row in graded(output)] == ["incorrect", "correct", *["incorrect"] * 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.graded.jsonl", "a.jsonl"]


def test_other_columns_or_another_source_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PART_BYTES", 1)
    source = lines(tmp_path / "a.jsonl", [json.dumps({"gold": "1", "response": str(i)}) for i in range(3)])
    monkeypatch.setattr(f"{__name__}.UNWELL", {"2"})
    with pytest.raises(KeyError):
        run(source, grader=f"{__name__}:unwell")
    lines(source, [json.dumps({"gold": "5", "response": str(i)}) for i in range(3, 7)])
    _, output = run(source, grader=f"{__name__}:unwell")
    assert [row["verdict"] for row in graded(output)] == ["incorrect", "incorrect", "correct", "incorrect"]


def test_two_runs_do_not_write_the_same_output(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl")
    folder = tmp_path / ".a.graded.jsonl.parts"
    folder.mkdir()
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process is writing it"):
            run(source)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.ndjson", "a.JSON"])
def test_other_names_of_json_lines(tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    data = "\n".join(ROWS).encode()
    source.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    summary, output = run(source)
    assert (len(graded(output)), summary.quarantined) == (4, 6)


def test_parquet_keeps_its_columns_and_types(tmp_path: Path) -> None:
    source = tmp_path / "a.parquet"
    table = pa.table(
        {
            "gold": pa.array(["7", None, "9", "x"], pa.large_string()),
            "n": pa.array([1, 2, 3, None], pa.int16()),
            "response": pa.array(["7", "8", None, "y"]).dictionary_encode(),
        }
    )
    pq.write_table(table, source, row_group_size=2)
    summary, output = run(source)
    written = pq.read_table(output)
    assert written.select(table.column_names).equals(table.take([0, 1, 3]))
    assert written["verdict"].to_pylist() == ["correct", "no gold", "incorrect"]
    assert [row["line"] for row in graded(quarantine_of(output))] == [3]
    assert (summary.rows, summary.lines) == (3, 4)


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_graded_file_is_graded_anew(tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.table({"gold": ["7", "8"], "response": ["7", "7"]}), source)
    else:
        lines(source, ROWS[:2])
    _, once = run(source)
    again = tmp_path / f"again{source.suffix}"
    grade_file(Job(once, again), 1)
    if name.endswith("parquet"):
        assert pq.read_table(again).equals(pq.read_table(once))
    else:
        assert graded(again) == graded(once)


def test_thinking_is_split_off_and_warned_of(tmp_path: Path) -> None:
    rows = [
        {"gold": "7", "response": "<think>\\boxed{7}</think>\n\\boxed{8}"},
        {"gold": "7", "response": "<think>\\boxed{7} and then"},
        {"gold": "7", "response": "hm</think>7"},
    ]
    source = lines(tmp_path / "a.jsonl", [json.dumps(row) for row in rows])
    summary, output = run(source, thinking_format=ThinkingFormat.preset("qwen3"))
    assert [row["verdict"] for row in graded(output)] == ["incorrect", "unparsable", "correct"]
    assert summary.delimited == 0
    summary, _ = run(source)
    assert summary.delimited == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"answer": "7", "response": "7"}', r"no column 'gold'; name it with --gold. It has answer, response"),
        ('{"gold": "7", "response": "7", "verdict": 1}', "has a column 'verdict' of its own"),
        ("no json\n[1]", "no line of it is a JSON object"),
        ("", "no line of it is a JSON object"),
        ('{"gold": [1], "response": "7"}', r"no row can be graded; .*a.jsonl: line 1: column 'gold' is a list"),
    ],
)
def test_a_file_that_is_of_no_use_is_refused_in_words(tmp_path: Path, content: str, message: str) -> None:
    source = lines(tmp_path / "a.jsonl", [content])
    with pytest.raises(InputError, match=message):
        run(source)
    assert not output_of(source).exists()


def test_places_and_names_that_cannot_be(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl")
    with pytest.raises(MissingError, match="no such file"):
        run(tmp_path / "b.jsonl")
    with pytest.raises(InputError, match=r"must end in \.parquet"):
        run(lines(tmp_path / "a.csv"))
    with pytest.raises(InputError, match="rows keep their format"):
        grade_file(Job(source, tmp_path / "a.parquet"))
    with pytest.raises(InputError, match="over or into"):
        grade_file(Job(source, source))
    with pytest.raises(InputError, match="over or into"):
        grade_file(Job(lines(tmp_path / "b.jsonl.quarantine.jsonl"), tmp_path / "b.jsonl"))
    (tmp_path / "d.jsonl").mkdir()
    with pytest.raises(RunError, match="is a folder"):
        grade_file(Job(source, tmp_path / "d.jsonl"))


def test_a_run_folder_gets_no_file_but_one_beside_its_source(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text('{"stage": "traces"}')
    own = lines(tmp_path / "run" / "own.jsonl")
    with pytest.raises(InputError, match="lies in the run folder"):
        grade_file(Job(lines(tmp_path / "a.jsonl"), own))
    run(own)
    assert output_of(own).exists()


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.parquet"])
def test_a_damaged_file_is_refused_in_words(tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    if name.endswith("gz"):
        source.write_bytes(gzip.compress("\n".join(ROWS * 2000).encode())[:-50])
    else:
        pq.write_table(pa.table({"gold": ["7"] * 999, "response": [str(i) for i in range(999)]}), source)
        data = bytearray(source.read_bytes())
        data[4:2000] = bytes(1996)
        source.write_bytes(data)
    with pytest.raises(S1rayError, match=r"cannot be read"):
        run(source)
    assert not output_of(source).exists()


def test_a_column_that_is_there_twice_is_refused_in_words(tmp_path: Path) -> None:
    source = tmp_path / "a.parquet"
    pq.write_table(pa.table([["5"], ["5"], ["6"]], names=["gold", "response", "gold"]), source)
    with pytest.raises(InputError, match="has two columns 'gold'"):
        grade_file(Job(source, output_of(source)))


def test_a_line_in_utf_16_is_set_aside(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    row = '{"gold": "5", "response": "5"}\n'
    source.write_bytes(row.encode() + row.encode("utf-16-le"))
    summary = grade_file(Job(source, output_of(source)), workers=1)
    assert (summary.rows, summary.quarantined) == (1, 2)
    assert json.loads(output_of(source).read_text(encoding="utf-8"))["verdict"] == "correct"


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_disk_without_room_is_told_in_words_and_nothing_is_half_written(tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    if name == "a.jsonl":
        lines(source, ['{"gold": "5", "response": "\\\\boxed{5}"}'] * 500)
    else:
        pq.write_table(pa.table({"gold": ["5"] * 4000, "response": [str(k) for k in range(4000)]}), source)
    # No file may become larger: as on a full disk, writing fails.
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)); "
        "from s1ray.cli import app; app(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "grade", str(source), "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode > 0
    assert "cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not output_of(source).exists()


def test_the_command_prints_verdicts_and_rules_and_ends_well(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl")
    result = CliRunner().invoke(app, ["grade", str(source), "--workers", "2", "-o", str(tmp_path / "b.jsonl")])
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    assert "4 rows, 6 quarantined" in text
    assert "correct 2 50.00%" in text
    assert "6 rows could not be graded" in text
    assert len(graded(tmp_path / "b.jsonl")) == 4
    refused = CliRunner().invoke(app, ["grade", str(source), "--kind", "level"])
    assert refused.exit_code == 2
    assert "no column 'level'; name it with --kind" in " ".join(refused.output.split())
