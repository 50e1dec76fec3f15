"""Models behind different APIs in one run, and configs that cannot be asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from pydantic import JsonValue

from s1ray.config import ConfigError, validate_config
from s1ray.evaluation.config import Endpoint, EvalConfig, ServedModel
from s1ray.evaluation.report import write_report
from s1ray.evaluation.runner import evaluate, plan
from s1ray.evaluation.strategies.plain import Plain
from s1ray.evaluation.strategies.sampling import Sampling
from s1ray.evaluation.wired import try_arms
from s1ray.schemas import Question, to_table, write_table
from tests.support.provider import CHAT, MESSAGE, RESPONSE
from tests.support.scripted_model import questions

ANSWERS = {"/v1/chat/completions": CHAT, "/v1/messages": MESSAGE, "/v1/responses": RESPONSE}
PRICES = {"prompt": 1.0, "completion": 10.0}


@contextlib.contextmanager
def speaking() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """A server of all three APIs, and what it was asked."""
    asked: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply({"data": [{"id": "chat"}]})

        def do_POST(self) -> None:
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self._reply(ANSWERS[self.path])

        def _reply(self, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        server.server_close()


def config(folder: Path, **changes: JsonValue) -> EvalConfig:
    write_table(to_table(questions(3), Question), folder / "questions.parquet")
    data: dict[str, JsonValue] = {
        "output": str(folder / "run"),
        "benchmark": str(folder / "questions.parquet"),
        "models": [
            {"label": "ours", "name": "chat", "arms": ["plain"]},
            {"label": "theirs", "name": "claude-1", "arms": ["plain asks=1024 max=4096"]},
            {"label": "others", "name": "gpt-1", "arms": ["plain effort=high"], "extra_body": {"service_tier": "flex"}},
        ],
        "arms": [
            {"strategy": "plain"},
            {"strategy": "plain", "thinking_tokens": 1024, "max_tokens": 4096},
            {"strategy": "plain", "effort": "high"},
        ],
        "sampling": {"temperature": 1.0},
        "endpoints": [
            {"base_url": "http://127.0.0.1:1/v1", "models": ["ours"]},
            {"base_url": "http://127.0.0.1:2/v1", "api": "anthropic", "models": ["theirs"], "concurrency": 2},
            {"base_url": "http://127.0.0.1:3/v1", "api": "responses"},
        ],
    }
    return validate_config(EvalConfig, data | changes, "test")


def test_one_run_compares_models_behind_three_apis(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="s1ray")
    with speaking() as (one, _), speaking() as (two, anthropic), speaking() as (three, responses):
        endpoints: JsonValue = [
            {"base_url": one, "models": ["ours"]},
            {"base_url": two, "api": "anthropic", "models": ["theirs"], "prices": dict(PRICES)},
            {"base_url": three, "api": "responses"},
        ]
        run = evaluate(config(tmp_path, endpoints=endpoints))
    rows = pq.read_table(run.path / "evaluations.parquet").to_pylist()
    assert [(row["model"], row["answer"], row["thinking"]) for row in rows] == [
        (model, "4", "two and two") for model in ("ours", "theirs", "others") for _ in range(3)
    ]
    assert {path for path, _ in anthropic} == {"/v1/messages"}
    assert all(body["thinking"] == {"type": "enabled", "budget_tokens": 1024} for _, body in anthropic)
    assert all((body["reasoning"], body["service_tier"]) == ({"effort": "high"}, "flex") for _, body in responses)
    assert not any("temperature" in body for _, body in [*anthropic, *responses])
    calls = json.loads((run.path / "manifest.json").read_text())["figures"]["calls"]
    assert calls[two]["tokens"] | {"reasoning": 0} == calls[three]["tokens"] | {"reasoning": 0}
    # Three answers of 9 and 30 tokens; the trial is not of the run.
    assert calls[two]["money"]["counted"] == pytest.approx(3 * (9 * 1.0 + 30 * 10.0) / 1e6)
    assert "0.00 USD" in caplog.text
    page = write_report([run.path], tmp_path / "report.html").read_text()
    assert f"Calls to {two} cost 0.00093 USD by the counts of tokens that came." in page
    assert "64 requests in flight at" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"endpoint": {}}, "give either `endpoint` .one. or `endpoints`"),
        ({"endpoints": [{"models": ["nobody"]}]}, "endpoints.0.models: there is no model 'nobody'"),
        ({"endpoints": [{"models": ["ours"]}]}, "model 'theirs' is at no endpoint"),
        ({"endpoints": [{}, {"base_url": "http://a/v1"}]}, "model 'ours' is at 2 endpoints"),
        ({"endpoints": [{"replicas": ["http://127.0.0.1:8000/v1"]}]}, "an address is given more than once"),
        (
            {"endpoints": [{"models": ["ours"], "replicas": ["http://a/v1"]}, {"base_url": "http://a/v1"}]},
            "is for endpoints|how many tokens|an address is given more than once",
        ),
        ({"endpoints": [{}, {"base_url": "http://a/v1", "models": []}]}, "endpoints.1: no model is there"),
        (
            {"endpoints": [{"models": ["ours", "theirs", "others"]}, {"base_url": "http://a/v1"}]},
            "endpoints.1: no model is there",
        ),
        ({"endpoint": {"concurrency": 10**9}, "endpoints": []}, "endpoint.concurrency: .*less than or equal to 65536"),
        ({"models": [{"label": "a\u0000", "name": "a"}]}, "models.0.label"),
        ({"models": [{"label": "a\u202eb", "name": "a"}]}, "models.0.label"),
        (
            {"endpoints": [{"api": "responses"}], "arms": [{"max_tokens": 8, "label": "plain"}]},
            "asks for arm|forces the thinking",
        ),
        ({"endpoints": [{"api": "responses"}]}, "how many tokens to think, which is for endpoints of `api: anthropic`"),
    ],
)
def test_endpoints_without_sense_are_refused(tmp_path: Path, changes: dict[str, JsonValue], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, **changes)


@pytest.mark.parametrize(
    "arm",
    [
        {"strategy": "served_votes"},
        {"strategy": "early_exit"},
        {"strategy": "schedule", "schedule": {"phase_tokens": 9}},
        {"strategy": "weighted_vote"},
        {"strategy": "rebase", "reward": {"base_url": "http://a/v1"}, "weights": "miniature-base"},
    ],
)
def test_what_the_server_must_do_is_refused_where_this_side_forces(tmp_path: Path, arm: dict[str, JsonValue]) -> None:
    models: JsonValue = [{"label": "ours", "name": "m", "weights": "miniature-base", "driver": "segmented"}]
    with pytest.raises(ConfigError, match="asks the server for what 'ours' cannot ask with driver: segmented"):
        config(tmp_path, models=models, arms=[arm], endpoints=[])


@pytest.mark.parametrize(
    ("field", "arm"),
    [
        ("votes", {"strategy": "weighted_vote", "votes": 10**12}),
        ("borda", {"strategy": "weighted_vote", "borda": 1e300}),
        ("n", {"strategy": "best_by_reward", "reward": {"base_url": "http://a/v1"}, "n": 10**12}),
    ],
)
def test_draws_that_no_process_holds_are_refused(tmp_path: Path, field: str, arm: dict[str, JsonValue]) -> None:
    with pytest.raises(ConfigError, match=rf"arms\.0\.{field}: .*less than or equal to"):
        config(tmp_path, arms=[arm])


def test_a_tokenizer_that_is_not_there_is_told_by_the_plan(tmp_path: Path) -> None:
    reward: JsonValue = {"base_url": "http://a/v1"}
    arms: JsonValue = [{"strategy": "rebase", "reward": reward, "weights": "/nowhere/model"}]
    models: JsonValue = [{"label": "ours", "name": "m"}]
    with pytest.raises(ConfigError, match=r"arms\.0\.weights"):
        plan(config(tmp_path, models=models, arms=arms, endpoints=[]))


def test_more_responses_than_a_run_can_hold_are_told_by_the_plan(tmp_path: Path) -> None:
    models: JsonValue = [{"label": "ours", "name": "m"}]
    arms: JsonValue = [{"strategy": "plain"}]
    many = config(tmp_path, models=models, arms=arms, endpoints=[], repeats=10**9)
    with pytest.raises(ConfigError, match=r"1,000,000,000 repetitions are .* at most 10,000,000 fit into a run"):
        plan(many)


def test_an_arm_that_forces_is_refused_where_nothing_can_be_forced(tmp_path: Path) -> None:
    models: JsonValue = [{"label": "theirs", "name": "c"}]
    with pytest.raises(
        ConfigError, match=r"'max=8' forces the thinking of 'theirs', which .*`api: anthropic` cannot do"
    ):
        config(tmp_path, models=models, arms=[{"max_tokens": 8}], endpoints=[{"api": "anthropic"}])


@pytest.mark.parametrize(
    ("arm", "sampling", "message"),
    [
        ({}, {"temperature": 1.0}, "'theirs' with arm 'plain': the arm's max_tokens: .* needs a number"),
        (
            {"thinking_tokens": 100, "max_tokens": 4096},
            {"temperature": 1.0},
            "thinking_tokens: Anthropic's Messages API takes at least 1,024",
        ),
        ({"thinking_tokens": 2048, "max_tokens": 4096}, {}, "sampling.temperature: must be 1 or null while a model"),
        ({"max_tokens": 64}, {"temperature": 1.0, "top_k": 5}, None),
    ],
)
def test_what_an_api_refuses_for_certain_is_told_by_the_plan(
    tmp_path: Path, arm: dict[str, JsonValue], sampling: JsonValue, message: str | None
) -> None:
    models: JsonValue = [{"label": "theirs", "name": "c"}]
    arms: JsonValue = [{"strategy": "plain", **arm}]
    settings = config(tmp_path, models=models, arms=arms, sampling=sampling, endpoints=[{"api": "anthropic"}])
    if message is None:
        assert plan(settings)
    else:
        with pytest.raises(ConfigError, match=message):
            plan(settings)


def test_a_model_that_refuses_a_temperature_is_told_of_in_words() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json={"error": {"message": "Unsupported parameter: 'temperature'"}})

    endpoint, model = Endpoint(api="responses"), ServedModel(label="o", name="gpt-1")
    with pytest.raises(ConfigError, match=r"'o' with arm 'plain': .*Set sampling.temperature .*take 1 alone"):
        try_arms(endpoint, None, model, [Plain()], Sampling(), httpx.MockTransport(refuse))


def test_every_address_of_another_api_is_tried() -> None:
    asked: list[str] = []

    def only_one(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        answer = {
            "content": [{"type": "text", "text": "2"}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        return httpx.Response(200, json=answer) if request.url.host == "a" else httpx.Response(400, json={})

    endpoint = Endpoint(base_url="http://a/v1", replicas=["http://b/v1"], api="anthropic")
    model, arm = ServedModel(label="c", name="c"), Plain(max_tokens=64)
    with pytest.raises(ConnectionError, match=r"'c' with arm .*status 400"):
        try_arms(endpoint, None, model, [arm], Sampling(), httpx.MockTransport(only_one))
    assert asked == ["a", "b"]
