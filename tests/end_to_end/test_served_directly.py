"""Replicas that answer HTTP themselves, behind HAProxy: two applications at one address, nothing beyond loopback."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from s1ray.config import validate_config
from s1ray.serving.config import ServingConfig
from s1ray.serving.front.settings import LAST_PORT
from s1ray.serving.local import ServedApp, serve_locally
from tests.support.served import ENGINE, QUESTION
from tests.support.streams import processes

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def pair(ray_session: None, adapted: tuple[Path, Any]) -> Iterator[tuple[ServedApp, ServedApp]]:
    """Two applications with one model each, the second with an adapter; Serve is started for both."""
    adapters = {"folder": str(adapted[0]), "max_rank": 8}
    plain, second = ({"models": [ENGINE | {"name": name}], "http": "direct"} for name in ("plain", "second"))
    second["models"][0]["adapters"] = adapters  # type: ignore[index]
    with (
        serve_locally(validate_config(ServingConfig, plain, "test"), front="haproxy", start_timeout_s=600) as one,
        serve_locally(validate_config(ServingConfig, second, "test"), start_timeout_s=600) as other,
    ):
        yield one, other


def answer(app: ServedApp, model: str, **headers: str) -> httpx.Response:
    body = {"model": model, "messages": QUESTION, "max_tokens": 24, "temperature": 0.0, "thinking": {"max_tokens": 8}}
    return httpx.post(f"{app.url}/v1/chat/completions", json=body, headers=headers, timeout=120, trust_env=False)


def test_two_models_and_an_adapter_share_one_address(pair: tuple[ServedApp, ServedApp]) -> None:
    one, other = pair
    assert other.url.startswith(f"{one.url}/")
    names = [card["id"] for card in httpx.get(f"{other.url}/v1/models", trust_env=False).json()["data"]]
    assert names == ["second", "second:odd"]
    texts = {}
    for app, model in ((one, "plain"), (other, "second"), (other, "second:odd")):
        given = answer(app, model)
        assert given.status_code == 200, given.text
        assert given.json()["model"] == model
        texts[model] = given.json()["choices"][0]["message"]["content"]
    assert texts["plain"] == texts["second"] != texts["second:odd"]
    # Each knows its own model only.
    assert answer(one, "second").status_code == 404
    assert answer(other, "second:even").status_code == 404


def test_a_clients_headers_do_not_command_serve(pair: tuple[ServedApp, ServedApp]) -> None:
    _, other = pair
    plain = answer(other, "second").json()["choices"]
    for header in ("serve_multiplexed_model_id", "serve-multiplexed-model-id", "Serve-Multiplexed-Model-Id"):
        given = answer(other, "second", **{header: "second:odd"})
        assert given.json()["choices"] == plain
        assert answer(other, "second", **{header: "../../etc"}).status_code == 200
    given = answer(other, "second", **{"x-request-timeout-seconds": "0.001"})
    assert given.status_code == 200


def test_haproxy_listens_on_loopback_and_obeys_its_user_alone(pair: tuple[ServedApp, ServedApp]) -> None:
    found = [process for process in psutil.Process().children(recursive=True) if process.name() == "haproxy"]
    assert found
    for process in found:
        hosts = {one.laddr.ip for one in process.net_connections() if one.status == psutil.CONN_LISTEN}
        assert hosts <= {"127.0.0.1"}
        config = Path(process.cmdline()[process.cmdline().index("-f") + 1])
        assert stat.S_IMODE(config.parent.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE((config.parent / "admin.sock").stat().st_mode) == 0o600
    # Replicas and Serve's own proxy: their gRPC between deployments is Ray's, with its token.
    for replica in processes("ray::ServeReplica"):
        ports = {one.laddr.port: one.laddr.ip for one in replica.net_connections() if one.status == psutil.CONN_LISTEN}
        assert {ip for port, ip in ports.items() if 30_000 <= port <= LAST_PORT} == {"127.0.0.1"}
