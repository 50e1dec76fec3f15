from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import JsonValue

from s1ray.config import validate_config
from s1ray.errors import InputError
from s1ray.generation.base import request_seed
from s1ray.grading import Grade
from s1ray.schemas import Question, Trace, arrow_schema, question_id, read_table, to_table, write_table
from s1ray.traces import pipeline
from s1ray.traces.config import TracesConfig
from s1ray.traces.ledger import Ledger, Writer
from s1ray.traces.pipeline import finish, plan


def config(**changes: JsonValue) -> TracesConfig:
    data: dict[str, JsonValue] = {"output": "unused", "questions": "unused.parquet", "tokenizer": "unused"}
    return validate_config(TracesConfig, data | {"teacher": {"kind": "procedural"}} | changes, "test")


def question(text: str = "What is 2 + 2?", answer: str = "4") -> Question:
    return Question(id=question_id(text), question=text, answer=answer, domain="sums")


@pytest.fixture
def student_tokenizer(tmp_path: Path) -> str:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    folder = tmp_path / "student"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


def written(**changes: JsonValue) -> pa.Table:
    """One row as a shard has it."""
    row: dict[str, JsonValue] = {"id": "q-0", "question_id": "q", "sample": 0, "question": "What is 2 + 2?"}
    row |= {"answer": "4", "domain": "sums", "metadata": "{}", "thinking": "two and two", "attempt": "Answer: 4"}
    row |= {"finish_reason": "stop", "error": None} | changes
    schema = pa.schema([(name, pa.int64() if name == "sample" else pa.string()) for name in row])
    return pa.Table.from_pylist([row], schema=schema)


def test_traces_are_counted_in_the_students_tokens_and_graded(student_tokenizer: str) -> None:
    (trace,) = finish(written(), config(tokenizer=student_tokenizer)).to_pylist()
    assert (trace["thinking_tokens"], trace["attempt_tokens"]) == (3, 3)
    assert (trace["correct"], trace["graded_by"], trace["reason"]) == (True, "exact", None)
    assert trace.keys() == {*arrow_schema(Trace).names, "error", "reason"}
    (trace,) = finish(written(answer=None), config(tokenizer=student_tokenizer)).to_pylist()
    assert trace["correct"] is None


def test_rows_say_how_they_were_sampled_and_what_they_used(student_tokenizer: str, tmp_path: Path) -> None:
    usage = {"prompt_tokens": 9, "cached_tokens": 4, "completion_tokens": 7, "reasoning_tokens": None}
    with contextlib.closing(Writer(tmp_path)) as writer:
        fields: dict[str, object] = {"thinking": "two and two", "attempt": "4", "finish_reason": "stop", "usage": usage}
        writer.add("answered", "q-0", call=None, raw_finish_reason="end", model_version="m-0528", **fields)
    ledger = Ledger(tmp_path)
    ledger.read()
    asks = written().drop_columns(["thinking", "attempt", "finish_reason", "error"])
    asks = pa.concat_tables([asks, asks.set_column(0, "id", pa.array(["q-1"]))])
    place = ledger.answers["q-0"]
    for name in place._fields:
        asks = asks.append_column(name, pa.array([getattr(place, name), None]))
    asks = asks.append_column("error", pa.array([None, "503"]))
    teacher: dict[str, JsonValue] = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    settings = config(tokenizer=student_tokenizer, teacher=teacher | {"temperature": 0.7})
    answered, failed = finish(pipeline.answered(asks, tmp_path), settings).to_pylist()
    assert (answered["prompt_tokens"], answered["cached_tokens"], answered["completion_tokens"]) == (9, 4, 7)
    assert (answered["model_version"], answered["verdict"], answered["reason"]) == ("m-0528", "correct", None)
    sampling = json.loads(answered["sampling"])
    assert (sampling["temperature"], sampling["seed"]) == (0.7, request_seed(settings.seed, "q-0"))
    assert (failed["thinking"], failed["completion_tokens"], failed["reason"]) == ("", None, "request failed")


def test_files_of_older_versions_read(tmp_path: Path) -> None:
    new = ("verdict", "sampling", "model_version", "prompt_tokens", "cached_tokens", "completion_tokens")
    texts = {"thinking": "a", "attempt": "b", "teacher": "t", "finish_reason": "stop", "question": "c"}
    row = {"id": "q-0", "question_id": "q", "sample": 0, "thinking_tokens": 1, "attempt_tokens": 1, **texts}
    write_table(to_table([row], Trace).drop_columns(list(new)), tmp_path / "traces.parquet")
    (found,) = read_table(tmp_path / "traces.parquet", Trace).to_pylist()
    assert [found[name] for name in new] == [None] * len(new)


def test_the_students_tokenizer_is_an_input_where_it_is_local(student_tokenizer: str) -> None:
    assert pipeline.inputs(config(tokenizer=student_tokenizer))["tokenizer"] == student_tokenizer
    assert "tokenizer" not in pipeline.inputs(config(tokenizer="owner/name"))


def strict(gold: str, text: str, *, kind: str | None = None) -> Grade:
    return Grade("correct" if text == gold else "incorrect", text, graded_by="strict")


def test_a_grader_of_ones_own_grades_the_attempts(student_tokenizer: str) -> None:
    settings = config(tokenizer=student_tokenizer, grader=f"{__name__}:strict", wrong="drop")
    (trace,) = finish(written(), settings).to_pylist()
    assert (trace["correct"], trace["graded_by"], trace["reason"]) == (False, "strict", "wrong")


def undecided(gold: str, text: str, *, kind: str | None = None) -> Grade:
    return Grade("undecided", text, graded_by="strict")


def test_what_nobody_can_decide_is_not_dropped_as_wrong(student_tokenizer: str) -> None:
    settings = config(tokenizer=student_tokenizer, grader=f"{__name__}:undecided", wrong="drop")
    (trace,) = finish(written(), settings).to_pylist()
    assert (trace["correct"], trace["verdict"], trace["reason"]) == (None, "undecided", None)


def refusing(gold: str, text: str, *, kind: str | None = None) -> Grade:
    raise InputError(f"{gold!r} is no proof")


def test_what_a_grader_refuses_is_kept_ungraded(student_tokenizer: str) -> None:
    settings = config(tokenizer=student_tokenizer, grader=f"{__name__}:refusing", wrong="drop")
    (trace,) = finish(written(), settings).to_pylist()
    assert (trace["correct"], trace["graded_by"], trace["reason"]) == (None, None, None)


@pytest.mark.parametrize(
    ("row", "setting", "reason"),
    [
        ({}, {}, None),
        ({"attempt": "Answer: 5"}, {}, None),
        ({"attempt": "Answer: 5"}, {"wrong": "drop"}, "wrong"),
        ({"finish_reason": "length"}, {}, "truncated"),
        ({"finish_reason": "length"}, {"truncated": "keep"}, None),
        ({"finish_reason": "refusal"}, {"truncated": "keep"}, "refused"),
        ({"finish_reason": "content_filter"}, {}, "refused"),
        ({"finish_reason": "unknown"}, {"truncated": "keep"}, "incomplete"),
        ({"finish_reason": "abort"}, {}, "incomplete"),
        ({"thinking": " "}, {}, "no thinking"),
        ({"attempt": ""}, {}, "no answer"),
        ({"error": "500"}, {}, "request failed"),
        ({}, {"max_tokens": 5}, "longer than max_tokens"),
        ({}, {"max_tokens": 6}, None),
    ],
)
def test_reasons_for_dropping_a_trace(
    student_tokenizer: str, row: dict[str, JsonValue], setting: dict[str, JsonValue], reason: str | None
) -> None:
    (trace,) = finish(written(**row), config(tokenizer=student_tokenizer, **setting)).to_pylist()
    assert trace["reason"] == reason


def test_the_plan_reads_the_questions_and_counts(tmp_path: Path, student_tokenizer: str) -> None:
    path = tmp_path / "questions.parquet"
    write_table(to_table([question(text) for text in "abc"], Question), path)
    lines = plan(config(questions=str(path), tokenizer=student_tokenizer, samples=2))
    assert lines[0] == "3 questions, 2 trace(s) each, by procedural"


def test_the_plan_says_what_a_run_costs_at_most(tmp_path: Path, student_tokenizer: str) -> None:
    path = tmp_path / "questions.parquet"
    write_table(to_table([question("a" * 488), question("b" * 488)], Question), path)
    teacher: dict[str, JsonValue] = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    teacher |= {"max_tokens": 10_000, "prices": {"prompt": 50, "completion": 3, "currency": "EUR"}}
    lines = plan(config(questions=str(path), tokenizer=student_tokenizer, samples=5, teacher=teacher))
    # 10 calls, each of 488 + 512 prompt tokens for 0.05 and 10,000 others for 0.03.
    assert "at most 0.80 EUR, and more for calls that have to be repeated" in lines


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([question("a"), question("a")], "1 ids appear more than once"),
        (
            [question("a?"), question("b?", ".")],
            rf"q\.parquet: question '{question_id('b?')}': the reference answer '\.' is empty",
        ),
        ([], "holds no question"),
    ],
    ids=["repeated", "nothing to grade against", "none"],
)
def test_questions_that_cannot_be_used_are_found_before_anything_starts(
    questions: list[Question], message: str, tmp_path: Path, student_tokenizer: str
) -> None:
    write_table(to_table(questions, Question), tmp_path / "q.parquet")
    with pytest.raises(ValueError, match=message):
        plan(config(questions=str(tmp_path / "q.parquet"), tokenizer=student_tokenizer))


def test_a_run_folder_gives_its_result_and_not_what_it_dropped(tmp_path: Path) -> None:
    kept, dropped = (to_table([question(text)], Question) for text in ("kept?", "dropped?"))
    write_table(kept, tmp_path / "questions.parquet")
    write_table(dropped, tmp_path / "dropped.parquet")
    assert len(read_table(tmp_path, Question)) == 2
    (tmp_path / "manifest.json").write_text("{}")
    assert read_table(tmp_path, Question).equals(kept)


def test_traces_are_sorted_in_pieces_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pa.table({"id": [f"{n * 7919 % 1000}" for n in range(1000)], "thinking": ["x"] * 1000, "n": range(1000)})
    monkeypatch.setattr(pipeline, "PIECE", 64)
    found = pipeline._sorted(pa.concat_tables([rows.slice(0, 300), rows.slice(300)]))
    assert found.equals(rows.sort_by("id"))
    assert found.schema == rows.schema
    assert len(pipeline._sorted(rows.slice(0, 0))) == 0
