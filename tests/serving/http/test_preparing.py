"""Few requests are made ready for the engine at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from fastapi import FastAPI, Request
from pydantic import JsonValue
from starlette.types import Message, Scope

from s1ray.serving.config import Access, Limits
from s1ray.serving.http import access
from s1ray.serving.http.access import AccessMiddleware
from s1ray.serving.http.preparing import Preparations, prepared
from s1ray.serving.replica.places import Places


class Preparing:
    """Requests that each take some turns of the event loop, and are served on after that."""

    def __init__(self, at_once: int) -> None:
        self.preparations = Preparations(at_once)
        self.now = self.most = 0
        self.ready: list[int] = []

    async def request(self, number: int, turns: int = 5) -> None:
        preparation = await self.preparations.begin()
        try:
            self.now += 1
            self.most = max(self.most, self.now)
            for _ in range(turns):
                await asyncio.sleep(0)
            self.now -= 1
            self.ready.append(number)
            prepared()
            await asyncio.sleep(0.01)
        finally:
            preparation.end()


def test_requests_get_ready_in_their_order_and_are_served_together() -> None:
    async def run() -> None:
        preparing = Preparing(2)
        requests = [asyncio.create_task(preparing.request(number)) for number in range(20)]
        for _ in range(12):
            await asyncio.sleep(0)
        # Two at a time: where all took their turns together, the first would be ready when the last is.
        assert 2 <= len(preparing.ready) <= 4
        await asyncio.gather(*requests)
        assert preparing.ready == list(range(20))
        assert preparing.most == 2

    asyncio.run(run())


@pytest.mark.parametrize("begun", [True, False])
def test_requests_that_are_cancelled_leave_their_places_to_others(begun: bool) -> None:
    async def run() -> None:
        preparing = Preparing(1)
        first = asyncio.create_task(preparing.request(0, turns=1000))
        await asyncio.sleep(0)
        others = [asyncio.create_task(preparing.request(number)) for number in (1, 2)]
        await asyncio.sleep(0)
        cancelled = first if begun else others[0]
        cancelled.cancel()
        kept = [task for task in (first, *others) if task is not cancelled]
        await asyncio.wait_for(asyncio.gather(*kept), 5)
        assert preparing.ready == ([1, 2] if begun else [0, 2])
        # As many places as before.
        await asyncio.wait_for(preparing.request(3), 5)

    asyncio.run(run())


def test_tasks_that_a_request_starts_may_say_that_it_is_prepared() -> None:
    async def run() -> None:
        preparations = Preparations(1)
        first = await preparations.begin()
        await asyncio.gather(*(asyncio.create_task(say()) for _ in range(3)))
        second = await asyncio.wait_for(preparations.begin(), 5)
        # Said more than once, it counts once.
        first.end()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(preparations.begin(), 0.01)
        second.end()

    async def say() -> None:
        prepared()

    asyncio.run(run())


def test_without_preparations_there_is_nothing_to_say() -> None:
    prepared()


def test_a_request_that_waits_for_a_place_holds_nobody_up() -> None:
    async def run() -> None:
        preparations, places = Preparations(1), Places(1, -1)
        await places.enter(0.0)

        async def request() -> None:
            preparation = await preparations.begin()
            try:
                await places.enter(1.0)
            finally:
                preparation.end()

        waiting = [asyncio.create_task(request()) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert places.waiting == 3
        for _ in waiting:
            places.leave()
        await asyncio.wait_for(asyncio.gather(*waiting), 5)

    asyncio.run(run())


class Server:
    """An application with one preparation at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(access, "count_request", lambda *_: None)
        self.app = FastAPI()
        self.app.state.error_form = lambda path, error: error.body()
        self.release = asyncio.Event()
        limits = Limits(request_bytes=2000)
        self.app.add_middleware(AccessMiddleware, access=Access(), limits=limits, preparations=Preparations(1))

        @self.app.post("/hold")
        async def hold(body: dict[str, JsonValue]) -> dict[str, JsonValue]:
            if body.get("prepared"):
                prepared()
            await self.release.wait()
            return body

        @self.app.post("/quick")
        async def quick(request: Request) -> dict[str, int]:
            return {"size": len(await request.body())}

        @self.app.post("/fail")
        async def fail(body: dict[str, JsonValue]) -> None:
            raise RuntimeError("broken")

        @self.app.get("/nothing")
        async def nothing() -> dict[str, JsonValue]:
            return {}

    def run(self, steps: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        async def run() -> None:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                await asyncio.wait_for(steps(client), 20)

        asyncio.run(run())


@pytest.mark.parametrize("ready", [True, False])
def test_a_request_begins_when_the_one_before_it_is_prepared(monkeypatch: pytest.MonkeyPatch, ready: bool) -> None:
    server = Server(monkeypatch)

    async def steps(client: httpx.AsyncClient) -> None:
        held = asyncio.create_task(client.post("/hold", json={"prepared": ready}))
        await asyncio.sleep(0.05)
        quick = asyncio.create_task(client.post("/quick", content=b"abc"))
        # Without a body there is nothing to prepare.
        assert (await client.get("/nothing")).status_code == 200
        await asyncio.sleep(0.05)
        assert quick.done() == ready
        server.release.set()
        assert (await held).json() == {"prepared": ready}
        assert (await quick).json() == {"size": 3}

    server.run(steps)


def test_requests_that_come_to_nothing_give_their_places_back(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch)

    async def too_much() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 1000

    async def steps(client: httpx.AsyncClient) -> None:
        assert (await client.post("/fail", json={})).status_code == 500
        assert (await client.post("/fail", content=b"no JSON")).status_code == 422
        assert (await client.post("/quick", content=too_much())).status_code == 413
        assert (await client.post("/quick", content=b"x" * 3000)).status_code == 413
        held = asyncio.create_task(client.post("/hold", json={}))
        await asyncio.sleep(0.05)
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
        assert (await client.post("/quick", content=b"abc")).json() == {"size": 3}

    server.run(steps)


def test_a_body_that_comes_slowly_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    server, more = Server(monkeypatch), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"a"
        await more.wait()
        yield b"b"

    async def steps(client: httpx.AsyncClient) -> None:
        slow = asyncio.create_task(client.post("/quick", content=slowly()))
        await asyncio.sleep(0.05)
        assert (await client.post("/quick", content=b"abc")).json() == {"size": 3}
        assert not slow.done()
        more.set()
        assert (await slow).json() == {"size": 2}

    server.run(steps)


def test_a_client_that_does_not_read_its_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    server, read = Server(monkeypatch), asyncio.Event()
    scope: Scope = {"type": "http", "method": "POST", "path": "/quick", "query_string": b"", "headers": []}

    async def receive() -> Message:
        return {"type": "http.request", "body": b"ab"}

    async def send(message: Message) -> None:
        await read.wait()

    async def steps(client: httpx.AsyncClient) -> None:
        unread = asyncio.create_task(server.app(scope, receive, send))
        await asyncio.sleep(0.05)
        assert (await client.post("/quick", content=b"abc")).json() == {"size": 3}
        assert not unread.done()
        read.set()
        await unread

    server.run(steps)
