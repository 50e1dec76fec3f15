"""Teachers: s1ray's own, the miniature's, and one of a stranger's package."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
from pydantic import JsonValue

from s1ray.config import Config, ConfigError, to_yaml, validate_config
from s1ray.generation.base import Call, GenerationError, GenerationRequest, OnCall, Usage
from s1ray.generation.http import HTTPGenerator
from s1ray.miniature.pool import build_pool
from s1ray.miniature.registration import ProceduralTeacher
from s1ray.schemas import Completion, Question, question_id
from s1ray.secrets import SecretError
from s1ray.storage import Location
from s1ray.teachers.base import Ask, Response, RunningTeacher, Teacher
from s1ray.teachers.endpoints import OpenAITeacher
from s1ray.teachers.language_models import (
    LanguageModelTeacher,
    RunningModel,
    VLLMTeacher,
)
from s1ray.traces.config import TracesConfig

NOWHERE = Path("/nowhere")
"""Folder of teachers that keep nothing."""
STRINGS: dict[str, JsonValue] = {"name": "ponder", "start": "<ponder>", "end": "</ponder>"}


def config(teacher: dict[str, JsonValue]) -> TracesConfig:
    data = {"output": "unused", "questions": "unused.parquet", "teacher": teacher, "tokenizer": "unused"}
    return validate_config(TracesConfig, data, "test")


def openai(**changes: JsonValue) -> OpenAITeacher:
    teacher: dict[str, JsonValue] = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    found = config(teacher | changes).teacher
    assert isinstance(found, OpenAITeacher)
    return found


def vllm(model: str, **engine: JsonValue) -> VLLMTeacher:
    found = config({"kind": "vllm", "engine": {"model": model, **engine}}).teacher
    assert isinstance(found, VLLMTeacher)
    return found


def question(text: str = "What is 2 + 2?") -> Question:
    return Question(id=question_id(text), question=text, answer="4", domain="sums")


class Echo:
    """Answers with the question; fails on questions about failure."""

    def __init__(self) -> None:
        self.closed = False
        self.requests: list[GenerationRequest] = []

    async def complete(self, request: GenerationRequest) -> Completion:
        self.requests.append(request)
        assert request.messages is not None
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

    async def close(self) -> None:
        self.closed = True


def responses(teacher: RunningTeacher, asks: Sequence[Ask]) -> list[Response]:
    try:
        found = {ask.id: response for ask, response in teacher.respond(asks, lambda call: None)}
        return [found[ask.id] for ask in asks]
    finally:
        teacher.close()


def test_a_language_model_gives_one_response_per_ask_in_order_and_failures_say_why() -> None:
    echo = Echo()
    asks = [Ask(question(text), sample) for text in ("a long one", "please fail", "b") for sample in range(2)]
    found = responses(RunningModel(lambda calls: echo, openai(prompt="Think. {question}"), seed=0, concurrency=2), asks)
    assert [response.finish_reason for response in found] == ["length"] * 2 + ["error"] * 2 + ["stop"] * 2
    assert found[4] == Response("thinking of Think. b", "Final Answer: Think. b")
    assert "no luck" in str(found[2].error)
    assert found[2].thinking == ""
    assert echo.closed
    seeds = {request.id: request.seed for request in echo.requests}
    assert len(set(seeds.values())) == len(asks), "samples of one question must not be copies"


def test_an_engines_own_count_of_tokens_comes_with_the_response() -> None:
    class Counting(Echo):
        async def complete(self, request: GenerationRequest) -> Completion:
            return replace(await super().complete(request), prompt_tokens=9, cached_tokens=4, completion_tokens=7)

    (found,) = responses(RunningModel(lambda calls: Counting(), openai(), seed=0, concurrency=1), [Ask(question(), 0)])
    assert found.usage == Usage(prompt_tokens=9, cached_tokens=4, completion_tokens=7, reasoning_tokens=3)


def test_the_tokens_of_an_engine_in_this_process_are_counted_from_its_ids() -> None:
    class Engine(Echo):
        async def complete(self, request: GenerationRequest) -> Completion:
            return replace(await super().complete(request), prompt_tokens=9, output_ids=[5, 6, 7, 8])

    (found,) = responses(RunningModel(lambda calls: Engine(), openai(), seed=0, concurrency=1), [Ask(question(), 0)])
    assert found.usage == Usage(prompt_tokens=9, completion_tokens=4, reasoning_tokens=3)


def test_request_seeds_do_not_depend_on_the_other_asks() -> None:
    def seed_of_b(*texts: str) -> int | None:
        echo = Echo()
        asks = [Ask(question(text), 0) for text in texts]
        responses(RunningModel(lambda calls: echo, openai(), seed=5, concurrency=1), asks)
        return next(request.seed for request in echo.requests if request.id == f"{question_id('b')}-0")

    assert seed_of_b("a", "b") == seed_of_b("b")


def answering(message: dict[str, str]) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        assert json.loads(request.content)["messages"] == [{"role": "user", "content": "What is 2 + 2?"}]
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
        return httpx.Response(200, json={"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 9}})

    return answer


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        ({"reasoning_content": "two and two", "content": "Final Answer: 4"}, {}),
        ({"content": "<think>\ntwo and two\n</think>\n\nFinal Answer: 4"}, {"thinking_format": "deepseek_r1"}),
        ({"content": "<ponder>two and two</ponder>Final Answer: 4"}, {"thinking_format": STRINGS}),
    ],
    ids=["reasoning apart", "a preset splits it", "strings of one's own split it"],
)
def test_the_openai_teacher_reads_the_reasoning(
    message: dict[str, str], settings: dict[str, JsonValue], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = openai(**settings)
    monkeypatch.setattr("s1ray.generation.http.HTTPGenerator", with_transport(httpx.MockTransport(answering(message))))
    (found,) = responses(teacher.start(0, NOWHERE), [Ask(question(), 0)])
    assert (found.thinking, found.attempt, found.finish_reason) == ("two and two", "Final Answer: 4", "stop")


def test_the_openai_teacher_tells_its_calls_and_what_they_used(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = httpx.MockTransport(answering({"reasoning_content": "two and two", "content": "4"}))
    monkeypatch.setattr("s1ray.generation.http.HTTPGenerator", with_transport(transport))
    told: list[Call] = []
    running = openai().start(0, NOWHERE)
    ((ask, response),) = running.respond([Ask(question(), 0)], told.append)
    running.close()
    assert [(call.request_id, call.outcome) for call in told] == [(ask.id, "sent"), (ask.id, "answered")]
    assert response.usage is not None
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (1, 9)
    assert told[1].usage == response.usage


def test_responses_come_as_they_are_finished_and_leaving_early_stops_the_others() -> None:
    begun: list[str] = []
    ended: list[str] = []

    class Slow(Echo):
        async def complete(self, request: GenerationRequest) -> Completion:
            begun.append(request.id)
            try:
                await asyncio.sleep(0.01 if request.id == asks[1].id else 30)
                return await super().complete(request)
            finally:
                ended.append(request.id)

    asks = [Ask(question(text), 0) for text in ("a", "b", "c")]
    running = RunningModel(lambda calls: Slow(), openai(), seed=0, concurrency=3)
    found = running.respond(asks, lambda call: None)
    assert next(iter(found))[0] == asks[1]
    assert isinstance(found, Generator)
    found.close()
    assert sorted(begun) == sorted(ended) == sorted(ask.id for ask in asks)
    running.close()


def test_an_engine_that_breaks_on_one_request_answers_the_others() -> None:
    class Broken(Echo):
        async def complete(self, request: GenerationRequest) -> Completion:
            if request.id == asks[1].id:
                raise KeyError("choices")
            return await super().complete(request)

    asks = [Ask(question(text), 0) for text in ("a", "b", "c")]
    found = responses(RunningModel(lambda calls: Broken(), openai(), seed=0, concurrency=1), asks)
    assert [response.error is None for response in found] == [True, False, True]
    assert "KeyError: 'choices'" in str(found[1].error)


def with_transport(transport: httpx.MockTransport) -> type[HTTPGenerator]:
    class Answered(HTTPGenerator):
        def __init__(self, base_url: str, model: str, **options: object) -> None:
            super().__init__(base_url, model, **options, transport=transport)  # type: ignore[arg-type]  # as they came

    return Answered


def test_a_vllm_teacher_takes_a_format_of_its_own() -> None:
    teacher = vllm("some/model", thinking_format=STRINGS)
    assert teacher.engine.thinking_format.start == "<ponder>"
    assert "start: <ponder>" in to_yaml(config({"kind": "vllm", "engine": teacher.engine.model_dump(mode="json")}))


def test_settings_that_cannot_change_a_trace_do_not_change_the_run(tmp_path: Path) -> None:
    one, other = vllm("some/model", max_num_seqs=1), vllm("some/model", max_num_seqs=7, device="cpu", kv_cache_gib=2)
    assert one.fingerprint() == other.fingerprint() != vllm("other/model").fingerprint()
    assert openai(timeout=7).fingerprint() == openai(concurrency=3, requests_per_minute=5).fingerprint()
    assert openai(temperature=0.7).fingerprint() != openai().fingerprint()
    assert {"output", "teacher.concurrency", "teacher.attempts"} <= config(
        openai().model_dump(mode="json")
    ).incidental_fields()


def test_a_folder_counts_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    for name, content in (("one", "a"), ("moved", "a"), ("changed", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text(content)
    one, moved, changed = (vllm("some/model", tokenizer=str(tmp_path / n)) for n in ("one", "moved", "changed"))
    assert one.fingerprint() == moved.fingerprint() != changed.fingerprint()
    assert one.inputs() == {"teacher.tokenizer": str(tmp_path / "one")}


def test_a_traces_teacher_is_the_same_on_every_machine(tmp_path: Path) -> None:
    (tmp_path / "r1").mkdir()
    assert vllm(str(tmp_path / "r1")).label == "r1"
    assert vllm("some/model").label == "some/model"


def test_a_missing_key_is_found_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(SecretError, match="environment variable TEACHER_KEY is not set"):
        openai(api_key="env:TEACHER_KEY").check()
    monkeypatch.setenv("TEACHER_KEY", "secret")
    openai(api_key="env:TEACHER_KEY").check()


def test_a_missing_model_folder_is_found_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        vllm(str(tmp_path / "nowhere")).check()


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (
            {"kind": "openai", "base_url": "x/v1", "model": "m"},
            "teacher.base_url: must begin with http://",
        ),
        (
            {"kind": "openai", "base_url": "http://x/v1", "model": "m", "prompt": "Think."},
            "teacher.prompt: must contain",
        ),
        ({"kind": "opanai"}, "did you mean 'openai'"),
        ({"model": "m"}, "needs `kind`: one of vllm, openai, anthropic, responses, procedural"),
        ({"kind": "vllm", "engine": {"model": "a/b", "device": "tpu"}}, "teacher.engine.device"),
        ({"kind": "procedural", "habits": 3}, "teacher.habits: unknown field"),
    ],
)
def test_mistakes_are_named(teacher: dict[str, JsonValue], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(teacher)
    assert message in str(error.value)


def test_the_procedural_teacher_is_reproducible_and_samples_differ() -> None:
    teacher = config({"kind": "procedural"}).teacher
    assert isinstance(teacher, ProceduralTeacher)
    asks = [Ask(row, sample) for row in build_pool(size=60, seed=1) if row.answer for sample in range(2)][:40]
    first, second = responses(teacher.start(3, NOWHERE), asks), responses(teacher.start(3, NOWHERE), asks[::-1])
    assert first == second[::-1]
    assert any(a != b for a, b in zip(first[::2], first[1::2], strict=True))
    assert all(response.thinking and response.attempt for response in first)


def test_the_procedural_teacher_reports_questions_that_are_not_its_own() -> None:
    (response,) = responses(config({"kind": "procedural"}).teacher.start(0, NOWHERE), [Ask(question(), 0)])
    assert response.finish_reason == "error"
    assert "metadata" in str(response.error)


class Parrot(Teacher):
    """A stranger's teacher, which no file of s1ray's knows."""

    word: str

    def start(self, seed: int, folder: Location) -> RunningTeacher:
        return Parroting(self.word)


class Parroting:
    def __init__(self, word: str) -> None:
        self._word = word

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        return ((ask, Response(self._word, ask.question.question)) for ask in asks)

    def close(self) -> None:
        pass


def test_a_strangers_teacher_is_found_by_its_module() -> None:
    kind = f"{__name__}:Parrot"
    resolved = config({"kind": kind, "word": "hm"})
    assert responses(resolved.teacher.start(0, NOWHERE), [Ask(question(), 0)]) == [Response("hm", "What is 2 + 2?")]
    assert resolved.model_dump(exclude_none=True)["teacher"] == {"kind": kind, "word": "hm"}
    assert resolved.teacher.label == kind
    assert not isinstance(resolved.teacher, LanguageModelTeacher)


class Slots(Config):
    slots: int = 1


class Rented(Parrot):
    """Its machine's slots, a field within a field, change no trace."""

    incidental: ClassVar[frozenset[str]] = frozenset({"machine.slots"})

    machine: Slots = Slots()


def test_a_field_within_a_field_may_be_incidental() -> None:
    one, other = (config({"kind": f"{__name__}:Rented", "word": "hm", "machine": {"slots": n}}).teacher for n in (1, 2))
    assert one.fingerprint() == other.fingerprint() == {"kind": one.kind, "word": "hm", "machine": {}}
