"""The HTTP application in front of a scripted replica: what clients see of keys, faults and limits.

Nothing is started, but ray.serve.llm and vLLM are imported.
"""

from __future__ import annotations

import asyncio
import functools
import json
from typing import Any

import httpx
import pytest
from pydantic import JsonValue
from starlette.responses import Response

from s1ray.config import validate_config
from s1ray.serving.config import ServingConfig
from s1ray.serving.http import access
from s1ray.serving.http.keys import new_key
from tests.support.attempts import Attempt
from tests.support.served import WRONG

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
MODEL: dict[str, Any] = {"name": "m", "model": "miniature-base", "max_model_len": 1000, "budgets": {"default": 100}}
ALICE, ALICES_LINE = new_key("alice")
WATCHER, WATCHERS_LINE = new_key("watcher")


def event(text: str = "x", **fields: Any) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return f"data: {json.dumps({'id': 'chatcmpl-1', 'model': 'm', 'choices': [choice]} | fields)}\n\n"


class Replica:
    """A model's server that gives what the test says, attempt by attempt: parts, pauses (floats) and exceptions."""

    tries = 2

    def __init__(self) -> None:
        self.attempts: list[list[Any]] = []
        self.calls: list[tuple[str, Any, Any]] = []
        self.made: list[Attempt] = []

    @property
    def cancelled(self) -> int:
        return sum(attempt.cancelled for attempt in self.made)

    def call(self, model: str, method: str, request: Any, info: Any) -> Attempt:
        assert model == "m"
        self.calls.append((method, request, info))
        self.made.append(Attempt(*self.attempts.pop(0)))
        return self.made[-1]


class Server:
    """The HTTP application in front of one scripted replica."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *lines: str, **config: Any) -> None:
        from s1ray.serving.http import answers, models, routes
        from s1ray.serving.http.replica_call import ReplicaCall

        loaded = validate_config(ServingConfig, {"models": [MODEL]} | config, "test")
        self.replica = Replica()
        self.counted: list[tuple[str, ...]] = []
        monkeypatch.setattr(access, "count_request", lambda *labels: self.counted.append(labels))
        monkeypatch.setattr(answers, "ReplicaCall", functools.partial(ReplicaCall, pause_s=0))
        card = models.Card(id="m", object="model", owned_by="s1ray", permission=[], metadata={}, created=5)
        answerer = answers.Answerer(loaded, {"m": card}, {}, self.replica)
        self._app = routes.http_app(loaded, answerer, secret="\n".join(["keys:", *lines]) if lines else None)

    def post(
        self, *attempts: list[Any], path: str = "/v1/chat/completions", key: str | None = None, **body: Any
    ) -> httpx.Response:
        self.replica.attempts = list(attempts)
        base = {"model": "m", "input": "hi"} if path == "/v1/responses" else CHAT
        return self.request("POST", path, key, base | body)

    def request(self, method: str, path: str, key: str | None = None, body: Any = None) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                headers = {"Authorization": f"Bearer {key}", "X-Request-Id": "r1"} if key else {}
                return await client.request(method, path, json=body, headers=headers, timeout=20)

        return asyncio.run(run())


def whole() -> Any:
    from s1ray.serving import ray_llm as api

    message = {"role": "assistant", "content": "42"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return api.ChatCompletionResponse(id="chatcmpl-1", created=1, model="m", choices=[choice], usage=usage)


def died() -> Any:
    from ray.exceptions import ActorDiedError

    return ActorDiedError()


def engine_died() -> Any:
    from ray.exceptions import RayTaskError

    from s1ray.serving.replica.watchdog import EngineLostError

    return RayTaskError("chat", "traceback", EngineLostError("gone"))


def full() -> Any:
    from ray.serve.exceptions import BackPressureError

    return BackPressureError(9, 8)


def test_a_replica_is_told_what_was_resolved_and_nothing_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    line = ALICES_LINE[:-1] + ", maximum_thinking_tokens: 77}"
    server = Server(monkeypatch, line)
    assert server.post([whole()], key=ALICE, thinking={"max_tokens": 60}).status_code == 200
    ((method, _, info),) = server.replica.calls
    assert method == "chat"
    assert (info.client, info.sequences, info.thinking.budget.max_tokens) == ("alice", 1, 60)
    assert info.deadline == pytest.approx(info.arrived + 60 * 0.005)
    assert info.headers == {"x-request-id": "r1"}
    assert ALICE not in repr(info)
    assert server.counted == [("m", "alice", "ok")]
    assert server.replica.cancelled == 0


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_the_chat_template_is_told_what_becomes_of_earlier_thinking(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    server = Server(monkeypatch)
    given = {"enable_thinking": False, "clear_thinking": True}
    cases: list[tuple[dict[str, Any], dict[str, bool] | None]] = [
        ({"thinking": {"keep": "all"}}, {"preserve_thinking": True, "clear_thinking": False}),
        ({"thinking": {"keep": "all"}, "chat_template_kwargs": given}, given | {"preserve_thinking": True}),
        ({"chat_template_kwargs": given}, given),
        ({}, None),
    ]
    for fields, template in cases:
        assert server.post([whole()], path=path, max_tokens=10, **fields).status_code == 200
        _, body, info = server.replica.calls.pop()
        assert body.chat_template_kwargs == template
        assert info.thinking.budget.max_tokens == (0 if template and "enable_thinking" in template else 100)


@pytest.mark.parametrize("failure", [died, engine_died])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_lost_replica_costs_another_attempt_and_then_an_error(
    monkeypatch: pytest.MonkeyPatch, failure: Any, path: str
) -> None:
    server = Server(monkeypatch)
    fields: dict[str, Any] = {"path": path, "max_tokens": 10}
    assert server.post([failure()], [whole()], **fields).status_code == 200
    response = server.post([failure()], [failure()], **fields)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert "lost" in response.json()["error"]["message"]
    assert [outcome for _, _, outcome in server.counted] == ["ok", "lost"]


@pytest.mark.parametrize("failure", [died, engine_died])
def test_a_stream_whose_replica_is_lost_ends_in_an_error_event(monkeypatch: pytest.MonkeyPatch, failure: Any) -> None:
    server = Server(monkeypatch)
    response = server.post([[event("a"), event("b")], failure()], stream=True)
    *_, error, done = [line for line in response.text.splitlines() if line]
    assert response.text.startswith(event("a"))
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == 503
    assert done == "data: [DONE]"
    response = server.post([[event("a")], failure()], stream=True, path="/v1/messages", max_tokens=10)
    kinds = [line for line in response.text.splitlines() if line.startswith("event: ")]
    assert kinds[-1] == "event: error"
    response = server.post([[event("a")], failure()], stream=True, path="/v1/responses")
    kinds = [line for line in response.text.splitlines() if line.startswith("event: ")]
    assert kinds[-2:] == ["event: error", "event: response.failed"]
    assert [outcome for _, _, outcome in server.counted] == ["lost"] * 3


def test_a_stream_that_fails_before_it_begins_is_an_error_and_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch)
    error = {"message": "no", "type": "server_error", "param": None, "code": 500}
    response = server.post([[f"data: {json.dumps({'error': error})}\n\n"]], stream=True)
    assert (response.status_code, response.json()["error"]["message"]) == (500, "no")


def test_a_full_queue_and_slow_models_say_when_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, limits={"first_token_timeout_s": 0.05, "total_timeout_s": 0.1})
    response = server.post([full()])
    assert (response.status_code, int(response.headers["Retry-After"])) == (429, 2)
    response = server.post([9.0, [event()]], stream=True)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert server.post([9.0, whole()]).status_code == 503
    response = server.post([[event()], 9.0], stream=True)
    assert '"code": 504' in response.text
    assert server.replica.cancelled == 4
    assert [outcome for _, _, outcome in server.counted] == ["overloaded", "late", "late", "late"]


def test_an_unexpected_failure_is_a_plain_500_and_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch)
    for response in (
        server.post([RuntimeError("secret")]),
        server.post([[event()], RuntimeError("secret")], stream=True),
    ):
        assert "secret" not in response.text
        assert "its log says why" in response.text
    assert [outcome for _, _, outcome in server.counted] == ["failed", "failed"]


def test_a_key_opens_only_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, ALICES_LINE[:-1] + ", models: [other]}", WATCHERS_LINE)
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"):
        response = server.post(path=path, key=ALICE, max_tokens=10)
        assert response.status_code == 403
        assert response.json()["error"]["type"] == "permission_error"
    assert server.request("GET", "/v1/models", ALICE).json()["data"] == []
    assert server.request("GET", "/v1/models/m", ALICE).status_code == 403
    assert server.request("GET", "/v1/models", WATCHER).json()["data"][0]["id"] == "m"
    assert server.request("GET", "/v1/models/m", WATCHER).status_code == 200
    assert server.replica.calls == []


def test_a_model_may_be_asked_for_by_an_alias_and_answers_under_it(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, ALICES_LINE[:-1] + ", models: [m]}", models=[MODEL | {"aliases": ["gpt-*"]}])
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses"):
        limit: dict[str, Any] = {} if path == "/v1/responses" else {"max_tokens": 10}
        response = server.post([whole()], path=path, key=ALICE, model="gpt-5", **limit)
        assert (response.status_code, response.json()["model"]) == (200, "gpt-5")
        response = server.post([[event()]], path=path, key=ALICE, model="gpt-5", stream=True, **limit)
        assert response.status_code == 200
        assert "gpt-5" in response.text
        assert '"m"' not in response.text
    assert {body.model for _, body, _ in server.replica.calls} == {"m"}
    assert {model for model, _, _ in server.counted} == {"m"}
    card = server.request("GET", "/v1/models/gpt-5", ALICE).json()
    assert (card["id"], card["created"]) == ("gpt-5", 5)
    (listed,) = server.request("GET", "/v1/models", ALICE).json()["data"]
    assert (listed["id"], listed["created"]) == ("m", 5)
    assert (
        server.post(key=ALICE, model="gpt-5:x").json()["error"]["message"]
        == "the model 'm' has no adapters; ask for 'm'"
    )
    assert server.post(key=ALICE, model="gpt").status_code == 404
    other = Server(monkeypatch, ALICES_LINE[:-1] + ", models: [gpt-5]}", models=[MODEL | {"aliases": ["gpt-*"]}])
    assert other.post(key=ALICE, model="gpt-5").status_code == 403
    assert other.request("GET", "/v1/models/gpt-5", ALICE).status_code == 403


def test_a_keys_thinking_at_a_time_is_capped_before_any_replica_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, ALICES_LINE[:-1] + ", outstanding_thinking_tokens: 150}")
    assert server.post([whole()], key=ALICE, n=1).status_code == 200
    assert server.post([whole()], key=ALICE).status_code == 200
    refused = server.post(key=ALICE, n=2)
    assert refused.status_code == 403
    assert "200" in refused.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"])
def test_what_is_wrong_by_its_own_text_is_answered_without_a_call_to_any_replica(
    monkeypatch: pytest.MonkeyPatch, path: str, stream: bool
) -> None:
    server = Server(monkeypatch)
    for fields, param in WRONG:
        limit: dict[str, Any] = {} if path == "/v1/responses" else {"max_tokens": 10}
        response = server.post(path=path, prompt="hi" if limit else None, stream=stream, **limit, **fields)
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)
        assert ("type" in response.json()) == (path == "/v1/messages")
    assert [outcome for _, _, outcome in server.counted] == ["invalid"] * len(WRONG)
    assert server.replica.calls == []


def test_a_dialect_of_ones_own_is_one_class_and_a_line_in_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    from s1ray.serving.http import dialects, routes
    from s1ray.serving.http.dialects.base import Dialect, Events, Route
    from s1ray.serving.http.dialects.openai_chat import ChatRequest
    from s1ray.serving.http.errors import RefusedError, json_response

    class Loud(Route[ChatRequest]):
        def response(self, body: ChatRequest, whole: Any) -> Response:
            return json_response({"SAID": whole.choices[0].message.content})

        def stream(self, body: ChatRequest) -> Events:
            return lambda events: "".join(events).upper()

    class LoudDialect(Dialect):
        routes = (Loud("/v1/loud", "chat", ChatRequest),)

        def error(self, error: RefusedError) -> dict[str, JsonValue]:
            return {"NO": error.param}

    for module in (dialects, routes):
        monkeypatch.setattr(module, "DIALECTS", (*dialects.DIALECTS, LoudDialect()))
    server = Server(monkeypatch)
    assert server.post([whole()], path="/v1/loud").json() == {"SAID": "42"}
    assert server.post([[event("so")]], path="/v1/loud", stream=True).text == event("so").upper()
    assert server.post(path="/v1/loud", thinking="long").json() == {"NO": "thinking"}
    assert server.post(path="/v1/loud", messages=5).json() == {"NO": "messages"}


def test_a_request_may_not_ask_for_any_number_of_responses(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch)
    assert server.post(n=65).json()["error"]["param"] == "n"
    assert server.post(path="/v1/completions", prompt=["a"] * 33, n=2).json()["error"]["param"] == "n"
    assert server.post([whole()], n=64).status_code == 200


def test_equal_answers_are_generated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, ALICES_LINE[:-1] + ", outstanding_thinking_tokens: 150}")
    response = server.post([whole()], key=ALICE, n=3, temperature=0).json()
    assert [choice["index"] for choice in response["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in response["choices"]} == {"42"}
    assert response["usage"]["completion_tokens"] == 1
    _, body, info = server.replica.calls.pop()
    assert (body.n, info.sequences) == (1, 1)
    usage = f"data: {json.dumps({'choices': [], 'usage': {'completion_tokens': 1}})}\n\n"
    parts = [[event("4")], [event("2"), usage, "data: [DONE]\n\n"]]
    streamed = server.post(parts, key=ALICE, n=3, temperature=0.0, stream=True).text
    assert streamed.count("[DONE]") == streamed.count("usage") == 1
    told = [json.loads(line.removeprefix("data: ")) for line in streamed.splitlines() if line.startswith("data: {")]
    texts = {0: "", 1: "", 2: ""}
    for chunk in told:
        assert len(chunk["choices"]) <= 1
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"]["content"]
    assert set(texts.values()) == {"42"}
    assert server.post(key=ALICE, n=65, temperature=0).json()["error"]["param"] == "n"
    assert server.post(key=ALICE, n=3, temperature=0.1).status_code == 403


def test_metrics_are_shown_to_a_key_that_may_see_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from s1ray.serving.http import routes

    async def page() -> str:
        return "ray_s1ray_waits_total 1.0\n"

    monkeypatch.setattr(routes.NODES, "page", page)
    server = Server(monkeypatch, ALICES_LINE, WATCHERS_LINE[:-1] + ", metrics: true}")
    assert server.request("GET", "/metrics").status_code == 401
    assert server.request("GET", "/metrics", ALICE).status_code == 403
    shown = server.request("GET", "/metrics", WATCHER)
    assert (shown.status_code, shown.text) == (200, "ray_s1ray_waits_total 1.0\n")
    assert shown.headers["Content-Type"].startswith("text/plain; version=0.0.4")


def test_the_api_is_described_without_pages_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, ALICES_LINE)
    described = server.request("GET", "/openapi.json", ALICE).json()
    assert described["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert "/health" in described["paths"]
    for path in ("/docs", "/redoc"):
        assert server.request("GET", path, ALICE).status_code == 404
    assert "security" not in Server(monkeypatch).request("GET", "/openapi.json").text
