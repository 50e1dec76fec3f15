from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import JsonValue

from s1ray.config import ConfigError
from s1ray.serving.config import Access, Limits
from s1ray.serving.http import access as middleware
from s1ray.serving.http.access import AccessMiddleware, is_open
from s1ray.serving.http.errors import RefusedError
from s1ray.serving.http.keys import new_key


class Server:
    """A small app behind the middleware, and the requests that the middleware counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *lines: str, **limits: float) -> None:
        self.counted: list[tuple[str, str, str]] = []
        monkeypatch.setattr(middleware, "count_request", lambda *labels: self.counted.append(labels))
        self.ended: list[str] = []
        self.app = FastAPI()
        self.app.state.error_form = error_form
        self.release = asyncio.Event()
        secret = "\n".join(["keys:", *lines]) if lines else None
        self.app.add_middleware(AccessMiddleware, access=Access(), limits=Limits.model_validate(limits), secret=secret)
        self._add_routes()

    def _add_routes(self) -> None:
        @self.app.post("/v1/chat/completions")
        async def chat(request: Request, body: dict[str, JsonValue]) -> dict[str, str]:
            context = request.state.context
            context.model = "m"
            context.defer(lambda: self.ended.append("first deferred"))
            context.defer(lambda: self.ended.append("last deferred"))
            if body.get("wait"):
                await self.release.wait()
            if body.get("fail"):
                raise RuntimeError("broken")
            return {"client": context.ticket.name}

        @self.app.post("/v1/messages")
        async def messages(request: Request) -> StreamingResponse:
            async def events() -> AsyncIterator[str]:
                yield "data: 1\n\n"
                request.state.context.outcome = "lost"

            return StreamingResponse(events(), media_type="text/event-stream")

        @self.app.get("/health")
        async def health(request: Request) -> dict[str, bool]:
            return {"context": hasattr(request.state, "context")}

    def client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://test")


def error_form(path: str, error: RefusedError) -> dict[str, JsonValue]:
    """One of two APIs has a form of its own."""
    return {"type": "error", **error.body()} if path == "/v1/messages" else error.body()


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_a_server_without_keys_admits_everyone(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch)

    async def run() -> None:
        async with server.client() as client:
            response = await client.post("/v1/chat/completions", json={})
            assert response.json() == {"client": ""}
            assert (await client.get("/health")).json() == {"context": False}

    asyncio.run(run())
    assert server.counted == [("m", "", "ok")]
    assert server.ended == ["last deferred", "first deferred"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/nothing", "/openapi.json"])
def test_a_server_with_keys_refuses_everyone_else_in_the_form_of_each_api(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (secret, line), (other, _) = new_key("alice"), new_key("eve")
    server = Server(monkeypatch, line)

    async def run() -> None:
        async with server.client() as client:
            for headers in ({}, bearer(other), {"x-api-key": other}, {"Authorization": "Basic abc"}):
                response = await client.post(path, json={}, headers=headers)
                assert response.status_code == 401
                assert response.headers["WWW-Authenticate"] == "Bearer"
                error = response.json()["error"]
                assert error["type"] == "authentication_error"
                assert ("type" in response.json()) == (path == "/v1/messages")
                assert other not in response.text
            for headers in (bearer(secret), {"x-api-key": secret}):
                response = await client.post(path, json={}, headers=headers)
                assert response.status_code != 401
            assert (await client.get("/health")).status_code == 200

    asyncio.run(run())
    assert server.counted[:4] == [("", "", "denied")] * 4


def test_the_size_of_a_body_is_limited_with_and_without_content_length(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, request_bytes=2000)
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 500
            yield b" " * 500

    async def run() -> None:
        async with server.client() as client:
            path, client.headers["Content-Type"] = "/v1/chat/completions", "application/json"
            assert (await client.post(path, content=b'{"a": "' + b" " * 1900 + b'"}')).status_code == 200
            assert (await client.post(path, content=b" " * 2001)).status_code == 413
            assert (await client.post(path, content=chunks())).status_code == 413

    asyncio.run(run())
    assert sent < 5000
    assert [outcome for _, _, outcome in server.counted] == ["ok", "invalid", "invalid"]


def test_the_time_of_a_body_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, request_timeout_s=0.05)

    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)
        yield b"}"

    async def run() -> None:
        async with server.client() as client:
            assert (await client.post("/v1/chat/completions", content=slowly())).status_code == 408

    asyncio.run(run())
    assert server.counted == [("", "", "late")]


def test_a_key_has_at_most_its_number_of_concurrent_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    secret, line = new_key("alice")
    server = Server(monkeypatch, line[:-1] + ", concurrent_requests: 1}")

    async def run() -> None:
        async with server.client() as client:
            path, headers = "/v1/chat/completions", bearer(secret)
            first = asyncio.create_task(client.post(path, json={"wait": True}, headers=headers))
            await asyncio.sleep(0.05)
            refused = await client.post(path, json={}, headers=headers)
            assert refused.status_code == 429
            assert int(refused.headers["Retry-After"]) > 0
            server.release.set()
            assert (await first).json() == {"client": "alice"}
            assert (await client.post(path, json={}, headers=headers)).status_code == 200

    asyncio.run(run())
    assert server.counted == [("", "alice", "limited"), ("m", "alice", "ok"), ("m", "alice", "ok")]


def test_failures_broken_streams_and_disconnected_clients_are_counted_as_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(monkeypatch)

    async def run() -> None:
        async with server.client() as client:
            assert (await client.post("/v1/chat/completions", json={"fail": True})).status_code == 500
            assert (await client.post("/v1/messages")).status_code == 200
            waiting = asyncio.create_task(client.post("/v1/chat/completions", json={"wait": True}))
            await asyncio.sleep(0.05)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(run())
    assert [outcome for _, _, outcome in server.counted] == ["failed", "lost", "cancelled"]
    assert len(server.ended) == 4


def test_a_server_with_a_broken_key_file_does_not_start(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text("keys: []")
    with pytest.raises(ConfigError, match="keys"):
        AccessMiddleware(FastAPI(), access=Access(keys_file=str(path)), limits=Limits())


def test_only_the_playground_and_the_health_check_are_open() -> None:
    assert is_open("/health")
    assert is_open("/playground/app.js")
    for path in ("/", "/metrics", "/openapi.json", "/v1/models", "/healthy", "/v1/chat/completions", "//health"):
        assert not is_open(path)
