"""Traces with the columns of s1's sets, and back into training."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from s1ray.cli import app
from s1ray.errors import InputError, MissingError
from s1ray.manifests import digest
from s1ray.schemas import Question, Trace, arrow_schema, question_id, to_table, write_table
from s1ray.storage import write_json
from s1ray.traces.export import export
from s1ray.training.data.conversations import Conversation
from s1ray.training.data.sources import conversations_of, open_source

QUESTIONS = [
    Question(id=question_id("1 + 1?"), question="1 + 1?", answer="2", solution="Add.", source="sums", metadata="{}"),
    Question(id=question_id("2 + 2?"), question="2 + 2?", answer="4", metadata='{"cot_type": "math"}'),
    Question(id=question_id("3 + 3?"), question="3 + 3?"),
]
FIRST = ["solution", "question", "cot_type", "source_type", "metadata"]
COLUMNS = {
    "s1k": [*FIRST, "cot", "thinking_trajectories", "attempt"],
    "s1k-1.1": [
        *FIRST,
        *("gemini_thinking_trajectory", "gemini_attempt", "deepseek_thinking_trajectory", "deepseek_attempt"),
        *("gemini_grade", "gemini_grade_reason", "deepseek_grade", "deepseek_grade_reason"),
    ],
    "rows": arrow_schema(Trace).names,
}


def trace(question: Question, answer: str | None, source: str | None, correct: bool | None) -> Trace:
    return Trace(
        id=f"{question.id}-0",
        question_id=question.id,
        sample=0,
        question=question.question,
        answer=answer,
        answer_source=source,
        thinking=f"Let me see:\n{question.question}",
        attempt=f"“{answer}”",
        teacher="someone",
        thinking_tokens=5,
        attempt_tokens=1,
        finish_reason="stop",
        correct=correct,
        graded_by=None if correct is None else "exact",
    )


TRACES = [
    trace(QUESTIONS[0], "2", "reference", True),
    trace(QUESTIONS[1], "4", "reference", False),
    trace(QUESTIONS[2], "6", "majority 2/3", None),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A complete run's folder."""
    write_table(to_table(QUESTIONS, Question), tmp_path / "questions.parquet")
    write_table(to_table(TRACES, Trace), tmp_path / "run" / "traces.parquet")
    questions = {"path": str(tmp_path / "questions.parquet"), "digest": digest(tmp_path / "questions.parquet")}
    manifest = {"stage": "traces", "status": "complete", "inputs": {"questions": questions}}
    write_json(tmp_path / "run" / "manifest.json", manifest)
    return tmp_path / "run"


def read(file: Path) -> list[dict[str, object]]:
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    rows: list[dict[str, object]] = pq.read_table(file).to_pylist()
    return rows


@pytest.mark.parametrize("layout", COLUMNS)
@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_training_reads_what_was_exported(run: Path, tmp_path: Path, layout: str, ending: str) -> None:
    file = tmp_path / f"out.{ending}"
    assert export(run, layout, file).rows == 3
    assert [list(row) for row in read(file)] == [COLUMNS[layout]] * 3
    found = list(conversations_of(open_source(str(file))))
    for conversation, expected in zip(found, TRACES, strict=True):
        assert isinstance(conversation, Conversation)
        asked, answer = conversation.messages
        assert conversation.id == expected.id
        texts = (asked.content, answer.thinking, answer.content)
        assert texts == (expected.question, expected.thinking, expected.attempt)


@pytest.mark.parametrize("target", ["run/traces.parquet", "run/new.jsonl", "questions.parquet", "linked.parquet"])
def test_neither_the_run_nor_its_questions_are_written_over(run: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "linked.parquet").symlink_to(tmp_path / "questions.parquet")
    before = {file: digest(file) for file in (run / "traces.parquet", tmp_path / "questions.parquet")}
    with pytest.raises(InputError, match="over or into"):
        export(run, "s1k" if target.endswith("parquet") else "rows", tmp_path / target)
    assert {file: digest(file) for file in before} == before
    assert not (run / "new.jsonl").exists()


def test_s1k_has_s1s_types_and_what_the_questions_know(run: Path, tmp_path: Path) -> None:
    exported = export(run, "s1k", tmp_path / "s1k.parquet")
    assert (exported.unknown, exported.lost_questions) == (["cot"], None)
    schema = pq.read_schema(tmp_path / "s1k.parquet")
    types = [pa.null() if name == "cot" else pa.string() for name in COLUMNS["s1k"]]
    types[COLUMNS["s1k"].index("thinking_trajectories")] = pa.list_(pa.string())
    assert [field.type for field in schema] == types
    working, answer, none = read(tmp_path / "s1k.parquet")
    assert (working["solution"], working["source_type"], working["cot_type"]) == ("Add.", "sums", None)
    assert (answer["solution"], answer["cot_type"], answer["metadata"]) == ("4", "math", '{"cot_type": "math"}')
    assert none["solution"] is None, "an answer of the attempts' own is no reference"


def test_s1k_1_1_has_grades(run: Path, tmp_path: Path) -> None:
    exported = export(run, "s1k-1.1", tmp_path / "out.jsonl")
    gemini = [name for name in COLUMNS["s1k-1.1"] if name.startswith("gemini")]
    assert exported.unknown == gemini
    rows = read(tmp_path / "out.jsonl")
    assert [row["deepseek_grade"] for row in rows] == ["Yes", "No", None]
    assert [row["deepseek_grade_reason"] for row in rows] == ["exact", "exact", None]


def test_datasets_reads_an_export(run: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    export(run, "s1k", tmp_path / "s1k.parquet")
    loaded = datasets.Dataset.from_parquet(str(tmp_path / "s1k.parquet"), cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == COLUMNS["s1k"]
    assert loaded[1]["thinking_trajectories"] == [TRACES[1].thinking]


def test_questions_that_are_not_there_any_more_are_told(run: Path, tmp_path: Path) -> None:
    (tmp_path / "questions.parquet").unlink()
    arguments = ["traces", "export", str(run), "--as", "s1k", "-o", str(tmp_path / "out.parquet")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "questions.parquet: the run's questions are not there any more" in result.output
    assert "null, because nobody knows: cot_type, source_type, metadata, cot" in result.output
    assert [row["solution"] for row in read(tmp_path / "out.parquet")] == ["2", "4", None]


def test_traces_of_an_older_version_are_exported(run: Path, tmp_path: Path) -> None:
    table = to_table(TRACES, Trace).drop_columns(["answer_source", "verdict"])
    write_table(table, run / "traces.parquet")
    export(run, "rows", tmp_path / "out.parquet")
    assert [row["answer_source"] for row in read(tmp_path / "out.parquet")] == [None] * 3
    export(run, "s1k", tmp_path / "s1k.jsonl")
    assert read(tmp_path / "s1k.jsonl")[1]["solution"] == "4"


@pytest.mark.parametrize(
    ("layout", "name", "message"),
    [
        ("s2k", "out.parquet", "--as s2k: give one of s1k, s1k-1.1, rows"),
        ("s1k", "out.csv", r"out\.csv: must end in \.parquet or \.jsonl"),
        ("s1k", "a file/out.jsonl", "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused(run: Path, tmp_path: Path, layout: str, name: str, message: str) -> None:
    (tmp_path / "a file").write_text("")
    with pytest.raises(InputError, match=message):
        export(run, layout, tmp_path / name)


def test_only_a_complete_run_is_exported(run: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no run folder"):
        export(tmp_path, "s1k", tmp_path / "out.jsonl")
    write_json(run / "manifest.json", {"stage": "traces", "status": "running"})
    with pytest.raises(InputError, match="holds a running 'traces' run; give a complete one"):
        export(run, "s1k", tmp_path / "out.jsonl")
