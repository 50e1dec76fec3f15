from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from s1ray.config import ConfigError, validate_config
from s1ray.errors import InputError
from s1ray.generation.base import request_seed
from s1ray.grading import Grade, GraderError
from s1ray.manifests import RunError
from s1ray.schemas import Question, Trace, arrow_schema, question_id, read_table, to_table, write_table
from s1ray.teachers.asks import ASKED
from s1ray.teachers.ledger import Answer, Writer
from s1ray.traces import pipeline
from s1ray.traces.blocks import PROBLEM, FinishBlock, Folders, Telling, block_of
from s1ray.traces.config import TracesConfig
from s1ray.traces.finishing import Attempt, Finished, finish
from s1ray.traces.pipeline import plan
from s1ray.traces.rounds import RESPONSES, Collection


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


def attempt(sample: int = 0, text: str = "Answer: 4", **changes: Any) -> Attempt:
    """An answer as it is in the ledger."""
    fields = {"thinking": "two and two", "attempt": text, "finish_reason": "stop", "raw_finish_reason": None}
    answer = Answer(**fields | {"model_version": None, "usage": None} | changes)
    return Attempt(sample, answer)


def finished(settings: TracesConfig, *attempts: Attempt, answer: str | None = "4") -> list[Finished]:
    """What becomes of the attempts at one question, "q"."""
    asked = Question(id="q", question="What is 2 + 2?", answer=answer, domain="sums")
    (found,) = finish([(asked, attempts or (attempt(),))], settings)
    return found


def test_traces_are_counted_in_the_students_tokens_and_graded(student_tokenizer: str) -> None:
    (found,) = finished(config(tokenizer=student_tokenizer))
    trace = found.trace
    assert (trace.id, trace.thinking_tokens, trace.attempt_tokens) == ("q-0", 3, 3)
    assert (trace.correct, trace.graded_by, found.reason) == (True, "exact", None)
    assert (trace.answer, trace.answer_source) == ("4", "reference")
    for nothing in (None, " "):
        (found,) = finished(config(tokenizer=student_tokenizer), answer=nothing)
        assert (found.trace.correct, found.trace.verdict, found.trace.answer_source) == (None, None, None)


def broken(gold: str, text: str, *, kind: str | None = None) -> Grade:
    raise KeyError("key")


def test_a_grader_that_fails_is_named_with_the_question(student_tokenizer: str) -> None:
    settings = config(tokenizer=student_tokenizer, grader=f"{__name__}:broken")
    with pytest.raises(GraderError, match=rf"'{__name__}:broken' fails at sample 0 of question 'q': KeyError: 'key'"):
        finished(settings)


def test_rows_say_how_they_were_sampled_and_what_they_used(student_tokenizer: str, tmp_path: Path) -> None:
    usage = {"prompt_tokens": 9, "cached_tokens": 4, "completion_tokens": 7, "reasoning_tokens": None}
    with contextlib.closing(Writer(tmp_path / RESPONSES)) as writer:
        fields: dict[str, object] = {"thinking": "two and two", "attempt": "4", "finish_reason": "stop", "usage": usage}
        writer.add("answered", "q-0", call=None, raw_finish_reason="end", model_version="m-0528", **fields)
        writer.add("unanswered", "q-1", reason="503", details=None)
    questions = to_table([Question(id="q", question="2 + 2?", answer="4", domain="sums")], Question)
    teacher: dict[str, JsonValue] = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    settings = config(tokenizer=student_tokenizer, samples=2, teacher=teacher | {"temperature": 0.7})
    collection = Collection(questions.select(["id", *ASKED]), settings, tmp_path)
    collection.responses.read()
    (block,) = collection._blocks(collection.samples())
    rows = FinishBlock(Folders(tmp_path / RESPONSES, tmp_path), settings)(block)
    assert rows.column_names == [*arrow_schema(Trace).names, "error", "reason"]
    answered, failed = rows.to_pylist()
    assert (answered["prompt_tokens"], answered["cached_tokens"], answered["completion_tokens"]) == (9, 4, 7)
    assert (answered["model_version"], answered["verdict"], answered["reason"]) == ("m-0528", "correct", None)
    sampling = json.loads(answered["sampling"])
    assert (sampling["temperature"], sampling["seed"]) == (0.7, request_seed(settings.seed, "q-0"))
    assert (failed["thinking"], failed["completion_tokens"]) == ("", None)
    assert (failed["error"], failed["reason"]) == ("503", "request failed")


def test_a_worker_without_the_ledger_says_where_it_must_be(student_tokenizer: str, tmp_path: Path) -> None:
    questions = to_table([question()], Question).select(["id", *ASKED])
    place = {"file": "1.jsonl", "offset": 0, "length": 1}
    block = block_of(questions, [0], [[{"sample": 0, "answer": place}]])
    work = FinishBlock(Folders(tmp_path / "gone", tmp_path), config(tokenizer=student_tokenizer))
    (problem,) = Telling(work)(block).column(PROBLEM).to_pylist()
    assert "gone: a worker on" in problem
    assert problem.endswith("the run folder must be on storage that every node sees")


def test_files_of_older_versions_read(tmp_path: Path) -> None:
    counts = ("prompt_tokens", "cached_tokens", "completion_tokens")
    new = ("verdict", "sampling", "model_version", *counts, "answer_source")
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
    (found,) = finished(settings)
    assert (found.trace.correct, found.trace.graded_by, found.reason) == (False, "strict", "wrong")


def undecided(gold: str, text: str, *, kind: str | None = None) -> Grade:
    return Grade("undecided", text, graded_by="strict")


def test_what_nobody_can_decide_is_not_dropped_as_wrong(student_tokenizer: str) -> None:
    settings = config(tokenizer=student_tokenizer, grader=f"{__name__}:undecided", wrong="drop")
    (found,) = finished(settings)
    assert (found.trace.correct, found.trace.verdict, found.reason) == (None, "undecided", None)
    (found,) = finished(settings.model_copy(update={"ungraded": "drop"}))
    assert found.reason == "ungraded"


def refusing(gold: str, text: str, *, kind: str | None = None) -> Grade:
    raise InputError(f"{gold!r} is no proof")


def test_what_a_grader_refuses_is_kept_ungraded(student_tokenizer: str) -> None:
    settings = config(tokenizer=student_tokenizer, grader=f"{__name__}:refusing", wrong="drop")
    (found,) = finished(settings)
    assert (found.trace.correct, found.trace.graded_by, found.reason) == (None, None, None)


@pytest.mark.parametrize(
    ("response", "setting", "reason"),
    [
        (attempt(), {}, None),
        (attempt(text="Answer: 5"), {}, None),
        (attempt(text="Answer: 5"), {"wrong": "drop"}, "wrong"),
        (attempt(finish_reason="length"), {}, "truncated"),
        (attempt(finish_reason="length"), {"truncated": "keep"}, None),
        (attempt(finish_reason="refusal"), {"truncated": "keep"}, "refused"),
        (attempt(finish_reason="content_filter"), {}, "refused"),
        (attempt(finish_reason="unknown"), {"truncated": "keep"}, "incomplete"),
        (attempt(finish_reason="abort"), {}, "incomplete"),
        (attempt(thinking=" "), {}, "no thinking"),
        (attempt(text=""), {}, "no answer"),
        (Attempt(0, error="500"), {}, "request failed"),
        (attempt(), {"ungraded": "drop"}, None),
        (attempt(text="Answer: 5"), {"ungraded": "drop"}, None),
        (attempt(), {"max_tokens": 5}, "longer than max_tokens"),
        (attempt(), {"max_tokens": 6}, None),
    ],
)
def test_reasons_for_dropping_a_trace(
    student_tokenizer: str, response: Attempt, setting: dict[str, JsonValue], reason: str | None
) -> None:
    (found,) = finished(config(tokenizer=student_tokenizer, **setting), response)
    assert found.reason == reason


def test_the_most_given_answer_takes_the_place_of_a_reference_that_is_missing(student_tokenizer: str) -> None:
    settings = config(tokenizer=student_tokenizer, samples=4, majority_answers=True, wrong="drop")
    texts = ("Answer: 1/2", "Answer: 7", r"so it is \boxed{0.5}", "Answer: 0.5")
    attempts = [attempt(sample, text) for sample, text in enumerate(texts)]
    found = finished(settings, *attempts, answer=None)
    assert {(each.trace.answer, each.trace.answer_source) for each in found} == {("1/2", "majority 3/4")}
    assert [each.reason for each in found] == [None, "wrong", None, None]
    assert {each.trace.graded_by for each in found} == {"exact, by majority answer", "numeric, by majority answer"}
    # A reference stays one, whatever most attempts say.
    found = finished(settings, *attempts, answer="7")
    assert [each.reason for each in found] == ["wrong", None, "wrong", "wrong"]
    assert {each.trace.answer_source for each in found} == {"reference"}


def test_attempts_that_are_not_whole_have_no_vote(student_tokenizer: str) -> None:
    settings = config(tokenizer=student_tokenizer, samples=3, majority_answers=True)
    for second in (attempt(1, finish_reason="length"), attempt(1, finish_reason="refusal"), Attempt(1, error="503")):
        found = finished(settings, attempt(0), second, attempt(2, "Answer: 9"), answer=None)
        assert {(each.trace.answer, each.trace.correct) for each in found} == {(None, None)}


def test_a_guess_has_no_vote(student_tokenizer: str) -> None:
    settings = config(tokenizer=student_tokenizer, samples=2, majority_answers=True)
    texts = ("So it is 4.\n\nI hope this helps!", "It is 5, then.\n\nI hope this helps!")
    found = finished(settings, *(attempt(sample, text) for sample, text in enumerate(texts)), answer=None)
    assert [each.trace.answer for each in found] == [None, None]


def test_one_trace_a_question_is_chosen_from_those_that_are_left(student_tokenizer: str) -> None:
    long = "two and two " * 3
    attempts = [
        attempt(0, "Answer: 5"),
        attempt(1, finish_reason="length"),
        attempt(2, thinking=long),
        attempt(3, thinking=long * 2),
    ]
    reasons = {
        rule: [
            each.reason
            for each in finished(config(tokenizer=student_tokenizer, samples=4, per_question=rule), *attempts)
        ]
        for rule in ("first", "longest", "best")
    }
    assert reasons == {
        "first": [None, "truncated", "not the first", "not the first"],
        "longest": ["not the longest", "truncated", "not the longest", None],
        "best": ["not the best", "truncated", None, "not the best"],
    }
    settings = config(tokenizer=student_tokenizer, samples=4, per_question="shortest", wrong="drop")
    assert [each.reason for each in finished(settings, *attempts)] == ["wrong", "truncated", None, "not the shortest"]


def test_without_a_reference_the_best_trace_has_the_answer_of_most(student_tokenizer: str) -> None:
    settings = config(tokenizer=student_tokenizer, samples=3, per_question="best")
    attempts = [attempt(0, "Answer: 5", thinking="two"), attempt(1), attempt(2)]
    found = finished(settings, *attempts, answer=None)
    assert [each.reason for each in found] == ["not the best", None, "not the best"]
    assert found[1].trace.answer is None


def test_the_plan_says_the_most_that_rounds_and_the_judge_can_take(tmp_path: Path, student_tokenizer: str) -> None:
    path = tmp_path / "questions.parquet"
    write_table(to_table([question("a?"), replace(question("b?"), answer=None)], Question), path)
    model: dict[str, JsonValue] = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    settings = config(
        questions=str(path),
        tokenizer=student_tokenizer,
        teacher=model | {"max_tokens": 1000},
        judge=model | {"max_tokens": 100, "model": "j", "prices": {"prompt": 1, "completion": 10_000}},
        samples=2,
        max_samples=16,
    )
    lines = plan(settings)
    assert "questions without a correct trace are asked up to 16 times" in lines
    assert "at most 18,000 tokens generated" in lines
    assert (
        "judge: j, at most 2 calls for each of 16 attempts, 3,200 tokens generated for at most 32.00 USD, and its "
        "prompts, which hold the attempts"
    ) in lines


def test_the_plan_warns_of_options_that_change_nothing(tmp_path: Path, student_tokenizer: str) -> None:
    judge: dict[str, JsonValue] = {"kind": "procedural"}
    data: dict[str, JsonValue] = {"tokenizer": student_tokenizer, "questions": str(tmp_path / "questions.parquet")}

    def warned(answers: list[str | None], **changes: JsonValue) -> list[str]:
        rows = [replace(question(f"{n}?"), answer=answer) for n, answer in enumerate(answers)]
        write_table(to_table(rows, Question), tmp_path / "questions.parquet")
        return [line.split()[1] for line in plan(config(**data, **changes)) if line.startswith("warning")]

    assert warned(["4"], per_question="best") == ["per_question"]
    assert warned(["4"], per_question="best", max_samples=2) == []
    assert warned(["4"], samples=2, majority_answers=True) == ["majority_answers"]
    assert warned(["4", " "], samples=2, majority_answers=True, judge=judge) == []
    assert warned([None], max_samples=3, judge=judge) == ["max_samples", "judge"]


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
    assert not any("max_spend" in line for line in lines)
    limited: dict[str, JsonValue] = teacher | {"max_spend": 0.5}
    lines = plan(config(questions=str(path), tokenizer=student_tokenizer, samples=5, teacher=limited))
    assert "max_spend ends the run at 0.50 EUR" in lines


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([question("a"), question("a")], "1 ids appear more than once"),
        (
            [question("a?"), question("b?", ".")],
            rf"q\.parquet: question '{question_id('b?')}': the reference answer '\.' is empty",
        ),
        ([question("a"), replace(question("b"), id="b7", question=" \n")], "the question with id 'b7' is empty"),
        ([], "holds no question"),
    ],
    ids=["repeated", "nothing to grade against", "empty", "none"],
)
def test_questions_that_cannot_be_used_are_found_before_anything_starts(
    questions: list[Question], message: str, tmp_path: Path, student_tokenizer: str
) -> None:
    write_table(to_table(questions, Question), tmp_path / "q.parquet")
    with pytest.raises(ValueError, match=message):
        plan(config(questions=str(tmp_path / "q.parquet"), tokenizer=student_tokenizer))


def test_questions_are_a_path_with_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert config(questions="~/q.parquet").questions == "/home/someone/q.parquet"
    with pytest.raises(ConfigError, match="questions: String should have at least 1 character"):
        config(questions="")


def test_a_ledger_that_is_none_is_found_by_the_plan(tmp_path: Path, student_tokenizer: str) -> None:
    path = tmp_path / "questions.parquet"
    write_table(to_table([question("a")], Question), path)
    settings = config(questions=str(path), tokenizer=student_tokenizer, output=str(tmp_path / "run"))
    with pipeline.traces.open(settings) as run:
        run.unfinished = True
    (tmp_path / "run" / RESPONSES).write_text("mine")
    with pytest.raises(RunError, match="must be a folder"):
        pipeline.traces.check(settings)


def test_a_run_folder_gives_its_result_and_not_what_it_dropped(tmp_path: Path) -> None:
    kept, dropped = (to_table([question(text)], Question) for text in ("kept?", "dropped?"))
    write_table(kept, tmp_path / "questions.parquet")
    write_table(dropped, tmp_path / "dropped.parquet")
    assert len(read_table(tmp_path, Question)) == 2
    (tmp_path / "manifest.json").write_text("{}")
    assert read_table(tmp_path, Question).equals(kept)
