"""The served application under pressure: clients that leave, queues that are full, and what the logs must not hold."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from s1ray.config import validate_config
from s1ray.serving.config import ServingConfig
from s1ray.serving.http.keys import new_key
from s1ray.serving.local import ServedApp, serve_locally
from tests.support.modes import Mode
from tests.support.served import ENGINE, QUESTION, WRONG
from tests.support.streams import wait_until

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.timeout(600)]

LONG: dict[str, Any] = {"model": "s1", "messages": QUESTION, "max_tokens": 900, "thinking": {"max_tokens": 800}}
ALICE, ALICES_LINE = new_key("alice")
BATCH, QUEUE = 4, 6


@pytest.fixture(scope="module")
def narrow(ray_session: None, mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    """A server with keys, few places and a short queue."""
    path = tmp_path_factory.mktemp("keys") / "keys.yaml"
    path.write_text(f"keys:\n{ALICES_LINE[:-1]}, maximum_thinking_tokens: 850}}\n")
    model = ENGINE | {"name": "s1", "max_num_seqs": BATCH, "max_queued_requests": QUEUE, "cpus_per_worker": 0.5}
    config = {"models": [model], "access": {"keys_file": str(path)}, "limits": {"request_bytes": 100_000}}
    config["http"] = mode.http
    with serve_locally(validate_config(ServingConfig, config, "test"), front=mode.front, start_timeout_s=600) as app:
        yield app


@pytest.fixture(scope="module")
def ask(narrow: ServedApp) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=narrow.url, headers={"x-api-key": ALICE}, timeout=120, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def at_work(narrow: ServedApp) -> Callable[[], float]:
    """How many requests the engine has."""
    from ray import serve

    name = next(n for n in serve.status().applications[narrow.name].deployments if n.startswith("BudgetForcingServer"))
    handle = serve.get_deployment_handle(name, narrow.name)

    def count() -> float:
        load: dict[str, float] = handle.record_autoscaling_stats.remote().result(timeout_s=30)
        return sum(number for what, number in load.items() if what.endswith(("running", "waiting")))

    return count


def test_a_client_that_leaves_a_stream_frees_the_engine(
    ask: httpx.Client, at_work: Callable[[], float], never_stops: dict[str, int]
) -> None:
    with ask.stream(
        "POST", "/v1/chat/completions", json=LONG | {"stream": True, "logit_bias": never_stops}
    ) as response:
        lines = response.iter_lines()
        for _ in range(10):
            next(lines)
        assert at_work() == 1
    assert wait_until(lambda: at_work() == 0, 5, "the engine is free") < 2


def test_a_client_that_does_not_wait_for_its_response_frees_the_engine(
    narrow: ServedApp, at_work: Callable[[], float], never_stops: dict[str, int]
) -> None:
    headers = {"x-api-key": ALICE}
    body = LONG | {"logit_bias": never_stops, "n": 3}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{narrow.url}/v1/chat/completions", json=body, headers=headers, timeout=1, trust_env=False)
    assert wait_until(lambda: at_work() == 0, 5, "the engine is free") < 2


def test_more_than_fit_are_told_to_come_again_and_the_others_are_served(
    narrow: ServedApp, never_stops: dict[str, int]
) -> None:
    body = LONG | {"max_tokens": 200, "thinking": {"max_tokens": 150}, "logit_bias": never_stops}

    async def run() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        headers = {"x-api-key": ALICE}
        async with httpx.AsyncClient(base_url=narrow.url, headers=headers, timeout=120, limits=limits) as client:
            return await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(24)))

    responses = asyncio.run(run())
    statuses = [response.status_code for response in responses]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= BATCH + QUEUE
    refused = next(response for response in responses if response.status_code == 429)
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.json()["error"]["type"] == "rate_limit_error"


def test_a_short_request_does_not_wait_behind_long_ones(narrow: ServedApp, never_stops: dict[str, int]) -> None:
    """All places are taken and long requests wait; of those, none goes before a short one that comes later."""
    order: list[str] = []

    async def send(client: httpx.AsyncClient, name: str, tokens: int, after: float) -> None:
        await asyncio.sleep(after)
        body = LONG | {"thinking": {"max_tokens": tokens}, "max_tokens": tokens + 20, "logit_bias": never_stops}
        response = await client.post("/v1/chat/completions", json=body)
        assert response.status_code == 200, response.text
        order.append(name)

    async def run() -> None:
        async with httpx.AsyncClient(base_url=narrow.url, headers={"x-api-key": ALICE}, timeout=120) as client:
            longs = [send(client, "running", 400, 0) for _ in range(BATCH)]
            longs += [send(client, "waiting", 600, 0.3) for _ in range(QUEUE - 2)]
            await asyncio.gather(*longs, send(client, "short", 10, 0.6))

    asyncio.run(run())
    assert "waiting" not in order[: order.index("short")]


def test_a_wrong_request_is_answered_at_once_while_every_replica_is_full(
    narrow: ServedApp, never_stops: dict[str, int]
) -> None:
    async def run() -> None:
        headers = {"x-api-key": ALICE}
        async with httpx.AsyncClient(base_url=narrow.url, headers=headers, timeout=120) as client:
            body = LONG | {"logit_bias": never_stops}
            longs = [asyncio.create_task(client.post("/v1/chat/completions", json=body)) for _ in range(BATCH + QUEUE)]
            await asyncio.sleep(1)
            begun = time.monotonic()
            for path in ("/v1/chat/completions", "/v1/completions", "/v1/messages"):
                for fields, param in WRONG:
                    wrong = {"model": "s1", "messages": QUESTION, "prompt": "1 + 1", "max_tokens": 9} | fields
                    response = await client.post(path, json=wrong)
                    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
            assert time.monotonic() - begun < 3
            assert not any(long.done() for long in longs), "the replica was not full any more"
            assert {(await long).status_code for long in longs} == {200}

    asyncio.run(run())


def test_a_keys_budget_is_its_own(ask: httpx.Client) -> None:
    asked = {"max_tokens": 900, "thinking": {"max_tokens": 860}}
    thinking = ask.post("/v1/chat/completions", json=LONG | asked).json()["choices"][0]["thinking"]
    assert (thinking["budget"]["max_tokens"], thinking["clamped_from"]) == (850, {"max_tokens": 860})
    assert ask.post("/v1/chat/completions", json=LONG | {"thinking": {"max_tokens": -1}}).status_code == 400


def test_what_clients_write_and_hold_is_in_no_log(ask: httpx.Client) -> None:
    from ray import serve
    from ray._private.worker import global_worker

    marks = [uuid.uuid4().hex for _ in range(6)]
    secret = {"role": "user", "content": f"my secret is {marks[0]}"}
    brief = {"model": "s1", "max_tokens": 4, "thinking": {"max_tokens": 1}}
    bodies: list[dict[str, Any]] = [
        {"messages": [secret]},
        {"messages": [secret], "stream": True},
        {"messages": [secret], "temperature": marks[1]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": [marks[2]]}]}]},
        {"messages": [{"role": "user", "content": [{"type": marks[3]}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{marks[4]: 1}]}]},
        {"messages": [secret], "thinking": {"wait_text": [marks[5]], "waits": 9}},
        {"messages": [secret], "structured_outputs": {"regex": f"({marks[5]}"}},
        {"messages": [secret], "chat_template": "{{ raise_exception('" + marks[5] + "') }}"},
    ]
    for body in bodies:
        for path in ("/v1/chat/completions", "/v1/messages"):
            assert ask.post(path, json=brief | body).status_code < 500
    for path in ("/tokenize", "/v1/completions"):
        assert ask.post(path, json={"model": "s1", "prompt": marks[0], "max_tokens": 2}).status_code == 200
    wrong = new_key("eve")[0]
    assert ask.get("/v1/models", headers={"x-api-key": wrong}).status_code == 401
    assert serve.status().applications
    time.sleep(1)
    logs = [path for path in Path(global_worker.node.get_logs_dir_path()).rglob("*") if path.is_file()]
    assert any("/v1/chat/completions" in path.read_text(errors="replace") for path in logs), "no access log was found"
    for log in logs:
        text = log.read_text(errors="replace")
        for mark in (*marks, ALICE, wrong):
            assert mark not in text, f"{log.name} holds {mark[:8]}: {text[max(0, text.index(mark) - 300) :][:400]}"


def test_metrics_tell_what_happened(narrow: ServedApp, ask: httpx.Client) -> None:
    """Ray's agents publish with a delay; everything counted by the tests above must be there in the end."""
    wanted = [
        r"ray_s1ray_requests_total{.*client=\"alice\".*outcome=\"cancelled\"",
        r"ray_s1ray_requests_total{.*outcome=\"overloaded\"",
        r"ray_s1ray_requests_total{.*outcome=\"denied\"",
        "ray_s1ray_thinking_tokens_total",
        "ray_s1ray_answer_tokens_total",
        "ray_s1ray_forced_ends_total",
        "ray_s1ray_time_to_first_token_seconds_bucket",
        "ray_s1ray_queue_depth",
        "ray_vllm_",
    ]
    assert ask.get("/metrics").status_code == 403
    from s1ray.serving.http.prometheus import Nodes

    def page() -> str:
        return asyncio.run(Nodes().page())

    def missing() -> list[str]:
        text = page()
        return [pattern for pattern in wanted if not re.search(f"^{pattern}", text, re.MULTILINE)]

    wait_until(lambda: not missing(), 60, f"all of {wanted} are published")
    assert ALICE not in page()
