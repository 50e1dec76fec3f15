import json

import pyarrow as pa
import pytest

from s1ray.config import ConfigError, validate_config
from s1ray.generation.base import GenerationError, GenerationRequest
from s1ray.schemas import Completion, Question, question_id, read_table, to_table, write_table
from s1ray.traces import pipeline
from s1ray.traces.config import TracesConfig
from s1ray.traces.pipeline import drop_reason, finish, plan
from s1ray.traces.teachers import Ask, GeneratorTeacher, Paced, ProceduralTeacher, check_teacher, make_teacher


def config(**changes):
    data = {"output": "unused", "questions": "unused.parquet", "teacher": {"kind": "procedural"}, "tokenizer": "unused"}
    return validate_config(TracesConfig, data | changes, "test")


def question(text="What is 2 + 2?", answer="4"):
    return {"id": question_id(text), "question": text, "answer": answer, "domain": "sums", "metadata": "{}"}


class Echo:
    """Answers with the question; fails on questions about failure."""

    def __init__(self):
        self.closed = False
        self.requests = []

    async def complete(self, request: GenerationRequest) -> Completion:
        self.requests.append(request)
        text = request.messages[0]["content"]
        if "fail" in text:
            raise GenerationError(f"request {request.id!r}: no luck")
        return Completion(
            id=request.id,
            thinking=f"thinking of {text}",
            answer=f"Final Answer: {text}",
            prompt_tokens=1,
            thinking_tokens=3,
            answer_tokens=3,
            finish_reason="length" if "long" in text else "stop",
        )

    async def close(self):
        self.closed = True


def sampled(**changes):
    teacher = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m", "temperature": 0.7}
    return config(teacher=teacher | changes).teacher


def test_a_language_model_gives_one_response_an_ask_in_order_and_failures_say_why():
    echo = Echo()
    teacher = GeneratorTeacher(lambda: echo, sampled(prompt="Think. {question}"), seed=0, concurrency=2)
    asks = [Ask(question(text), sample) for text in ("a long one", "please fail", "b") for sample in range(2)]
    responses = teacher.respond(asks)
    teacher.close()
    assert [response.finish_reason for response in responses] == ["length"] * 2 + ["error"] * 2 + ["stop"] * 2
    assert responses[4].thinking == "thinking of Think. b"
    assert responses[4].attempt == "Final Answer: Think. b"
    assert "no luck" in responses[2].error
    assert responses[2].thinking == ""
    assert echo.closed
    seeds = {request.id: request.seed for request in echo.requests}
    assert len(set(seeds.values())) == len(asks), "samples of one question must not be copies"


def test_request_seeds_do_not_depend_on_the_other_asks():
    seeds = []
    for asks in ([Ask(question("a"), 0), Ask(question("b"), 0)], [Ask(question("b"), 0)]):
        echo = Echo()
        teacher = GeneratorTeacher(lambda echo=echo: echo, sampled(), seed=5, concurrency=1)
        teacher.respond(asks)
        teacher.close()
        seeds.append(next(request.seed for request in echo.requests if request.messages[0]["content"] == "b"))
    assert seeds[0] == seeds[1]


def test_a_rate_limit_spreads_requests():
    import asyncio

    async def run():
        paced = Paced(Echo(), requests_per_minute=1200)
        request = GenerationRequest(id="1", messages=[{"role": "user", "content": "b"}])
        begun = asyncio.get_running_loop().time()
        await asyncio.gather(*(paced.complete(request) for _ in range(5)))
        return asyncio.get_running_loop().time() - begun

    assert asyncio.run(run()) >= 0.2


def test_the_procedural_teacher_is_reproducible_and_samples_differ():
    from s1ray.miniature.pool import build_pool

    rows = [row for row in build_pool(size=60, seed=1) if row.answer][:20]
    asks = [Ask(vars(row), sample) for row in rows for sample in range(2)]
    first, second = ProceduralTeacher(3).respond(asks), ProceduralTeacher(3).respond(list(reversed(asks)))
    assert first == list(reversed(second))
    assert any(a != b for a, b in zip(first[::2], first[1::2], strict=True))
    assert all(response.thinking and response.attempt for response in first)


def test_the_procedural_teacher_reports_questions_that_are_not_its_own():
    (response,) = ProceduralTeacher(0).respond([Ask(question(), 0)])
    assert response.finish_reason == "error"
    assert "metadata" in response.error


@pytest.fixture
def student_tokenizer(tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    folder = tmp_path / "student"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


def written(**changes):
    import pyarrow as pa

    row = {
        **question(),
        "id": "q-0",
        "question_id": "q",
        "sample": 0,
        "thinking": "two and two",
        "attempt": "Answer: 4",
    }
    row |= {"finish_reason": "stop", "error": None} | changes
    text = (
        "id",
        "question",
        "answer",
        "domain",
        "metadata",
        "question_id",
        "thinking",
        "attempt",
        "finish_reason",
        "error",
    )
    schema = pa.schema([*((name, pa.string()) for name in text), ("sample", pa.int64())])
    return pa.Table.from_pylist([row], schema=schema)


def test_traces_are_counted_in_the_students_tokens_and_graded(student_tokenizer):
    (trace,) = finish(written(), config(tokenizer=student_tokenizer)).to_pylist()
    assert (trace["thinking_tokens"], trace["attempt_tokens"]) == (3, 3)
    assert (trace["correct"], trace["graded_by"], trace["reason"]) == (True, "exact", None)
    (trace,) = finish(written(answer=None), config(tokenizer=student_tokenizer)).to_pylist()
    assert trace["correct"] is None


@pytest.mark.parametrize(
    ("row", "setting", "reason"),
    [
        ({}, {}, None),
        ({"attempt": "Answer: 5"}, {}, None),
        ({"attempt": "Answer: 5"}, {"wrong": "drop"}, "wrong"),
        ({"finish_reason": "length"}, {}, "truncated"),
        ({"finish_reason": "length"}, {"truncated": "keep"}, None),
        ({"thinking": " "}, {}, "no thinking"),
        ({"attempt": ""}, {}, "no answer"),
        ({"error": "500"}, {}, "request failed"),
        ({}, {"max_tokens": 5}, "longer than max_tokens"),
        ({}, {"max_tokens": 6}, None),
    ],
)
def test_reasons_for_dropping_a_trace(student_tokenizer, row, setting, reason):
    settings = config(tokenizer=student_tokenizer, **setting)
    (trace,) = finish(written(**row), settings).to_pylist()
    assert trace["reason"] == reason
    assert drop_reason(trace, settings) == reason


def test_a_missing_key_is_found_before_anything_starts(monkeypatch):
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(ConfigError, match="environment variable TEACHER_KEY is not set"):
        check_teacher(sampled(api_key_variable="TEACHER_KEY"))
    monkeypatch.setenv("TEACHER_KEY", "secret")
    check_teacher(sampled(api_key_variable="TEACHER_KEY"))


def test_a_missing_model_folder_is_found_before_anything_starts(tmp_path):
    teacher = {"kind": "vllm", "engine": {"model": str(tmp_path / "nowhere")}}
    with pytest.raises(ConfigError, match="no such folder"):
        check_teacher(config(teacher=teacher).teacher)


def test_prompts_need_the_question():
    with pytest.raises(ConfigError, match="must contain"):
        sampled(prompt="Think hard.")


def test_the_plan_reads_the_questions_and_counts(tmp_path, student_tokenizer):
    path = tmp_path / "questions.parquet"
    write_table(to_table([question(text) for text in "abc"], Question), path)
    lines = plan(config(questions=str(path), tokenizer=student_tokenizer, samples=2, shard_rows=4))
    assert lines[:2] == ["3 questions, 2 trace(s) each, by procedural", "2 shards of 4 traces"]


def test_repeated_questions_are_refused(tmp_path, student_tokenizer):
    path = tmp_path / "questions.parquet"
    write_table(to_table([question("a"), question("a")], Question), path)
    with pytest.raises(ValueError, match="1 ids appear more than once"):
        plan(config(questions=str(path), tokenizer=student_tokenizer))


def test_the_openai_teacher_reads_reasoning_apart(student_tokenizer):
    import httpx

    from s1ray.generation.http import HTTPGenerator

    def answer(request):
        asked = json.loads(request.content)
        message = {"role": "assistant", "reasoning_content": "two and two", "content": "Final Answer: 4"}
        assert asked["messages"] == [{"role": "user", "content": "What is 2 + 2?"}]
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return httpx.Response(200, json={"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 9}})

    def generator():
        return HTTPGenerator("http://teacher/v1", "m", transport=httpx.MockTransport(answer))

    teacher = GeneratorTeacher(generator, sampled(), seed=0, concurrency=2)
    (response,) = teacher.respond([Ask(question(), 0)])
    teacher.close()
    assert (response.thinking, response.attempt, response.error) == ("two and two", "Final Answer: 4", None)


def test_teachers_are_made_from_their_config():
    assert isinstance(make_teacher(config().teacher, 0), ProceduralTeacher)
    teacher = make_teacher(sampled(), 0)
    assert isinstance(teacher, GeneratorTeacher)
    teacher.close()


def test_answers_that_nothing_can_be_graded_against_are_found_before_anything_starts(tmp_path, student_tokenizer):
    write_table(
        to_table([Question(**question("a?", "4")), Question(**question("b?", "."))], Question), tmp_path / "q.parquet"
    )
    with pytest.raises(
        ValueError, match=rf"q\.parquet: question '{question_id('b?')}': the reference answer '\.' is empty"
    ):
        plan(config(questions=str(tmp_path / "q.parquet"), tokenizer=student_tokenizer))


def test_a_run_folder_gives_its_result_and_not_what_it_dropped(tmp_path):
    kept, dropped = (to_table([Question(**question(text))], Question) for text in ("kept?", "dropped?"))
    write_table(kept, tmp_path / "questions.parquet")
    write_table(dropped, tmp_path / "dropped.parquet")
    assert len(read_table(tmp_path, Question)) == 2
    (tmp_path / "manifest.json").write_text("{}")
    assert read_table(tmp_path, Question).equals(kept)


def test_traces_are_sorted_in_pieces_as_in_one(monkeypatch):
    rows = pa.table({"id": [f"{n * 7919 % 1000}" for n in range(1000)], "thinking": ["x"] * 1000, "n": range(1000)})
    monkeypatch.setattr(pipeline, "PIECE", 64)
    found = pipeline._sorted(pa.concat_tables([rows.slice(0, 300), rows.slice(300)]))
    assert found.equals(rows.sort_by("id"))
    assert found.schema == rows.schema
    assert len(pipeline._sorted(rows.slice(0, 0))) == 0
