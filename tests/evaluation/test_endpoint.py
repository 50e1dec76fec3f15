"""Over HTTP: the checks of the endpoint, and whole runs against servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
from pydantic import JsonValue

from s1ray.config import ConfigError
from s1ray.evaluation.config import Endpoint, ServedModel
from s1ray.evaluation.endpoint import check_endpoint
from s1ray.evaluation.loading import evaluations, load_results
from s1ray.evaluation.recount import Recount
from s1ray.generation import GenerationRequest
from s1ray.schemas import Question, to_table, write_table
from s1ray.secrets import Secret, SecretError
from s1ray.thinking import ThinkingBudget
from tests.evaluation.test_runner import config
from tests.support.evaluations import measured, run_eval
from tests.support.scripted_model import FORMAT, Recorder, questions

MODELS = [ServedModel(label="sft", name="s")]
CHOICE: dict[str, JsonValue] = {"message": {"content": "2"}, "thinking": {"thinking_tokens": 1}}
GOOD: JsonValue = {"choices": [CHOICE]}


def answering(
    models: tuple[JsonValue, ...] = ({"id": "s"},),
    completion: JsonValue = GOOD,
    status: int = 200,
    seen: list[httpx.Request] | None = None,
) -> httpx.MockTransport:
    def handle(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        body = {"data": list(models)} if request.url.path.endswith("/models") else completion
        return httpx.Response(status, json=body)

    return httpx.MockTransport(handle)


def test_a_good_endpoint_passes_with_one_small_request_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[httpx.Request] = []
    monkeypatch.setenv("A_KEY", "secret")
    check_endpoint(Endpoint(api_key=Secret.parse("env:A_KEY")), MODELS, transport=answering(seen=seen))
    assert [request.url.path for request in seen] == ["/v1/models", "/v1/chat/completions"]
    assert {request.headers["Authorization"] for request in seen} == {"Bearer secret"}
    assert json.loads(seen[1].content)["max_tokens"] <= 64


@pytest.mark.parametrize(
    ("transport", "error", "message"),
    [
        (answering(models=({"id": "base"}, {"id": "other"})), ConfigError, "'sft' is called 's', but .* base, other"),
        (answering(models=()), ConfigError, "serves no model"),
        (answering(completion={"choices": [{"message": {}}]}), ConfigError, "says nothing about thinking"),
        (
            answering(completion={"choices": [CHOICE | {"thinking": {"thinking_tokens": 60}}]}),
            ConfigError,
            "'sft': .*/v1 says that it thought 60 tokens where one was allowed",
        ),
        (
            answering(completion={"choices": [CHOICE | {"thinking": {"thinking_tokens": None}}]}),
            ConfigError,
            "says nothing about thinking",
        ),
        (answering(completion={"object": "x"}), ConnectionError, "no completion"),
        (answering(status=401), ConfigError, "status 401, the key is refused"),
        (answering(status=502), ConnectionError, "status 502"),
        (
            httpx.MockTransport(lambda request: httpx.Response(200, json={"error": {"message": "starting up"}})),
            ConnectionError,
            "an error in the answer: starting up",
        ),
        (httpx.MockTransport(lambda request: httpx.Response(200, text="<html>")), ConnectionError, "no JSON"),
        (
            httpx.MockTransport(lambda request: httpx.Response(200, json=[])),
            ConnectionError,
            "the body is a list, not an object",
        ),
    ],
)
def test_a_bad_endpoint_is_refused_with_what_to_do(
    transport: httpx.MockTransport, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_endpoint(Endpoint(), MODELS, transport=transport)


def test_ids_are_asked_for_where_they_will_be_counted() -> None:
    model = ServedModel(label="sft", name="s", weights="a/folder")
    with pytest.raises(ConfigError, match=r"gives no token ids .* leave `weights` out"):
        check_endpoint(Endpoint(), [model], transport=answering())
    with_ids: JsonValue = {"choices": [CHOICE | {"token_ids": [1, 2]}]}
    check_endpoint(Endpoint(), [model], transport=answering(completion=with_ids))


def saying_ids(*answers: JsonValue, seen: list[httpx.Request] | None = None) -> httpx.MockTransport:
    left = iter(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/models"):
            return httpx.Response(200, json={"data": [{"id": "s"}]})
        if seen is not None:
            seen.append(request)
        return httpx.Response(200, json={"choices": [next(left)]})

    return httpx.MockTransport(handle)


SEGMENTED = [ServedModel(label="sft", name="s", weights="a/folder", driver="segmented")]


def test_the_segmented_driver_needs_a_server_that_gives_ids_and_takes_bans() -> None:
    seen: list[httpx.Request] = []
    check_endpoint(Endpoint(), SEGMENTED, transport=saying_ids({"token_ids": [7]}, {"token_ids": [8]}, seen=seen))
    assert [request.url.path for request in seen] == ["/v1/completions"] * 2
    first, second = (json.loads(request.content) for request in seen)
    assert first["max_tokens"] == 1
    assert second == first | {"logit_bias": {"7": -100.0}}


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([{"text": "a"}], "'sft': .* gives no token ids"),
        ([{"token_ids": [7]}, {"token_ids": [7]}], "'sft': .* ignores logit_bias"),
        ([{"token_ids": [7], "thinking": {}}], "'sft': .* forces budgets itself, whatever it is asked"),
    ],
)
def test_a_server_that_the_segmented_driver_cannot_use_is_refused(answers: list[JsonValue], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_endpoint(Endpoint(), SEGMENTED, transport=saying_ids(*answers))


def test_an_endpoint_without_a_server_is_reported_with_what_to_do() -> None:
    with pytest.raises(ConnectionError, match=r"no server answers .* start one"):
        check_endpoint(Endpoint(base_url="http://127.0.0.1:9/v1"), MODELS)


def test_a_key_that_is_not_set_is_named() -> None:
    with pytest.raises(SecretError, match="the environment variable S1RAY_NO_SUCH_KEY is not set"):
        check_endpoint(Endpoint(api_key=Secret.parse("env:S1RAY_NO_SUCH_KEY")), MODELS)


class Server(BaseHTTPRequestHandler):
    """Our server's wire format around the scripted model; every seventh request is refused the first time."""

    requests_seen: ClassVar[list[dict[str, JsonValue]]]
    lie: ClassVar[int] = 0

    def do_GET(self) -> None:
        self._reply({"data": [{"id": "b"}, {"id": "s"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        again = body in self.requests_seen
        self.requests_seen.append(body)
        if not again and len(self.requests_seen) % 7 == 0:
            self._reply({"error": {"message": "busy"}}, 503, {"Retry-After": "0"})
            return
        text = body["messages"][0]["content"]
        if not text.startswith("Question"):
            self._reply({"choices": [CHOICE | {"token_ids": [1]}]})
            return
        request = GenerationRequest(
            id="x",
            messages=body["messages"],
            budget=ThinkingBudget(**body["thinking"]),
            max_tokens=body["max_tokens"],
        )
        done = asyncio.run(Recorder("server").complete(request))
        assert done.output_ids is not None
        accounting: JsonValue = {
            "thinking_tokens": max(0, done.thinking_tokens - self.lie),
            "answer_tokens": done.answer_tokens,
            "waits": done.waits,
            "end_forced": done.end_forced,
        }
        choice: dict[str, JsonValue] = {
            "message": {"content": done.answer, "reasoning": done.thinking},
            "finish_reason": done.finish_reason,
            "thinking": accounting,
        }
        if body.get("return_token_ids"):
            choice["token_ids"] = list(done.output_ids)
        self._reply({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": len(done.output_ids)}})

    def _reply(self, body: JsonValue, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def listening(handler: type[Server]) -> Iterator[tuple[type[Server], str]]:
    fresh = type("Handler", (handler,), {"requests_seen": []})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), fresh)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield fresh, f"http://127.0.0.1:{httpd.server_address[1]}/v1"
    finally:
        httpd.shutdown()
        httpd.server_close()


def test_a_run_over_http_rides_out_busy_answers_and_counts_the_ids_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    monkeypatch.setattr(Recount, "of_model", lambda folder, thinking_format: Recount(FORMAT))
    file = tmp_path / "questions.parquet"
    write_table(to_table(questions(20), Question), file)
    models: JsonValue = [{"label": "base", "name": "b"}, {"label": "sft", "name": "s", "weights": str(weights)}]
    with listening(Server) as (handler, url):
        handler.lie = 2
        run = run_eval(config(file, models=models, endpoint={"base_url": url, "concurrency": 8}))
    assert all(result.errors == 0 for result in load_results([run.path]).arms)
    # The server says two tokens too few. For the model whose tokenizer is known, the ids say otherwise.
    assert measured(run.path, "sft", "max=64").longest == 20
    assert measured(run.path, "base", "max=64").longest == 18
    assert len(handler.requests_seen) > 20 * 7 + 2, "none was refused and asked again"
    budgets = [budget for body in handler.requests_seen if isinstance(budget := body["thinking"], dict)]
    assert {budget["waits"] for budget in budgets if len(budget) > 1} == {0, 1, 2}


class PlainServer(Server):
    """`vllm serve`, which knows no budgets: says one word over and over and wants to stop after eight of it."""

    def do_GET(self) -> None:
        self._reply({"data": [{"id": "s", "max_model_len": 512}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests_seen.append(body)
        banned = {int(i) for i in body.get("logit_bias", {})}
        ids, reason = [next(i for i in (20, 21) if i not in banned)] * body["max_tokens"], "length"
        if len(ids) > 8 and 997 in body["stop_token_ids"]:
            ids, reason = [*ids[:8], 997], "stop"
        self._reply({"choices": [{"token_ids": list(ids), "finish_reason": reason}], "usage": {}})


OWN: JsonValue = {
    "name": "own",
    "start": "<|im_start|>think",
    "end": "<|im_start|>answer",
    "end_triggers": ["<|im_end|>"],
    "final_answer": "Answer:",
}


@pytest.mark.parametrize(
    ("thinking_format", "beginning"), [("s1", "Final Answer:"), (OWN, "Answer:")], ids=["s1", "own"]
)
def test_budgets_are_forced_on_this_side_where_the_server_knows_none(
    tmp_path: Path, thinking_format: JsonValue, beginning: str
) -> None:
    file = tmp_path / "questions.parquet"
    write_table(to_table(questions(2), Question), file)
    model: dict[str, JsonValue] = {"label": "sft", "name": "s", "weights": "miniature-base", "driver": "segmented"}
    model["thinking_format"] = thinking_format
    with listening(PlainServer) as (handler, url):
        endpoint: JsonValue = {"base_url": url, "concurrency": 8}
        run = run_eval(config(file, models=[model], endpoint=endpoint, sampling={"answer_tokens": 16}))
    results = load_results([run.path])
    assert all(result.errors == 0 and result.obeying == 2 for result in results.arms)
    assert [result.longest for result in results.arms] == [0, 8, 8, 17, 26]
    assert [result.waits for result in results.arms] == [0, 0, 0, 1, 2]
    assert not any(body["thinking"] or "messages" in body for body in handler.requests_seen)
    answers = {row.answer for row in evaluations(results.tables["sft", "max=0"])}
    assert all(answer.startswith(beginning) for answer in answers), answers
