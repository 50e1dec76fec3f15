"""Teachers behind an API: what their configs take, refuse, and ask."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from s1ray.config import ConfigError, validate_config
from s1ray.generation.base import Call, Usage
from s1ray.generation.http import HTTPGenerator
from s1ray.generation.wires import AnthropicMessages
from s1ray.schemas import Question
from s1ray.secrets import SecretError
from s1ray.teachers.asking import ask_all
from s1ray.teachers.base import Ask, Response, Teacher
from s1ray.teachers.batches.exchange import Exchange
from s1ray.teachers.batches.provider import Result
from s1ray.teachers.bill import bill
from s1ray.teachers.endpoints import AnthropicTeacher, EndpointTeacher, ResponsesTeacher
from s1ray.teachers.ledger import Ledger
from s1ray.traces.config import TracesConfig
from tests.support.provider import CHAT, MESSAGE, RESPONSE, running_provider

ASK = Ask(Question(id="q", question="2 + 2?"), 0)
KINDS: dict[str, dict[str, JsonValue]] = {
    "openai": {"base_url": "https://api.deepseek.com/v1", "model": "deepseek-reasoner"},
    "anthropic": {"base_url": "https://api.anthropic.com/v1", "model": "claude", "thinking": {"max_tokens": 16_000}},
    "responses": {"base_url": "https://api.openai.com/v1", "model": "gpt", "reasoning_effort": "high"},
}


def teacher(kind: str, **changes: JsonValue) -> EndpointTeacher:
    mapping: dict[str, JsonValue] = {"kind": kind, **KINDS[kind], **changes}
    data = {"output": "unused", "questions": "unused.parquet", "teacher": mapping, "tokenizer": "unused"}
    found = validate_config(TracesConfig, data, "test").teacher
    assert isinstance(found, EndpointTeacher)
    return found


def body(found: EndpointTeacher) -> dict[str, Any]:
    return found.wire.body(found.request(ASK, 0), found.model, found.extra_body)


def test_each_kind_asks_in_its_own_format_without_further_settings() -> None:
    messages = [{"role": "user", "content": "2 + 2?"}]
    openai = body(teacher("openai"))
    assert (openai["temperature"], openai["top_p"], openai["max_tokens"]) == (0.6, 0.95, 32768)
    assert openai["seed"] is not None
    assert body(teacher("anthropic")) == {
        "model": "claude",
        "max_tokens": 32768,
        "messages": messages,
        "thinking": {"type": "enabled", "budget_tokens": 16_000},
    }
    assert body(teacher("responses")) == {
        "model": "gpt",
        "input": messages,
        "max_output_tokens": 32768,
        "reasoning": {"effort": "high", "summary": "auto"},
        "store": False,
    }


def test_an_openai_endpoint_whose_models_take_no_temperature_is_sent_none() -> None:
    written = body(teacher("openai", temperature=None, top_p=None, reasoning_effort="low"))
    assert not {"temperature", "top_p"} & set(written)
    assert written["reasoning_effort"] == "low"


@pytest.mark.parametrize(
    ("kind", "changes", "why"),
    [
        (
            "anthropic",
            {"thinking": {"max_tokens": 1000}},
            "thinking.max_tokens: Anthropic's Messages API takes at least",
        ),
        ("anthropic", {"max_tokens": 16_000}, "thinking.max_tokens: .* raise max_tokens"),
        ("anthropic", {"max_tokens": None}, "max_tokens: Anthropic's Messages API needs a number"),
        ("anthropic", {"temperature": 0.6}, "temperature: must be 1 or null"),
        ("anthropic", {"thinking": None, "temperature": 0.6, "top_p": 0.9}, "temperature, top_p: .* takes one of them"),
        ("anthropic", {"thinking": {"waits": 2}}, "thinking.waits: .* take a model on vLLM"),
        ("anthropic", {"base_url": "https://api.anthropic.com"}, "base_url: .* write https://api.anthropic.com/v1"),
        ("responses", {"base_url": "https://api.openai.com/v2"}, "base_url: .* write https://api.openai.com/v1"),
        ("responses", {"thinking": {"max_tokens": 2048}}, "thinking.max_tokens: the Responses API has no such"),
        ("responses", {"top_k": 5}, "top_k: the Responses API has no such parameter"),
        ("responses", {"reasoning_summary": "long"}, "reasoning_summary"),
        ("openai", {"extra_body": {"stream": True}}, "extra_body.stream: whole answers are read"),
        ("openai", {"extra_body": {"n": 4}}, "extra_body.n: "),
        *(
            ("openai", {"extra_body": {name: "x"}}, f"extra_body.{name}: .* say who is asked what")
            for name in ("model", "messages", "input", "prompt")
        ),
        *(
            (kind, {"extra_body": {field: value}}, rf"extra_body\.{field}: must be a whole number from 1 to")
            for kind, field in (
                ("openai", "max_tokens"),
                ("openai", "max_completion_tokens"),
                ("anthropic", "max_tokens"),
                ("responses", "max_output_tokens"),
            )
            for value in (True, -5, 0, "5", 1.5, [1], 2**31)
        ),
        ("anthropic", {"extra_body": {"max_tokens": 16_000}}, "thinking.max_tokens: .* raise max_tokens"),
        ("anthropic", {"extra_body": {"thinking": {"budget_tokens": 40_000}}}, "thinking.max_tokens: .* raise max_"),
        ("anthropic", {"extra_body": {"thinking": {"budget_tokens": "all"}}}, "thinking.max_tokens: .* got 'all'"),
        *(
            ("openai", {field: value}, rf"teacher\.{field}: ")
            for field in ("model", "prompt", "api_key", "reasoning_effort")
            for value in ("", " \n", "a\0 {question}", "\ud800 {question}")
        ),
        ("openai", {"prices": {"prompt": 1, "completion": 1, "currency": " "}}, "currency: must not be empty"),
        *(
            ("openai", {"base_url": f"http://{host}/v1"}, "base_url: ")
            for host in ("xn--é", "h\0", "h\\u0000", "h\u2028", "a..b", "a" * 300, "[::1", "é\ud800")
        ),
        *(
            ("openai", {field: 10**400}, rf"teacher\.{field}: .*less than or equal to")
            for field in ("max_tokens", "top_k", "concurrency", "attempts")
        ),
        ("openai", {"extra_body": {"stop": ["\ud800"]}}, "extra_body: holds half of a surrogate pair"),
        ("openai", {"max_tokens": 2**31}, "max_tokens: .*less than or equal to 2147483647"),
        ("openai", {"timeout": 1e300}, "timeout: .*less than or equal to"),
        ("openai", {"prices": {"prompt": 1e300, "completion": 1}}, "prices.prompt: .*less than or equal to"),
        ("openai", {"max_spend": 1e300}, "max_spend: .*less than or equal to"),
        ("openai", {"batch": {"poll": 1e300}}, "batch.poll: .*less than or equal to"),
        ("openai", {"retry_finish_reasons": ["stop"]}, "retry_finish_reasons: "),
        ("openai", {"tokens_per_minute": 0}, "tokens_per_minute: .*greater than 0"),
        ("openai", {"extra_body": {"headers": {"Authorization": "Bearer x"}}}, "looks like a secret"),
    ],
)
def test_what_an_api_cannot_take_is_refused_when_the_config_is_read(
    kind: str, changes: dict[str, JsonValue], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        teacher(kind, **changes)


PRICES: JsonValue = {"prompt": 1, "completion": 1_000_000}


@pytest.mark.parametrize(
    ("kind", "changes", "warning"),
    [
        ("anthropic", {"thinking": None}, "teacher.thinking: without it a model of Anthropic's does not think"),
        ("anthropic", {"thinking": {"max_tokens": 0}}, "teacher.thinking: without it"),
        ("anthropic", {"thinking": None, "extra_body": {"thinking": {"type": "adaptive"}}}, None),
        ("anthropic", {}, None),
        ("openai", {"max_tokens": 9, "prices": PRICES, "max_spend": 8}, "one call can cost 9.0005, and 8.0000 is less"),
        ("openai", {"max_tokens": 9, "prices": PRICES, "max_spend": 10}, None),
    ],
)
def test_what_makes_a_run_useless_is_a_warning(
    kind: str, changes: dict[str, JsonValue], warning: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="s1ray"):
        teacher(kind, **changes).check()
    assert warning in caplog.text if warning else not caplog.text


def test_messages_about_a_judge_name_the_judge(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)

    def judge(kind: str, **changes: JsonValue) -> Teacher:
        mapping: dict[str, JsonValue] = {"kind": kind, **KINDS.get(kind, {}), **changes}
        fields: dict[str, JsonValue] = {"teacher": {"kind": "openai", **KINDS["openai"]}, "judge": mapping}
        data = {"output": "unused", "questions": "unused.parquet", "tokenizer": "unused", **fields}
        config = validate_config(TracesConfig, data, "test")
        assert config.teacher.config_field == "teacher"
        assert config.judge is not None
        return pickle.loads(pickle.dumps(config.judge))  # type: ignore[no-any-return]

    with pytest.raises(SecretError, match=r"^judge\.api_key: the environment variable NO_KEY is not set"):
        judge("openai", api_key="env:NO_KEY").check()
    with pytest.raises(ConfigError, match=r"^judge\.max_spend: nobody knows"):
        judge("openai", max_spend=1).check()
    with pytest.raises(ConfigError, match=r"^judge\.engine\.model: .*no such folder"):
        judge("vllm", engine={"model": "/nowhere"}).check()
    with caplog.at_level(logging.WARNING, logger="s1ray"):
        judge("anthropic", thinking=None).check()
    assert not caplog.text, "a judge need not think"


def test_fewer_requests_than_may_be_in_flight_take_as_long_as_one() -> None:
    found = teacher("openai", concurrency=32)
    assert [found.duration(requests, 10) for requests in (0, 1, 32, 64)] == [0, 10, 10, 20]


def test_what_the_further_fields_make_possible_is_possible() -> None:
    raised = teacher("anthropic", max_tokens=1000, extra_body={"max_tokens": 20_000})
    assert (body(raised)["max_tokens"], raised.max_response_tokens) == (20_000, 20_000)


def test_rows_say_how_they_were_sampled_and_no_seed_where_none_is_sent() -> None:
    for kind, seeded in (("openai", True), ("anthropic", False), ("responses", False)):
        found = teacher(kind, extra_body={"service_tier": "flex"})
        sampling = found.sampling(ASK.id, 0)
        assert sampling is not None
        assert (sampling["seed"] is not None) == seeded == (found.request(ASK, 0).seed is not None)
        assert sampling["extra_body"] == {"service_tier": "flex"}
        assert sampling.get("reasoning_effort") == found.reasoning_effort


def test_settings_of_the_connection_do_not_change_what_is_written() -> None:
    for kind in KINDS:
        changed = teacher(
            kind, requests_per_minute=5, tokens_per_minute=9, attempts=2, retry_finish_reasons=["length"], timeout=5
        )
        assert changed.fingerprint() == teacher(kind).fingerprint()
        assert teacher(kind, extra_body={"a": [1]}).fingerprint() != teacher(kind).fingerprint()


def test_the_config_reaches_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}

    class Recorded(HTTPGenerator):
        def __init__(self, base_url: str, model: str, **settings: Any) -> None:
            made.update(settings)
            super().__init__(base_url, model, **settings)

    monkeypatch.setattr("s1ray.generation.http.HTTPGenerator", Recorded)
    monkeypatch.setenv("KEY", "sk-1")
    settings: dict[str, JsonValue] = {
        **{"requests_per_minute": 5.0, "tokens_per_minute": 9.0, "attempts": 2, "timeout": 7.0, "concurrency": 3},
        "extra_body": {"service_tier": "flex"},
    }
    found = teacher("anthropic", api_key="env:KEY", retry_finish_reasons=["length"], **settings)
    found.start(0, Path("unused")).close()
    assert {name: made[name] for name in settings} == settings
    assert (made["api_key"], made["retried_reasons"]) == ("sk-1", ("length",))
    assert isinstance(made["wire"], AnthropicMessages)


@pytest.mark.parametrize(
    ("kind", "answer", "path"),
    [
        ("openai", CHAT, "/v1/chat/completions"),
        ("anthropic", MESSAGE, "/v1/messages"),
        ("responses", RESPONSE, "/v1/responses"),
    ],
)
def test_a_teacher_of_each_kind_answers_over_http_and_tells_its_calls(
    kind: str, answer: dict[str, Any], path: str
) -> None:
    told: list[Call] = []
    with running_provider() as provider:
        provider.answers = [(200, {}, answer)]
        running = teacher(kind, base_url=provider.url).start(0, Path("unused"))
        ((ask, response),) = running.respond([ASK], told.append)
        running.close()
    assert [asked[0] for asked in provider.asked] == [path]
    assert (ask, response.thinking, response.attempt, response.finish_reason) == (ASK, "two and two", "4", "stop")
    assert response.model_version == answer["model"]
    assert response.usage == Usage(prompt_tokens=9, completion_tokens=30)
    assert [(call.request_id, call.outcome) for call in told] == [(ASK.id, "sent"), (ASK.id, "answered")]
    assert told[1].usage == response.usage


@pytest.mark.parametrize("batched", [False, True])
def test_an_answer_with_an_odd_count_is_kept_and_counted_as_one_without(batched: bool, tmp_path: Path) -> None:
    odd = CHAT | {"usage": {"prompt_tokens": 9, "completion_tokens": "30"}}
    found = teacher("openai", prices={"prompt": 1, "completion": 1})
    if batched:
        exchange = Exchange(found.wire, "m", {}, None, (), lambda ask: found.request(ask, 0))
        response = exchange.outcome(ASK, Result("c", odd))
        assert isinstance(response, Response)
        assert (response.attempt, response.usage) == ("4", None)
        return
    with running_provider() as provider:
        provider.answers = [(200, {}, odd)]
        running = teacher("openai", base_url=provider.url).start(0, Path("unused"))
        ask_all(running, found, [ASK], tmp_path)
        running.close()
    assert len(provider.asked) == 1
    ledger = Ledger(tmp_path)
    ledger.read()
    assert list(ledger.answers) == [ASK.id]
    assert bill(ledger.tally(closed=True), found.price_list, 10)["answers_without_a_count"] == 1


def test_the_kinds_are_what_they_are_registered_as() -> None:
    assert isinstance(teacher("anthropic"), AnthropicTeacher)
    assert isinstance(teacher("responses"), ResponsesTeacher)


def test_a_few_questions_to_begin_with_are_not_asked_in_a_batch() -> None:
    batched = teacher("openai", batch={"requests": 10})
    assert batched.at_once() == teacher("openai")
    assert batched.at_once().fingerprint() == batched.fingerprint()
    assert (batched.duration(10, 1), batched.at_once().duration(320, 1)) == (None, 10)
